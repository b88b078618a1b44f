"""A small causal transformer that learns the source text of Python's own standard library."""

import functools
import math
import pathlib
import sysconfig

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from limjax.numerics.checks import whole_number
from limjax.tasks import _networks as networks
from limjax.tasks._task import Task, TaskDefaults

# Large modules of pure Python that are single files under these names in 3.11 and 3.12 alike. Their text differs a
# little from one Python to the next, so losses compare within one Python only.
_MODULES = (
    "argparse.py", "ast.py", "asyncio/base_events.py", "asyncio/tasks.py", "calendar.py", "codecs.py",
    "collections/__init__.py", "configparser.py", "contextlib.py", "csv.py", "dataclasses.py", "difflib.py",
    "doctest.py", "enum.py", "fractions.py", "functools.py", "heapq.py", "inspect.py", "ipaddress.py",
    "json/decoder.py", "json/encoder.py", "locale.py", "logging/__init__.py", "mailbox.py", "pickle.py", "platform.py",
    "random.py", "shutil.py", "socket.py", "statistics.py", "subprocess.py", "tarfile.py", "tempfile.py", "textwrap.py",
    "threading.py", "traceback.py", "typing.py", "unittest/mock.py", "urllib/parse.py", "urllib/request.py", "uuid.py",
    "weakref.py",
)  # fmt: skip
_FIRST, _LAST = 32, 126  # printable ASCII; newline is 0 and everything else 1
VOCABULARY = 2 + _LAST - _FIRST + 1


@functools.cache
def _text() -> UInt8[np.ndarray, "characters"]:
    folder = pathlib.Path(sysconfig.get_path("stdlib"))
    missing = [name for name in _MODULES if not (folder / name).is_file()]
    if missing:
        raise ValueError(
            f"char-transformer reads the source text of Python's standard library, but {folder} lacks {len(missing)} "
            f"of {len(_MODULES)} modules as source: {', '.join(missing)}. Use a Python 3.11 or 3.12 that ships its .py "
            "files."
        )
    files = [folder / name for name in _MODULES]
    raw = np.frombuffer(b"".join(path.read_bytes() for path in files), np.uint8)
    printable = (raw >= _FIRST) & (raw <= _LAST)
    tokens = np.where(printable, raw.astype(np.int16) - _FIRST + 2, np.where(raw == ord("\n"), 0, 1))
    return tokens.astype(np.uint8)


def _windows(tokens: UInt8[np.ndarray, "characters"], length: int) -> dict[str, UInt8[np.ndarray, "windows tokens"]]:
    count = (len(tokens) - 1) // length
    # With the character after each, the first input of the next: none is a target twice.
    return {"text": np.stack([tokens[i * length : i * length + length + 1] for i in range(count)])}


def init_transformer(key: Array, width: int, layers: int, context: int) -> dict[str, dict[str, Array]]:
    """Parameters of a pre-norm transformer with learned positions and untied output."""
    keys = iter(jax.random.split(key, 3 + 4 * layers))
    params: dict[str, dict[str, Array]] = {
        "embedding": {
            "token": 0.1 * jax.random.normal(next(keys), (VOCABULARY, width), jnp.float32),
            "position": 0.1 * jax.random.normal(next(keys), (context, width), jnp.float32),
        }
    }
    for i in range(layers):
        # The two layers that write to the residual stream start smaller, as in GPT-2.
        residual_gain = 1.0 / (2 * layers)
        params[f"attention{i + 1}"] = {
            "scale": jnp.ones(width, jnp.float32),
            **{f"in_{k}": v for k, v in networks.dense(next(keys), width, 3 * width, 1.0).items()},
            **{f"out_{k}": v for k, v in networks.dense(next(keys), width, width, residual_gain).items()},
        }
        params[f"mlp{i + 1}"] = {
            "scale": jnp.ones(width, jnp.float32),
            **{f"in_{k}": v for k, v in networks.dense(next(keys), width, 4 * width).items()},
            **{f"out_{k}": v for k, v in networks.dense(next(keys), 4 * width, width, residual_gain).items()},
        }
    params["output"] = {"scale": jnp.ones(width, jnp.float32), **networks.dense(next(keys), width, VOCABULARY, 1.0)}
    return params


def apply_transformer(
    params: dict[str, dict[str, Array]], tokens: Int[Array, "n t"], layers: int, heads: int
) -> Float[Array, "n t vocabulary"]:
    """Logits of the next character at every position."""
    n, length = tokens.shape
    embedding = params["embedding"]
    x = embedding["token"][tokens] + jnp.broadcast_to(
        embedding["position"][None, :length], (n, length, embedding["token"].shape[1])
    )
    width = x.shape[-1]
    allowed = jnp.tril(jnp.ones((length, length), bool))
    for i in range(layers):
        block = params[f"attention{i + 1}"]
        h = apply_part(block, "in", networks.rms_norm(x, block["scale"]))
        q, k, v = (part.reshape(n, length, heads, width // heads) for part in jnp.split(h, 3, axis=-1))
        scores = jnp.einsum("nqhd,nkhd->nhqk", q, k) / math.sqrt(width // heads)
        scores = jnp.where(jnp.broadcast_to(allowed, scores.shape), scores, -1e9)
        mixed = jnp.einsum("nhqk,nkhd->nqhd", jax.nn.softmax(scores, axis=-1), v)
        x = x + apply_part(block, "out", mixed.reshape(n, length, width))
        block = params[f"mlp{i + 1}"]
        x = x + apply_part(block, "out", jax.nn.gelu(apply_part(block, "in", networks.rms_norm(x, block["scale"]))))
    return networks.apply_dense(params["output"], networks.rms_norm(x, params["output"]["scale"]))


def apply_part(block: dict[str, Array], part: str, x: Float[Array, "... a"]) -> Float[Array, "... b"]:
    """One of the dense layers of a transformer block."""
    return networks.apply_dense({"weight": block[f"{part}_weight"], "bias": block[f"{part}_bias"]}, x)


def char_transformer(width: int = 64, layers: int = 2, heads: int = 4, context: int = 64) -> Task:
    """Next-character prediction on the standard library's source text with a small causal transformer.

    The text is read from this Python's own installation when the task is made; the last tenth is the test part.

    Args:
        width: size of the residual stream, divisible by `heads`.
        layers: number of blocks.
        heads: attention heads.
        context: characters a prediction may see.

    Returns:
        The task; its loss is the mean cross entropy per character [nats].

    Raises:
        ValueError: if the sizes do not fit, or this Python ships no source text.
    """
    for name, value in (("width", width), ("layers", layers), ("heads", heads), ("context", context)):
        whole_number(value, name)
    if width % heads:
        raise ValueError(f"width must be a multiple of heads, got width={width!r} and heads={heads!r}.")
    tokens = _text()
    boundary = len(tokens) * 9 // 10

    def logits(params, batch):
        text = batch["text"].astype(jnp.int32)
        return apply_transformer(params, text[:, :-1], layers, heads), text[:, 1:]

    return Task(
        name="char-transformer",
        init=lambda key: init_transformer(key, width, layers, context),
        loss=lambda params, batch: networks.cross_entropy(*logits(params, batch)),
        accuracy=lambda params, batch: networks.share_correct(*logits(params, batch)),
        train=_windows(tokens[:boundary], context),
        test=_windows(tokens[boundary:], context),
        defaults=TaskDefaults(steps=600, batch_size=16, learning_rate=3e-3, barrier="moment", largest_weight=1.0),
    )
