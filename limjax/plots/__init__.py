"""Figures: they take results and return matplotlib figures, and compute nothing. The modules are there after `import limjax`."""

import importlib
from typing import Any

_MODULES = (
    "comparing",
    "consolidation",
    "devices",
    "gap",
    "law",
    "limits",
    "scaling",
    "simulation",
    "training",
    "tuning",
)


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        # On first use: `import limjax` loads no matplotlib.
        return importlib.import_module(f"limjax.plots.{name}")
    raise AttributeError(f"limjax.plots has no {name!r}; it has {', '.join(_MODULES)}.")


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
