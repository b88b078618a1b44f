"""Saving and restoring a run, with orbax: atomic, two kept, readable after a crash in the middle of a save."""

import contextlib
import gc
import json
import logging
import math
import os
import re
import shutil
import sys
import warnings
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jaxtyping import Array, PyTree

from limjax._files import local_path, reason

_CHUNK = 1 << 20
_KNOWN_CAUSES = r"No space left on device|File too large|Disk quota exceeded|Permission denied|Read-only file system"


class Checkpoints:
    """The checkpoints of one run.

    Orbax writes each one to a temporary folder and renames it when it is whole, so that a process killed while saving
    leaves the previous one intact.

    Args:
        folder: where they lie; made if it does not exist.
        keep: how many to keep.

    Raises:
        ValueError: if there can be no such folder.
    """

    def __init__(self, folder: str | os.PathLike[str], keep: int = 2):
        import orbax.checkpoint as ocp

        self.folder = local_path(folder, "The folder of the checkpoints").absolute()
        self._ocp = ocp
        # Not in the background, so that a save that fails raises here and the run can say so.
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, enable_async_checkpointing=False)
        handlers = {"arrays": ocp.StandardCheckpointHandler(), "notes": ocp.JsonCheckpointHandler()}
        try:
            with _quiet():
                self._manager = ocp.CheckpointManager(self.folder, options=options, item_handlers=handlers)
        except Exception as error:  # orbax raises many kinds
            raise ValueError(
                f"There can be no checkpoints in {self.folder}: {_cause(error)}. Choose another folder; nothing was changed."
            ) from None

    def latest(self) -> int | None:
        """Step of the newest whole checkpoint, or None."""
        return self._manager.latest_step()

    def check_room(self, tree: PyTree) -> None:
        """Refuses a run whose first checkpoint would not fit on the disk.

        Args:
            tree: what will be saved.

        Raises:
            ValueError: if there is less room than one checkpoint takes.
        """
        needed = sum(getattr(leaf, "nbytes", 8) for leaf in jax.tree.leaves(tree))
        try:
            free = shutil.disk_usage(self.folder).free
        # Where the room is not known, the save itself will tell.
        except OSError:
            return
        if free < needed:
            raise ValueError(
                f"A checkpoint of this run takes {needed / 1e6:.3g} MB, but only {free / 1e6:.3g} MB are free at {self.folder}: make "
                "room, or choose a folder on another disk. Nothing was trained."
            )

    def save(self, step: int, tree: PyTree, notes: dict[str, Any]) -> None:
        """Saves a tree of arrays and a JSON-able dict under a step; does nothing if that step is saved already.

        Args:
            step: number of steps taken.
            tree: pytree of arrays.
            notes: anything JSON can hold.

        Raises:
            OSError: if it cannot be written; the checkpoints that were there before are as they were.
        """
        if step in self._manager.all_steps():
            return
        args = self._ocp.args
        # A flat dict by path: what is stored knows nothing of the classes of a state, which change between versions.
        by_path = _by_path(tree)
        notes = {**notes, "checksums": {path: checksum(leaf) for path, leaf in by_path.items()}}
        notes["checksum"] = _checksum_of_notes(notes)
        try:
            with _quiet():
                arrays = args.StandardSave(by_path)
                self._manager.save(step, args=args.Composite(arrays=arrays, notes=args.JsonSave(notes)))
                self._manager.wait_until_finished()
        except Exception as error:  # orbax and tensorstore raise many kinds
            cause = _cause(error)
            # What was begun takes the room that is missing.
            for left in self.folder.glob(f"{step}.orbax-checkpoint-tmp*"):
                shutil.rmtree(left, ignore_errors=True)
        else:
            return
        # Behind the except clause, whose traceback would keep the failed tasks alive.
        _drop_failed_tasks()
        raise OSError(f"The checkpoint of step {step} in {self.folder} could not be written: {cause}.")

    def notes(self, step: int) -> dict[str, Any]:
        """The dict that was saved with a checkpoint, without its arrays.

        Args:
            step: which one.

        Returns:
            The dict.

        Raises:
            ValueError: if the checkpoint is damaged.
        """
        args = self._ocp.args
        try:
            with _quiet():
                notes = self._manager.restore(step, args=args.Composite(notes=args.JsonRestore()))["notes"]
        except Exception as error:  # orbax raises many kinds for a damaged file
            notes, cause = None, f"{type(error).__name__}: {reason(error)[:160]}"
        else:
            cause = "" if isinstance(notes, dict) else "notes/metadata holds no object with keys"
        # Checkpoints of earlier versions have no checksum.
        if isinstance(notes, dict) and "checksum" in notes and notes["checksum"] != _checksum_of_notes(notes):
            cause = "notes/metadata was altered: its checksum differs"
        if cause or not isinstance(notes, dict):
            raise self.unreadable(step, cause)
        return notes

    def check_same_program(self, saved: dict[str, Any], given: dict[str, str], unknown: str) -> None:
        """Refuses to continue a run with another optimizer, loss, data, ...

        Args:
            saved: fingerprints stored with a checkpoint; what is missing there is not looked at.
            given: fingerprints of the run that wants to continue it.
            unknown: a fingerprint that equals all.

        Raises:
            ValueError: if one differs; the message names all that do.
        """
        differing = [
            name
            for name, value in given.items()
            if name in saved and saved[name] != value and unknown not in (value, saved[name])
        ]
        if differing:
            raise ValueError(
                f"The checkpoints in {self.folder} are of a run with another {' and another '.join(differing)}. A resumed run keeps "
                "its settings: pass the same, or start a new run in another folder. Nothing was changed."
            )

    def restore(self, step: int, like: PyTree, checksums: dict[str, int] | None = None) -> PyTree:
        """Reads the arrays of a checkpoint back.

        Args:
            step: which one.
            like: tree of the structure, shapes and dtypes that was saved.
            checksums: of the arrays by path, as its notes have them; None checks none.

        Returns:
            The tree.

        Raises:
            ValueError: if the checkpoint is damaged or belongs to another run.
        """
        args = self._ocp.args
        expected = _by_path(like)
        cause, arrays, names = None, {}, {}
        try:
            # Orbax reads the arrays side by side; a mismatch is found before any of them is under way.
            with _quiet():
                saved = self._manager.item_metadata(step)["arrays"].tree
            names = {k: _saved_name(k, saved) for k in expected}
            wrong = [
                k
                for k, v in expected.items()
                if names[k] not in saved or saved[names[k]].shape != v.shape or saved[names[k]].dtype != v.dtype
            ]
            if wrong:
                raise LookupError(f"{wrong[0]} is missing, or has another shape or dtype")
            target = args.StandardRestore(
                {names[k]: jax.ShapeDtypeStruct(v.shape, v.dtype, sharding=_on_mesh(v)) for k, v in expected.items()}
            )
            with _quiet():
                arrays = self._manager.restore(step, args=args.Composite(arrays=target))["arrays"]
            for path, wanted in (checksums or {}).items():
                if path in arrays and checksum(arrays[path]) != wanted:
                    raise LookupError(f"{path} was altered: its checksum differs")
        except Exception as error:  # orbax and tensorstore raise many kinds for a damaged file
            cause = f"{type(error).__name__}: {reason(error).split('. See full')[0][:160]}"
        if cause is not None:
            _drop_failed_tasks()
            raise self.unreadable(step, cause)
        # In the order of `like`, whose structure they are put into.
        leaves = [jax.numpy.asarray(arrays[names[path]]) for path in expected]
        return jax.tree.structure(like).unflatten(leaves)

    def unreadable(self, step: int, cause: str) -> ValueError:
        """The error that says which checkpoint is damaged and what to do.

        Args:
            step: which one.
            cause: what is wrong with it.

        Returns:
            The error, to be raised.
        """
        return ValueError(
            f"The checkpoint {self.folder / str(step)} cannot be read ({cause}). Delete that folder to resume from the one "
            "before it, or start a new run with another output folder. Nothing was changed."
        )

    def close(self) -> None:
        """Releases orbax's threads."""
        self._manager.close()


