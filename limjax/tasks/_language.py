"""Language models of any size on the source text of Python's standard library, with one learning rate for all sizes."""

import functools
import math
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree, UInt8

from limjax.numerics.checks import positive_number
from limjax.tasks import _networks as networks
from limjax.tasks._task import Task, TaskDefaults
from limjax.tasks._text import python_source

VOCABULARY = 256
TOKENS_PER_PARAMETER = 20.0
_BASE_WIDTH, _BASE_DEPTH = 16, 2
_TEST_WINDOWS = 1024
_TURNS = 10_000.0  # the longest wavelength of the rotary positions, over 2 pi
_EMBEDDING_STD = 0.1

Precision = Literal["float32", "bfloat16"]


class Shape(NamedTuple):
    """Sizes of a language model.

    Attributes:
        width: of the residual stream, a multiple of `head`.
        depth: number of blocks, each attention and a layer of four times the width.
        head: width of an attention head.
        context: bytes that a prediction may see.
        tied: whether the embedding is also the output layer.
    """

    width: int
    depth: int
    head: int
    context: int
    tied: bool = True

    @classmethod
    def of(cls, parameters: float, tied: bool = True) -> "Shape":
        r"""The shape whose number of parameters is nearest to the one asked for.

        Depth grows as $\max(2, N^{1/4}/8)$, rounded; a head is 8 wide up to $10^6$ parameters excluded, 16 from there, 32 from $10^7$,
        64 from $10^8$; the context is 64 bytes, from $10^7$ parameters on 256; the width takes the rest.

        Args:
            parameters: N, at least 3,000.
            tied: whether the embedding is also the output layer.

        Returns:
            The shape.

        Raises:
            ValueError: if it is no number of at least 3,000.

        Example:
            >>> [(Shape.of(n).width, Shape.of(n).depth, Shape.of(n).parameters) for n in (1e4, 1e6, 1e8)]
            [(16, 2, 10320), (144, 4, 1033488), (832, 12, 99914048)]
        """
        size = positive_number(
            parameters, "parameters", "A language model of bytes has at least 3,000; 1e4 is a small one.", low=2999.0
        )
        depth = max(_BASE_DEPTH, round(size**0.25 / 8))
        head = 8 * 2 ** max(0, math.floor(math.log10(size) + 1e-9) - 5)
        context = 64 if size < 1e7 else 256
        # The positive root of N = 12 depth width^2 + vocabulary width, and the multiples of a head beside it.
        embeddings = VOCABULARY * (1 if tied else 2)
        root = (math.sqrt(embeddings**2 + 48 * depth * size) - embeddings) / (24 * depth)
        below = max(1, int(root / head))
        shapes = [cls(head * heads, depth, head, context, tied) for heads in (below, below + 1)]
        return min(shapes, key=lambda shape: abs(shape.parameters - size))

    @property
    def parameters(self) -> int:
        """Number of parameters: embedding and output, 12 width² and two scales a block, one scale before the output."""
        w = self.width
        return VOCABULARY * w * (1 if self.tied else 2) + self.depth * (12 * w * w + 2 * w) + w


def init_language(key: Array, shape: Shape) -> dict[str, dict[str, Array]]:
    """Parameters at the start, in the units in which one learning rate suits all widths (`language`).

    Args:
        key: a `jax.random.key`.
        shape: the sizes.

    Returns:
        Arrays by layer and name.
    """
    width, times = shape.width, shape.width / _BASE_WIDTH
    keys = iter(jax.random.split(key, 2 + 4 * shape.depth))

    def matrix(inputs: int, outputs: int) -> Array:
        # Divided by `times` where it is used, so that this is the usual variance of one over the inputs.
        return times / math.sqrt(inputs) * jax.random.normal(next(keys), (inputs, outputs), jnp.float32)

    def bytes_by_width() -> Array:
        return _EMBEDDING_STD * jax.random.normal(next(keys), (VOCABULARY, width), jnp.float32)

    params = {"embedding": {"weight": bytes_by_width()}}
    for i in range(1, shape.depth + 1):
        params[f"attention{i}"] = {
            "scale": jnp.ones(width, jnp.float32),
            "in": matrix(width, 3 * width),
            "out": matrix(width, width),
        }
        params[f"mlp{i}"] = {
            "scale": jnp.ones(width, jnp.float32),
            "in": matrix(width, 4 * width),
            "out": matrix(4 * width, width),
        }
    params["output"] = {"scale": jnp.ones(width, jnp.float32)}
    if not shape.tied:
        params["output"]["weight"] = bytes_by_width()
    return params


