"""Where a command writes to: refused before any work."""

import os
import pathlib

from limjax import runs
from limjax._files import local_path


def kept_folder(out: str | None, marker: str, default_name: str) -> tuple[pathlib.Path, bool]:
    """A new folder, or that of work to go on with.

    Args:
        out: path the user asked for, or None.
        marker: file that such work keeps; a folder that has it goes on.
        default_name: name to number under `runs/` if no path was asked for.

    Returns:
        `(folder, is_new)`.

    Raises:
        ValueError: if the path holds something else, is no path of this machine, or cannot be written to.
    """
    if out is not None:
        folder = local_path(out, "--out")
        if folder.is_dir() and os.path.lexists(folder / marker):
            return folder, False
    return runs.new_folder(out, default_name), True


def new_file(text: str, option: str) -> pathlib.Path:
    """A file that can be made.

    Args:
        text: its path.
        option: what the user calls it.

    Returns:
        The path.

    Raises:
        ValueError: if it is there already, a link to nowhere included, or has no folder.
    """
    path = local_path(text, option)
    if os.path.lexists(path):
        raise ValueError(f"{option} {path} is there already and is not overwritten: give another name or move it away.")
    if not path.parent.is_dir():
        raise ValueError(f"{option} {path}: there is no folder {path.parent}; make it first.")
    return path


def new_picture(text: str, option: str) -> pathlib.Path:
    """`new_file` for a figure: matplotlib would add an ending where there is none, and write beside the name that was looked at."""
    if pathlib.Path(text).suffix not in (".png", ".pdf", ".svg"):
        raise ValueError(f"{option} must end in .png, .pdf or .svg, got {text}: that is the kind of figure it will be.")
    return new_file(text, option)