def _on_mesh(x: Any) -> NamedSharding | None:
    """Where to put an array that was saved, perhaps on another mesh: where its counterpart lies."""
    sharding = getattr(x, "sharding", None)
    return sharding if isinstance(sharding, NamedSharding) else None


def _drop_failed_tasks() -> None:
    """Collects orbax's other reads or writes that failed too; each would print a traceback of its own when the program ends."""
    hook = sys.unraisablehook
    sys.unraisablehook = lambda _: None
    try:
        with warnings.catch_warnings():
            # Those that had not begun when the first one failed.
            warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
            gc.collect()
    finally:
        sys.unraisablehook = hook


def _saved_name(path: str, saved: Any) -> str:
    """The path under which an array was saved: barriers were bare arrays once, and are the values of fields now."""
    earlier = re.sub(r"\.value(?=\[\d+\]$|$)", "", path)
    return earlier if path not in saved and earlier in saved else path


def _by_path(tree: PyTree) -> dict[str, Any]:
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(path): leaf for path, leaf in leaves}


def checksum(x: Any) -> int:
    """A number that changes with every bit of an array, the same wherever the array lies.

    The sum of its 32-bit words, each times an odd number that says where it stands, modulo 2^32.

    Args:
        x: an array, or a number.

    Returns:
        The number.

    Example:
        >>> checksum(np.array([1.0, 2.0], np.float32)) == checksum(jnp.array([1.0, 2.0], jnp.float32))
        True
    """
    if isinstance(x, jax.Array):
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            x = jax.random.key_data(x)
        if not (x.is_fully_addressable or x.is_fully_replicated):
            return int(_checksum_on_devices(x))
    array = np.ascontiguousarray(np.asarray(x)).reshape(-1)
    words = array.view({1: np.uint8, 2: np.uint16}.get(array.dtype.itemsize, np.uint32))
    total = 0
    # In pieces of a million words, as the products take another array of that size.
    for begin in range(0, words.size, _CHUNK):
        part = words[begin : begin + _CHUNK].astype(np.uint32)
        # An odd factor is invertible modulo 2^32, so that a change of any one word changes the sum.
        place = np.arange(begin, begin + part.size, dtype=np.uint32) * np.uint32(2) + np.uint32(1)
        total += int(np.sum(part * place, dtype=np.uint32))
    return total % 2**32


