"""Files that are never half written, never through a link, and folders that one process has for itself."""

import contextlib
import json
import math
import os
import pathlib
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from limjax.numerics._present_names import with_present_names

try:
    import fcntl
except ImportError:  # Windows: a folder that was made by one process is its own all the same
    fcntl = None


_Made = TypeVar("_Made")


def local_path(path: str | os.PathLike[str], option: str) -> pathlib.Path:
    """A path of this machine.

    Args:
        path: what the user gave.
        option: what the user calls it.

    Returns:
        The path.

    Raises:
        ValueError: for the address of a bucket or a server, an empty name, or one that no file can have.

    Example:
        >>> local_path("runs/one", "--out").name
        'one'
    """
    text = os.fspath(path)
    # At least two letters, so that a drive of Windows, C:/, is no scheme.
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]+):/", text)
    if scheme:
        raise ValueError(
            f"{option} {text} is an address ({scheme[1]}), not a folder of this machine: write to a local folder and copy it "
            "when the run is done, or mount the bucket and give the folder it is mounted on. Nothing was started."
        )
    if not text.strip() or "\0" in text:
        raise ValueError(f"{option} must name a folder, got {text!r}.")
    try:
        text.encode()
    except UnicodeEncodeError:  # bytes that are no UTF-8: checkpoints and pages could not name them
        raise ValueError(f"{option} must be a path in UTF-8, got {text!r}: choose another name.") from None
    return pathlib.Path(text)


def reason(error: BaseException) -> str:
    """Why something failed, in a few words on one line."""
    said = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(said).split())[:200]


def damage(error: BaseException) -> str:
    """What is wrong with a file whose content raised this."""
    return (f"there is no {error}" if isinstance(error, KeyError) else reason(error)).rstrip(".")


def write_whole(path: pathlib.Path, write: Callable[[Any], Any], mode: str = "wb") -> None:
    """Writes a file in one piece: to a temporary file beside it that is then renamed, so that a link is replaced, not followed.

    Args:
        path: the file.
        write: is given the open temporary file.
        mode: "wb", or "w" for text in UTF-8.

    Raises:
        OSError: if it cannot be written; the file that was there before is as it was.
    """
    # In the same folder, because a rename is atomic only within a file system; by process, so that no two share one.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with contextlib.suppress(OSError):
        temporary.unlink()
    try:
        # Mode x never opens what lies there already: a link in the place of the temporary file is not written through.
        is_text = "b" not in mode
        with open(
            temporary, mode.replace("w", "x"), encoding="utf-8" if is_text else None, newline="" if is_text else None
        ) as file:
            write(file)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def write_text(path: pathlib.Path, text: str) -> None:
    """Writes UTF-8 text in one piece, see `write_whole`."""
    write_whole(path, lambda file: file.write(text), "w")


def write_json(path: pathlib.Path, content: dict[str, Any]) -> None:
    """Writes JSON in one piece, see `write_whole`."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def without_nan(content: Any) -> Any:
    """The content with null for numbers that are not finite, which JSON cannot hold."""
    if isinstance(content, dict):
        return {name: without_nan(value) for name, value in content.items()}
    if isinstance(content, list):
        return [without_nan(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def read_json(path: pathlib.Path, remedy: str) -> dict[str, Any]:
    """Reads a JSON file that holds an object.

    Args:
        path: the file.
        remedy: what to do about a damaged one, one sentence.

    Returns:
        Its content.

    Raises:
        ValueError: if it cannot be read or holds something else; the message names it.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {reason(error)}. {remedy}") from None
    except (ValueError, RecursionError) as error:  # no JSON, no UTF-8, or nested without end
        raise ValueError(f"{path} is damaged ({reason(error)}). {remedy}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} is damaged: it holds {_kind(content)} where an object with keys belongs. {remedy}")
    return content


def read_part(path: pathlib.Path, key: str, remedy: str) -> dict[str, Any]:
    """Reads an object that a JSON file holds under a key; an empty one if it holds none.

    Args:
        path: the file.
        key: of the object.
        remedy: what to do about a damaged file, one sentence.

    Returns:
        The object.

    Raises:
        ValueError: if the file cannot be read, or holds something else there.
    """
    content = read_json(path, remedy).get(key, {})
    if not isinstance(content, dict):
        raise ValueError(f"{path} is damaged: {key!r} is {_kind(content)} where an object with keys belongs. {remedy}")
    return content


def read_as(path: pathlib.Path, make: Callable[[dict[str, Any]], _Made], remedy: str) -> _Made:
    """Reads a JSON file as something that is made of its content.

    Args:
        path: the file.
        make: of its content; what it raises is damage of the file.
        remedy: what to do about a damaged one, one sentence.

    Returns:
        What was made.

    Raises:
        ValueError: if it cannot be read, or nothing can be made of it; the message names file and key.
    """
    content = read_json(path, remedy)
    try:
        return make(content)
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({damage(error)}). {remedy}") from None


def renew(path: pathlib.Path, names: Mapping[str, str]) -> None:
    """Writes a JSON file of an earlier version again, under the names of now; any other stays as it is.

    Args:
        path: the file, which holds what it should; nothing is done where there is none.
        names: the present name of each earlier one.
    """
    if path.is_file():
        content = read_json(path, "")
        present = with_present_names(content, names)
        if present != content:
            write_json(path, without_nan(present))


def _kind(content: Any) -> str:
    kinds = {list: "a list", str: "a string", bool: "a truth value", int: "a number", float: "a number"}
    # Of JSON's kinds only null is left: an object never comes here.
    return kinds.get(type(content), "null")


def _is_at(handle: int, path: pathlib.Path) -> bool:
    try:
        # A handle outlives the name of its folder: a lock on one that was removed would hold nothing.
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except OSError:
        return False


@contextlib.contextmanager
def sole_use(folder: pathlib.Path) -> Iterator[None]:
    """Inside, no other process has this folder, as long as it asks here too. A killed process leaves nothing locked.

    Args:
        folder: an existing folder.

    Raises:
        ValueError: if another process has it, or had it and took it away.
    """
    handle = None
    if fcntl is not None:
        try:
            # The lock is on the folder itself and goes with the process: no lock file can be left behind.
            handle = os.open(folder, os.O_RDONLY)
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # First, as it is an OSError too: this one says that the lock is held, the others that there are no locks here.
        except BlockingIOError:
            os.close(handle)  # pyright: ignore[reportArgumentType]  # it is open if locking failed
            raise ValueError(
                f"Another limjax process is using {folder}: wait for it to end, or choose another --out. Nothing was changed."
            ) from None
        except OSError:  # a file system without locks
            pass
        if handle is not None and not _is_at(handle, folder):
            os.close(handle)
            raise ValueError(f"Another limjax process was using {folder} and has just removed it: start again.")
    try:
        yield
    finally:
        if handle is not None:
            os.close(handle)
