"""The diabetes data: one number from ten."""

from limjax.tasks import _networks as networks
from limjax.tasks._task import Task, TaskDefaults
from limjax.tasks.data import shipped


def diabetes_regression() -> Task:
    """Progression of diabetes after a year from ten measurements of 442 patients, with a 10-32-1 perceptron.

    Inputs and target are standardised with the mean and deviation of the training part.

    Returns:
        The task; its loss is half the mean squared error in units of the target's variance.
    """
    train, test = shipped("diabetes")

    def loss(params, batch):
        error = networks.apply_mlp(params, batch["x"])[..., 0] - batch["y"]
        return 0.5 * (error * error).mean()

    return Task(
        name="diabetes-regression",
        init=lambda key: networks.init_mlp(key, (10, 32, 1)),
        loss=loss,
        train=train,
        test=test,
        defaults=TaskDefaults(steps=600, batch_size=64, learning_rate=1e-3, barrier="moment", largest_weight=1.0),
    )
