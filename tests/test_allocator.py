"""Freed memory is kept, where the C library can."""

import os
import subprocess
import sys

import pytest

from limjax import allocator

FAULTS = """
import resource, sys
import numpy as np
if sys.argv[1] == "kept":
    from limjax.allocator import keep_freed_memory
    assert keep_freed_memory()
counts = []
for _ in range(4):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.full(64 << 20, 1, np.uint8)
    counts.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(max(counts[1:]))
"""


def faults(which):
    # Where there are huge pages, NumPy's large arrays take 32 of them instead of 16,384 small ones.
    environment = os.environ | {"NUMPY_MADVISE_HUGEPAGE": "0"}
    run = subprocess.run(
        [sys.executable, "-c", FAULTS, which], env=environment, capture_output=True, text=True, check=True
    )
    return int(run.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mallopt is glibc's")
def test_a_second_large_array_costs_no_page_faults():
    assert faults("kept") < 100 < faults("returned")


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_elsewhere_it_says_so(platform, monkeypatch):
    monkeypatch.setattr(sys, "platform", platform)
    assert not allocator.keep_freed_memory()
