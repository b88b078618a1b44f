"""Memory on a CPU: whether freed pages go back to the system after every step."""

import ctypes
import sys

# Numbers of glibc's mallopt, from malloc.h.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8


def keep_freed_memory() -> bool:
    """Lets this process keep the memory it frees, so that a step on a CPU does not fetch its scratch page by page anew.

    XLA allocates the scratch of a compiled call when it starts and frees it when it ends. glibc hands every piece above
    32 MiB back to the system, and getting it again costs a page fault and a cleared page for each 4 KiB: half the time
    of a step at 1e7 parameters. Afterwards a call finds warm pages, and the process stays as large as it ever was.

    The `limjax` command does this for itself. In a script call it before the first large computation; it acts on the
    whole process, which is why importing limjax does not. Memory of GPUs and TPUs is not concerned.

    Returns:
        Whether it took effect: only with glibc, that is on most Linux systems.

    Source: mallopt(3). `benchmarks/allocator.py` measures what it saves.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    # One arena: large pieces that other threads free would otherwise still be returned.
    # No piece has a mapping of its own, which `free` would return at once, and the top of the heap is never trimmed.
    settings = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1), (_ARENA_MAX, 1))
    # A list, so that the others are set where one fails.
    return all([mallopt(name, value) == 1 for name, value in settings])
