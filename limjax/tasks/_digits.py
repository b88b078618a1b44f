"""Handwritten digits: 1,797 images of 8 by 8 pixels."""

import functools

import numpy as np

from limjax.numerics.checks import whole_number
from limjax.tasks import _networks as networks
from limjax.tasks._task import Task, TaskDefaults
from limjax.tasks.data import shipped


@functools.cache
def _digits() -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """A fixed stratified split, 80 % to train and 20 % to test; pixels from 0 to 1."""
    train, test = shipped("digits")

    def scaled(part):
        return {"image": (part["image"] / 16).astype(np.float32), "label": part["label"].astype(np.int32)}

    return scaled(train), scaled(test)


def digits_mlp(width: int = 64, depth: int = 2) -> Task:
    """Digits with a multilayer perceptron, 64-64-64-10 with 8,970 parameters by default.

    Args:
        width: units of each hidden layer.
        depth: number of hidden layers.

    Returns:
        The task; its loss is the mean cross entropy [nats].

    Raises:
        ValueError: if a size is not a positive whole number.
    """
    for name, value in (("width", width), ("depth", depth)):
        whole_number(value, name)
    train, test = _digits()
    sizes = (64, *([width] * depth), 10)
    return Task(
        name="digits-mlp",
        init=lambda key: networks.init_mlp(key, sizes),
        loss=lambda params, batch: networks.cross_entropy(networks.apply_mlp(params, batch["image"]), batch["label"]),
        accuracy=lambda params, batch: networks.share_correct(
            networks.apply_mlp(params, batch["image"]), batch["label"]
        ),
        train=train,
        test=test,
        defaults=TaskDefaults(steps=1500, batch_size=256, learning_rate=1e-3, barrier="moment", largest_weight=1.0),
    )


def digits_cnn() -> Task:
    """Digits with two small convolutions and a dense layer, 6,090 parameters.

    Returns:
        The task; its loss is the mean cross entropy [nats].
    """
    train, test = _digits()

    def logits(params, batch):
        images = batch["image"]
        return networks.apply_cnn(params, images.reshape(images.shape[0], 8, 8))

    return Task(
        name="digits-cnn",
        init=lambda key: networks.init_cnn(key, 8, (16, 32), 10),
        loss=lambda params, batch: networks.cross_entropy(logits(params, batch), batch["label"]),
        accuracy=lambda params, batch: networks.share_correct(logits(params, batch), batch["label"]),
        train=train,
        test=test,
        defaults=TaskDefaults(steps=1500, batch_size=64, learning_rate=5e-3, barrier="moment", largest_weight=1.0),
    )