def apply_language(
    params: dict[str, dict[str, Array]], text: Int[Array, "n t"], shape: Shape, precision: Precision = "float32"
) -> Float[Array, "n t vocabulary"]:
    """Logits of the next byte at every position, in float32.

    Args:
        params: of `init_language`.
        text: bytes.
        shape: the sizes.
        precision: of the products; norms, softmax and logits are float32.

    Returns:
        The logits.
    """
    dtype, times = jnp.dtype(precision), shape.width / _BASE_WIDTH
    # Branches of a deeper network are weaker, so that their sum is as large.
    branch = math.sqrt(_BASE_DEPTH / shape.depth)

    def product(x, weight, gain: float = 1.0):
        return (x.astype(dtype) @ weight.astype(dtype)).astype(jnp.float32) * (gain / times)

    embedding = params["embedding"]["weight"]
    # The residual stream starts with a variance of 1, whatever that of the stored embedding.
    x = embedding[text] / _EMBEDDING_STD
    for i in range(1, shape.depth + 1):
        block = params[f"attention{i}"]
        mixed = _attention(product(networks.rms_norm(x, block["scale"]), block["in"]), shape, dtype)
        x = x + product(mixed, block["out"], branch)
        block = params[f"mlp{i}"]
        x = x + product(jax.nn.gelu(product(networks.rms_norm(x, block["scale"]), block["in"])), block["out"], branch)
    last = params["output"]
    return product(networks.rms_norm(x, last["scale"]), (embedding if shape.tied else last["weight"]).T)


