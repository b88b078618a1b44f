"""MNIST, fetched by scikit-learn from OpenML on first use."""

import http.client

import numpy as np

from limjax.tasks import _networks as networks
from limjax.tasks._task import Task, TaskDefaults


def mnist_cnn() -> Task:
    """MNIST with two small convolutions and a dense layer, 60,000 images to train and 10,000 to test.

    Returns:
        The task; its loss is the mean cross entropy [nats].

    Raises:
        ValueError: if scikit-learn is missing, or the data are neither on this machine nor to be fetched.
    """
    try:
        from sklearn.datasets import fetch_openml
    except ImportError:
        raise ValueError(
            'mnist-cnn needs scikit-learn, which fetches MNIST: pip install "limjax[mnist]", or use digits-cnn, which needs neither.'
        ) from None
    try:
        # No retries: each would print a warning before the one message below.
        # This parser needs no pandas.
        images, labels = fetch_openml(
            "mnist_784", version=1, return_X_y=True, as_frame=False, parser="liac-arff", n_retries=0
        )
    except (OSError, http.client.HTTPException) as error:  # URLError and its kin
        raise ValueError(
            f"mnist-cnn needs the MNIST data, which scikit-learn fetches from openml.org on first use, and that failed "
            f"({error}). Run it once with a connection (the data stay in scikit-learn's data home, which the "
            "environment variable SCIKIT_LEARN_DATA sets), or use digits-cnn, which needs none."
        ) from None
    images = (np.asarray(images, np.float32) / 255).reshape(-1, 28, 28)
    labels = np.asarray(labels).astype(np.int32)
    boundary = len(images) * 6 // 7  # the customary 60,000 and 10,000
    return Task(
        name="mnist-cnn",
        init=lambda key: networks.init_cnn(key, 28, (16, 32), 10),
        loss=lambda params, batch: networks.cross_entropy(networks.apply_cnn(params, batch["image"]), batch["label"]),
        accuracy=lambda params, batch: networks.share_correct(
            networks.apply_cnn(params, batch["image"]), batch["label"]
        ),
        train={"image": images[:boundary], "label": labels[:boundary]},
        test={"image": images[boundary:], "label": labels[boundary:]},
        defaults=TaskDefaults(steps=2000, batch_size=128, learning_rate=2e-3, barrier="moment", largest_weight=1.0),
    )
