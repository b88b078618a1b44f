"""What made a run's numbers: versions and the machine."""

import importlib
import os
import platform
from importlib import metadata
from typing import Any

import jax


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that determine a run's numbers."""
    packages = ("limjax", "jax", "jaxlib", "equinox", "optax", "numpy")
    return {"python": platform.python_version(), **{name: _version(name) for name in packages}}


def _version(name: str) -> str:
    """That of the module which runs, whether it was installed or lies in a folder on the path."""
    return getattr(importlib.import_module(name), "__version__", None) or metadata.version(name)


def device_name() -> str:
    """Platform and kind of the first device."""
    device = jax.devices()[0]
    return f"{device.platform}:{device.device_kind}"


def machine() -> dict[str, Any]:
    """Device, cores and versions, to be stored beside every number."""
    return {
        "device": device_name(),
        "devices": jax.device_count(),
        # Those that this process may use: under taskset or in a cpuset fewer than the machine has.
        "cpu_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "versions": versions(),
    }
