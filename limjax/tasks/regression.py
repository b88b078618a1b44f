"""scikit-learn's diabetes data: one number from ten."""

import numpy as np

from limjax.tasks import networks
from limjax.tasks.task import Task, TaskDefaults


def diabetes_regression() -> Task:
    """Progression of diabetes after a year from ten measurements of 442 patients, with a 10-32-1 perceptron.

    Inputs and target are standardised with the mean and deviation of the training part.

    Returns:
        The task; its loss is half the mean squared error in units of the target's variance.
    """
    from sklearn.datasets import load_diabetes
    from sklearn.model_selection import train_test_split

    inputs, target = load_diabetes(return_X_y=True)
    split = [np.asarray(part) for part in train_test_split(inputs, target, test_size=0.2, random_state=0)]
    mean, deviation = split[0].mean(0), split[0].std(0)
    center, scale = split[2].mean(), split[2].std()

    def part(x, y):
        return {"x": ((x - mean) / deviation).astype(np.float32), "y": ((y - center) / scale).astype(np.float32)}

    def loss(params, batch):
        error = networks.apply_mlp(params, batch["x"])[..., 0] - batch["y"]
        return 0.5 * (error * error).mean()

    return Task(
        name="diabetes-regression",
        init=lambda key: networks.init_mlp(key, (10, 32, 1)),
        loss=loss,
        train=part(split[0], split[2]),
        test=part(split[1], split[3]),
        defaults=TaskDefaults(steps=600, batch_size=64, learning_rate=1e-3, barrier="moment"),
    )