def _attention(queries_keys_values: Array, shape: Shape, dtype: Any) -> Array:
    """Causal attention with rotary positions."""
    n, length, _ = queries_keys_values.shape
    parts = jnp.split(queries_keys_values, 3, axis=-1)
    q, k, v = (part.reshape(n, length, shape.width // shape.head, shape.head) for part in parts)
    q, k = _rotated(q).astype(dtype), _rotated(k).astype(dtype)
    # Over the width of a head, not its root: queries and keys are aligned after training (muP).
    # The factor makes a head of 8, the smallest, the usual attention.
    scores = jnp.einsum("nqhd,nkhd->nhqk", q, k).astype(jnp.float32) * (math.sqrt(8) / shape.head)
    allowed = jnp.broadcast_to(jnp.tril(jnp.ones((length, length), bool)), scores.shape)
    weights = jax.nn.softmax(jnp.where(allowed, scores, -1e9), axis=-1).astype(dtype)
    mixed = jnp.einsum("nhqk,nkhd->nqhd", weights, v.astype(dtype))
    return mixed.astype(jnp.float32).reshape(n, length, shape.width)


def _rotated(x: Float[Array, "n t heads d"]) -> Float[Array, "n t heads d"]:
    """Pairs of channels turned by angles in proportion to the position (Su et al. 2021, arXiv:2104.09864)."""
    length, half = x.shape[1], x.shape[3] // 2
    # In NumPy: constants of the program, of angles of up to hundreds of radians that are float64 until here.
    angles = np.arange(length)[:, None] * _TURNS ** (-np.arange(half) / half)
    cos, sin = (
        jnp.broadcast_to(jnp.asarray(f(angles), x.dtype)[None, :, None, :], (*x.shape[:3], half))
        for f in (np.cos, np.sin)
    )
    a, b = x[..., :half], x[..., half:]
    return jnp.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1)


def _windows(text: UInt8[np.ndarray, "bytes"], context: int) -> UInt8[np.ndarray, "windows length"]:
    """Windows that begin at whole multiples of the context, with the byte after each; a view that copies nothing."""
    # The last target of a window is the first input of the next: no byte is a target twice.
    return np.lib.stride_tricks.sliding_window_view(text, context + 1)[::context]


def language(
    parameters: float = 1e4, *, tied: bool = True, precision: Precision | None = None, name: str | None = None
) -> Task:
    r"""Next-byte prediction on the source of Python's standard library with a causal transformer of a given size.

    Pre-norm blocks, rotary positions, no biases. All sizes have the same learning rate: a matrix from n inputs is used as
    $W\,w_0/w$, with w the width and $w_0 = 16$, and starts w/w_0 times larger, so that a step of Adam of one size in every parameter
    changes every layer's output by the same amount at every width, the maximal-update rule of Yang et al. for Adam; queries
    times keys are divided by the width of a head, logits by $w/w_0$, and branches of deeper networks by the root of their number.
    One lsb then suits all sizes and layers as well: a level is the same share of a step everywhere.

    The text is some 10 MB, so all of it lies on the device as bytes, and a batch is drawn by its index from key and step inside the
    compiled loop: nothing is streamed from the host between steps, all hosts draw the same, and a resumed run draws what the
    other would have. The file it comes from is memory-mapped and the windows are views of it. It is short for large
    models: 20 bytes per parameter are two passes at 1e6 parameters, twenty at 1e7.

    Args:
        parameters: N, at least 3,000; the nearest shape by `Shape.of` is taken.
        tied: whether the embedding is also the output layer.
        precision: of the products, "float32" or "bfloat16"; parameters, norms and logits are float32. None takes bfloat16 from 1e7
            parameters on, whatever the device, so that a run is the same everywhere.
        name: of the task; None takes `language-` and the size asked for.

    Returns:
        The task; its loss is the mean cross entropy per byte [nats]. Its defaults train on 20 bytes per parameter.

    Raises:
        ValueError: if the size is too small, the precision unknown, or this Python ships no source text.

    Source: Yang, G. et al., Tensor Programs V, arXiv:2203.03466 (2022), table 3.
    """
    shape = Shape.of(parameters, tied)
    kind: Precision = precision or ("float32" if parameters < 1e7 else "bfloat16")
    if kind not in ("float32", "bfloat16"):
        raise ValueError(f"precision must be float32 or bfloat16, got {precision!r}.")
    text = python_source()
    batch_size = 8 if parameters < 1e7 else 64
    test = _windows(text.test, shape.context)
    # Spread over the whole part: in it one file stands after the other.
    chosen = np.linspace(0, len(test) - 1, min(_TEST_WINDOWS, len(test))).astype(int)

    def logits(params: PyTree, batch: PyTree) -> tuple[Array, Array]:
        content = batch["text"].astype(jnp.int32)
        return apply_language(params, content[:, :-1], shape, kind), content[:, 1:]

    return Task(
        name=name or f"language-{size_text(parameters)}",
        init=functools.partial(init_language, shape=shape),
        loss=lambda params, batch: networks.cross_entropy(*logits(params, batch)),
        accuracy=lambda params, batch: networks.share_correct(*logits(params, batch)),
        train={"text": _windows(text.train, shape.context)},
        test={"text": test[chosen]},
        defaults=TaskDefaults(
            steps=steps_for(shape, TOKENS_PER_PARAMETER, batch_size),
            batch_size=batch_size,
            learning_rate=2e-2,
            lsb=2**-10,
            barrier="moment",
            # Four standard deviations of the matrices at the start.
            largest_weight=max(1.0, math.sqrt(shape.width) / 4),
        ),
    )


def steps_for(shape: Shape, tokens_per_parameter: float, batch_size: int) -> int:
    """Steps that see so many bytes per parameter, at least one.

    Args:
        shape: the sizes.
        tokens_per_parameter: bytes seen for each parameter.
        batch_size: windows per step.

    Returns:
        The number of steps.
    """
    return max(1, round(tokens_per_parameter * shape.parameters / (batch_size * shape.context)))


def size_text(parameters: float) -> str:
    """A number of parameters as names have it.

    Example:
        >>> size_text(1e4), size_text(3e5), size_text(1e6), size_text(4500.0)
        ('10k', '300k', '1m', '4.5k')
    """
    value, unit = (parameters / 1e6, "m") if parameters >= 1e6 else (parameters / 1e3, "k")
    return f"{value:.4g}{unit}"
