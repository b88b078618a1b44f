"""Text that every machine has, Python's own source, in a memory-mapped cache."""

import functools
import hashlib
import json
import os
import pathlib
import platform
import sysconfig
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from limjax._files import write_whole
from limjax.numerics.checks import is_whole

# Of a fixed length, so that the text begins at a place that is known before anything is read.
_HEADER = 1024
_LEFT_OUT = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__", "encodings"}
"""Folders that not every installation has, that are not the library's own, or whose files repeat one another: tables of codecs."""
_TEST_SHARE = 20  # one file in this many
_LEAST_BYTES = 1_000_000


class Text(NamedTuple):
    """A text in two parts.

    Attributes:
        train: bytes of the files to train on, one file after the other.
        test: bytes of the other files.
        files: number of files in both.
        sha256: of both parts, in hexadecimal.
    """

    train: UInt8[np.ndarray, "train_bytes"]
    test: UInt8[np.ndarray, "test_bytes"]
    files: int
    sha256: str


@functools.cache
def python_source() -> Text:
    """The source of this Python's standard library without its tests and tables of codecs, some 10 MB, as memory-mapped bytes.

    A file that is the same as another counts once. Whether a file is in the test part (one in 20) and where it stands follows from
    the hash of its name alone, so that both parts are mixtures and no file is in both. The text differs a little from one Python
    to the next: losses compare within one, and a run that goes on is refused another one by the fingerprint of its data.

    It is read once and kept in `$XDG_CACHE_HOME/limjax` (`~/.cache/limjax`) in one file with its checksum, which is compared at every
    start; a damaged file is written anew, and where nothing can be written the text stays in memory.

    Returns:
        The text.

    Raises:
        ValueError: if this Python ships less than a megabyte of source.
    """
    folder = pathlib.Path(sysconfig.get_path("stdlib"))
    # Sorted, as folders are walked in the order of the file system. Names and sizes stand for the contents, which would
    # take reading hundreds of files at every start.
    files = sorted(_source_files(folder))
    listed = json.dumps([platform.python_version(), [(name, size) for name, size in files]])
    key = hashlib.sha256(listed.encode()).hexdigest()[:16]
    cached = cache_folder() / f"python-source-{key}.bin"
    found = read_cached(cached)
    if found is None:
        text = _assembled(folder, [name for name, _ in files])
        found = _kept(text, cached)
    return found


def cache_folder() -> pathlib.Path:
    """Where limjax keeps what it can make again: `$XDG_CACHE_HOME/limjax`, by default `~/.cache/limjax`."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    # The specification: a path that is not absolute is to be ignored.
    base = pathlib.Path(given) if os.path.isabs(given) else pathlib.Path.home() / ".cache"
    return base / "limjax"


def read_cached(path: pathlib.Path) -> Text | None:
    """The text in a file of `write_cached`, memory-mapped.

    Args:
        path: the file.

    Returns:
        The text, or None if there is none or its checksum is another.
    """
    try:
        with open(path, "rb") as file:
            header = json.loads(file.read(_HEADER))
        content = np.memmap(path, np.uint8, mode="r", offset=_HEADER)
        train, files, digest = (header[name] for name in ("train", "files", "sha256"))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    # The checksum is of the bytes, and says nothing of where they are parted.
    if not (is_whole(train) and is_whole(files) and 0 < train < content.size):
        return None
    text = Text(content[:train], content[train:], files, digest)
    return text if _digest(text.train, text.test) == digest else None


def write_cached(text: Text, path: pathlib.Path) -> None:
    """Writes a text in one piece, a header of 1024 bytes before it.

    Args:
        text: the text.
        path: the file; its folder is made.

    Raises:
        OSError: if it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    header = json.dumps({"train": text.train.size, "files": text.files, "sha256": text.sha256}).encode()

    def write(file):
        # JSON does not mind the blanks after it.
        file.write(header.ljust(_HEADER))
        file.write(text.train.data)
        file.write(text.test.data)

    write_whole(path, write)


def _kept(text: Text, path: pathlib.Path) -> Text:
    try:
        write_cached(text, path)
    except (OSError, RuntimeError):  # a home without a place to write, or no home
        return text
    # Mapped, so that the assembled text can leave the memory; as it is where the file cannot be read again.
    return read_cached(path) or text


def _source_files(folder: pathlib.Path) -> Iterator[tuple[str, int]]:
    """Names and sizes of the library's own files."""
    for here, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in _LEFT_OUT]
        for name in names:
            path = pathlib.Path(here, name)
            if path.suffix == ".py" and path.is_file():
                yield path.relative_to(folder).as_posix(), path.stat().st_size


def _assembled(folder: pathlib.Path, names: list[str]) -> Text:
    def place(name: str) -> bytes:
        return hashlib.sha256(name.encode()).digest()

    seen, parts = set(), ([], [])
    for name in sorted(names, key=place):
        content = (folder / name).read_bytes()
        same = hashlib.sha256(content).digest()
        if content and same not in seen:
            seen.add(same)
            # The hash's first bytes decide the order and its last one the part: one does not follow from the other.
            parts[place(name)[-1] % _TEST_SHARE == 0].append(content)
    train, test = (np.frombuffer(b"".join(part), np.uint8) for part in parts)
    if train.size < _LEAST_BYTES or not test.size:
        raise ValueError(
            f"The language tasks read the source text of Python's standard library, but {folder} holds only {train.size:,} bytes of "
            "it. Use a Python that ships its .py files."
        )
    return Text(train, test, len(seen), _digest(train, test))


def _digest(train: np.ndarray, test: np.ndarray) -> str:
    hashed = hashlib.sha256(train.data)
    hashed.update(test.data)
    return hashed.hexdigest()
