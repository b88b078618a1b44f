"""Layers the built-in tasks share. Parameters are nested dicts, so that reports name layers as people do."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def dense(key: Array, inputs: int, outputs: int, gain: float = 2.0) -> dict[str, Float[Array, "..."]]:
    """Weight and bias of a dense layer: normal with variance gain/inputs (He et al. 2015 for 2), zero bias."""
    weight = math.sqrt(gain / inputs) * jax.random.normal(key, (inputs, outputs), jnp.float32)
    return {"weight": weight, "bias": jnp.zeros(outputs, jnp.float32)}


def apply_dense(params: dict[str, Float[Array, "..."]], x: Float[Array, "... inputs"]) -> Float[Array, "... outputs"]:
    """x W + b."""
    y = x @ params["weight"]
    return y + jnp.broadcast_to(params["bias"], y.shape)


def rms_norm(x: Float[Array, "... w"], scale: Float[Array, "w"]) -> Float[Array, "... w"]:
    """x over its root mean square along the last axis, times a scale for each channel."""
    size = jnp.sqrt(jnp.mean(x * x, axis=-1, keepdims=True) + 1e-6)
    return x / size * jnp.broadcast_to(scale, x.shape)


def cross_entropy(logits: Float[Array, "... classes"], labels: Int[Array, "..."]) -> Float[Array, ""]:
    """Mean negative log likelihood of the labels [nats]."""
    one_hot = jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
    return -jnp.mean(jnp.sum(one_hot * jax.nn.log_softmax(logits), axis=-1))


def share_correct(logits: Float[Array, "... classes"], labels: Int[Array, "..."]) -> Float[Array, ""]:
    """Share of the examples whose largest logit is the label."""
    return jnp.mean((jnp.argmax(logits, axis=-1) == labels).astype(jnp.float32))


def init_mlp(key: Array, sizes: tuple[int, ...]) -> dict[str, dict[str, Float[Array, "..."]]]:
    """Dense layers `layer1`, `layer2`, ... between these sizes."""
    keys = jax.random.split(key, len(sizes) - 1)
    return {f"layer{i + 1}": dense(keys[i], sizes[i], sizes[i + 1]) for i in range(len(sizes) - 1)}


def apply_mlp(params: dict[str, dict[str, Float[Array, "..."]]], x: Float[Array, "... in"]) -> Float[Array, "... out"]:
    """The layers with a ReLU between each two."""
    for i in range(len(params)):
        x = apply_dense(params[f"layer{i + 1}"], x)
        x = jax.nn.relu(x) if i + 1 < len(params) else x
    return x


def conv3x3(params: dict[str, Float[Array, "..."]], x: Float[Array, "n h w c"]) -> Float[Array, "n h w d"]:
    """A 3 by 3 convolution with zero padding, as a matrix product of the nine shifted images.

    XLA's small convolutions are several times slower on a CPU than this.
    """
    height, width = x.shape[1:3]
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    shifted = [padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)]
    return apply_dense(params, jnp.concatenate(shifted, axis=-1))


def max_pool(x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 c"]:
    """Largest of every two by two pixels."""
    n, h, w, c = x.shape
    return jnp.max(x.reshape(n, h // 2, 2, w // 2, 2, c), axis=(2, 4))


def init_cnn(key: Array, side: int, channels: tuple[int, int], classes: int) -> dict[str, dict[str, Array]]:
    """Two 3 by 3 convolutions, each followed by a pooling, and a dense layer."""
    keys = jax.random.split(key, 3)
    return {
        "conv1": dense(keys[0], 9, channels[0]),
        "conv2": dense(keys[1], 9 * channels[0], channels[1]),
        "dense": dense(keys[2], (side // 4) ** 2 * channels[1], classes),
    }


def apply_cnn(params: dict[str, dict[str, Array]], images: Float[Array, "n h w"]) -> Float[Array, "n classes"]:
    """Logits of a batch of one-channel images."""
    x = images[..., None]
    for name in ("conv1", "conv2"):
        x = max_pool(jax.nn.relu(conv3x3(params[name], x)))
    return apply_dense(params["dense"], x.reshape(x.shape[0], -1))
