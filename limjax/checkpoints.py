"""Saving and restoring a run, with orbax: atomic, two kept, readable after a crash in the middle of a save."""

import gc
import json
import logging
import os
import pathlib
import sys
from typing import Any

import jax
from jax.sharding import NamedSharding
from jaxtyping import PyTree


class Checkpoints:
    """The checkpoints of one run.

    Orbax writes each one to a temporary folder and renames it when it is whole, so that a process killed while saving
    leaves the previous one intact.

    Args:
        folder: where they lie; made if it does not exist.
        keep: how many to keep.
    """

    def __init__(self, folder: str | os.PathLike[str], keep: int = 2):
        import orbax.checkpoint as ocp

        # Orbax reports every save at WARNING or INFO level through absl; a run has its own progress.
        logging.getLogger("absl").setLevel(logging.ERROR)
        self.folder = pathlib.Path(folder).absolute()
        self._ocp = ocp
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, enable_async_checkpointing=False)
        handlers = {"arrays": ocp.StandardCheckpointHandler(), "notes": ocp.JsonCheckpointHandler()}
        self._manager = ocp.CheckpointManager(self.folder, options=options, item_handlers=handlers)

    def latest(self) -> int | None:
        """Step of the newest whole checkpoint, or None."""
        return self._manager.latest_step()

    def save(self, step: int, tree: PyTree, notes: dict[str, Any]) -> None:
        """Saves a tree of arrays and a JSON-able dict under a step; does nothing if that step is saved already.

        Args:
            step: number of steps taken.
            tree: pytree of arrays.
            notes: anything JSON can hold.
        """
        if step in self._manager.all_steps():
            return
        args = self._ocp.args
        arrays = args.StandardSave(_by_path(tree))
        self._manager.save(step, args=args.Composite(arrays=arrays, notes=args.JsonSave(notes)))
        self._manager.wait_until_finished()

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
            return self._manager.restore(step, args=args.Composite(notes=args.JsonRestore()))["notes"]
        except Exception as error:  # orbax raises many kinds for a damaged file
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
        raise self._unreadable(step, reason)

    def check_same_run(self, saved: dict[str, Any], given: dict[str, Any]) -> None:
        """Refuses to continue a run with other settings; only the mesh may change.

        Args:
            saved: settings stored with a checkpoint.
            given: settings of the run that wants to continue it.

        Raises:
            ValueError: if a setting differs.
        """
        for name, value in given.items():
            if name == "mesh" or name not in saved or saved[name] == value:
                continue
            why = " (gradients would be summed in another order)" if name == "microbatches" else ""
            raise ValueError(
                f"The checkpoints in {self.folder} are of a run with {name} = {saved[name]!r}, but {value!r} was given{why}. A "
                "resumed run keeps its settings: pass the same ones, or start a new run in another folder. Nothing was changed."
            )

    def restore(self, step: int, like: PyTree) -> PyTree:
        """Reads the arrays of a checkpoint back.

        Args:
            step: which one.
            like: tree of the structure, shapes and dtypes that was saved.

        Returns:
            The tree.

        Raises:
            ValueError: if the checkpoint is damaged or belongs to another run.
        """
        args = self._ocp.args
        expected = _by_path(like)
        reason, arrays = None, {}
        try:
            # Orbax reads the arrays side by side; a mismatch is found before any of them is under way.
            saved = self._manager.item_metadata(step)["arrays"].tree
            wrong = [
                k
                for k, v in expected.items()
                if k not in saved or saved[k].shape != v.shape or saved[k].dtype != v.dtype
            ]
            if wrong:
                raise LookupError(f"{wrong[0]} is missing, or has another shape or dtype")
            target = args.StandardRestore(
                {k: jax.ShapeDtypeStruct(v.shape, v.dtype, sharding=_on_mesh(v)) for k, v in expected.items()}
            )
            arrays = self._manager.restore(step, args=args.Composite(arrays=target))["arrays"]
        except Exception as error:  # orbax and tensorstore raise many kinds for a damaged file
            reason = f"{type(error).__name__}: {' '.join(str(error).split()).split('. See full')[0][:160]}"
        if reason is not None:
            _drop_failed_reads()
            raise self._unreadable(step, reason)
        leaves = [jax.numpy.asarray(arrays[path]) for path in expected]
        return jax.tree.structure(like).unflatten(leaves)

    def _unreadable(self, step: int, reason: str) -> ValueError:
        return ValueError(
            f"The checkpoint {self.folder / str(step)} cannot be read ({reason}). Delete that folder to resume from the one "
            "before it, or start a new run with another output folder. Nothing was changed."
        )

    def close(self) -> None:
        """Releases orbax's threads."""
        self._manager.close()


def _on_mesh(x: Any) -> NamedSharding | None:
    """Where to put an array that was saved, perhaps on another mesh: where its counterpart lies."""
    sharding = getattr(x, "sharding", None)
    return sharding if isinstance(sharding, NamedSharding) else None


def _drop_failed_reads() -> None:
    """Collects orbax's other reads that failed too; each would print a traceback of its own when the program ends."""
    hook = sys.unraisablehook
    sys.unraisablehook = lambda _: None
    try:
        gc.collect()
    finally:
        sys.unraisablehook = hook


def _by_path(tree: PyTree) -> dict[str, Any]:
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(path): leaf for path, leaf in leaves}


def read_json(path: pathlib.Path) -> dict[str, Any]:
    """Reads a JSON file of a run folder.

    Args:
        path: the file.

    Returns:
        Its content.

    Raises:
        ValueError: if it is not there or not JSON.
    """
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise ValueError(f"{path} is missing, so {path.parent} is not a limjax run that can be resumed.") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is damaged ({error}); start a new run with another output folder.") from None