@jax.jit
def _checksum_on_devices(x: Array) -> Array:
    x = x.astype(jnp.uint8) if x.dtype == jnp.bool_ else x
    unsigned = {1: jnp.uint8, 2: jnp.uint16}.get(x.dtype.itemsize, jnp.uint32)
    # Of 64 bits this makes two words along a last axis, the low one first, as the host sees them.
    words = jax.lax.bitcast_convert_type(x, unsigned).astype(jnp.uint32)
    # The place in the whole array: each device sums its own part, and the order of parts does not matter modulo 2^32.
    place = jnp.zeros(words.shape, jnp.uint32)
    for axis in range(words.ndim):
        behind = jnp.uint32(math.prod(words.shape[axis + 1 :]) % 2**32)
        place = place + jax.lax.broadcasted_iota(jnp.uint32, words.shape, axis) * behind
    return jnp.sum(words * (place * jnp.uint32(2) + jnp.uint32(1)), dtype=jnp.uint32)


def _checksum_of_notes(notes: dict[str, Any]) -> int:
    rest = {name: value for name, value in notes.items() if name != "checksum"}
    return zlib.crc32(json.dumps(rest, sort_keys=True).encode())


def _cause(error: BaseException) -> str:
    """Why orbax failed: the operating system's words, where they are in its own."""
    known = re.search(_KNOWN_CAUSES, str(error))
    return known[0] if known else reason(error)


class _WithoutClosedLoops:
    """A `sys.unraisablehook` that hands on all but what tasks of a closed event loop end in."""

    def __init__(self, usual: Callable[[Any], Any]):
        self._usual = usual

    def __call__(self, unraisable: Any) -> None:
        error = unraisable.exc_value
        if not (isinstance(error, RuntimeError) and "Event loop is closed" in str(error)):
            self._usual(unraisable)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Inside, what orbax says through absl's logger is left out: a run has its own progress. Others are heard as before."""
    logger = logging.getLogger("absl")

    def is_other(record: logging.LogRecord) -> bool:
        return f"{os.sep}orbax{os.sep}" not in record.pathname

    usual = sys.unraisablehook
    logger.addFilter(is_other)
    # One that a failed save left stays the only one: a full disk fails save after save.
    sys.unraisablehook = usual if isinstance(usual, _WithoutClosedLoops) else _WithoutClosedLoops(usual)
    try:
        yield
    except Exception:
        # The other reads or writes of this checkpoint fail later, in threads, with nobody there to hear of it any more.
        raise
    else:
        sys.unraisablehook = usual
    finally:
        logger.removeFilter(is_other)
