"""From a ledger to its report: what each layer dissipated, what that bought, and what other memories would have cost."""

from typing import Any

import numpy as np
from jaxtyping import Float, PyTree

from limjax.memory._layer_report import LayerReport
from limjax.memory._leaves import layer_path, leaf_names
from limjax.memory._ledger import Ledger
from limjax.memory._pulse_report import pulse_report
from limjax.memory._report import Report
from limjax.memory._report_parts import Part, flatten, memories_of
from limjax.memory._report_warnings import Evidence, warnings_of
from limjax.memory.comparisons._names import STATIC
from limjax.physics._abstract_cell import AbstractCell
from limjax.physics.units import BOLTZMANN_J_PER_K


def report(
    ledger: Ledger | PyTree,
    params: PyTree,
    cell: AbstractCell | None = None,
    *,
    start: PyTree | None = None,
    loss_ratio: float | None = None,
) -> Report:
    """A table of the ledger per layer, with warnings where a run cannot be what it should.

    Args:
        ledger: from `get_ledger(state)`; or the whole state of the optimizer, which knows its cells, for a joint table of all the
            memories in it (a cell and barrier for each layer, `optax.multi_transform`).
        params: the parameters at the end, of the structure the optimizer was initialised with.
        cell: the memory cell; needed for a ledger alone.
        start: the parameters at the start, for the net displacement; the ledger keeps them itself unless its
            granularity is "leaf".
        loss_ratio: loss at the start over loss at the end, L0/LT, both over the same examples; it prints the least heat of a bowl
            whose loss falls as much, 2 ln(L0/LT) per parameter.

    Returns:
        A `Report`; print it or call `.to_dict()` or `.save(path)`. Heat in joules is that of each step at its own temperature.

    Raises:
        ValueError: if the parameters do not fit the ledger, or a ledger comes without its cell.

    Example:
        >>> import jax.numpy as jnp, optax, limjax
        >>> cell = limjax.ArrheniusCell()
        >>> opt = limjax.learning_in_memory(optax.sgd(0.1), cell, limjax.StaticBarrier(10.0))
        >>> params = {"dense": {"w": jnp.ones(3)}}
        >>> updates, state = opt.update({"dense": {"w": jnp.ones(3)}}, opt.init(params), params)
        >>> limjax.report(limjax.get_ledger(state), optax.apply_updates(params, updates), cell).layers[0].name
        'dense'
    """
    parts = [Part(*memory, params, start) for memory in memories_of(ledger, cell)]
    leaves, column = _joined(parts, params)
    costs = {name.removeprefix("compare/"): float(v.sum()) for name, v in column.items() if name.startswith("compare/")}
    comparisons = dict(sorted(costs.items(), key=lambda item: -item[1]))
    # The cheapest over the whole run, for every layer alike: the ratio to any other would flatter (docs/ledger.md).
    compared_with = min(comparisons, key=lambda name: comparisons[name], default=None)

    groups: dict[Any, list[int]] = {}
    for i, path in enumerate(leaves):
        groups.setdefault(layer_path(path), []).append(i)
    layer_names = [name or "parameters" for name in leaf_names(list(groups))]
    layers = tuple(
        _row(name, column, np.array(index), compared_with) for name, index in zip(layer_names, groups.values())
    )
    total = _row("total", column, np.arange(len(leaves)), compared_with)
    parameter_steps = max(float(column["parameter_steps"].sum()), 1)
    clipped, shallow = (float(column[name].sum()) / parameter_steps for name in ("barrier_clipped", "shallow"))
    device = pulse_report([part.ledger for part in parts], total.heat_joules, total.parameters)
    found = warnings_of(Evidence(layers, total, parts, clipped, shallow))
    charged = [part.ledger.optimizer_heat for part in parts if part.ledger.optimizer_heat is not None]
    return Report(
        layers=layers,
        total=total,
        steps=max(part.steps for part in parts),
        temperature=total.temperature,
        joules_per_kt=BOLTZMANN_J_PER_K * total.temperature,
        compared_with=compared_with,
        comparisons=comparisons,
        optimizer_kt=sum(float(np.sum(heat.float64())) for heat in charged) if charged else None,
        realised_kt=float(column["realised_heat"].sum()) if "realised_heat" in column else None,
        has_range=any(part.ledger.range_clipped is not None for part in parts),
        barrier_clipped_fraction=clipped,
        shallow_fraction=shallow,
        loss_ratio=None if loss_ratio is None else float(loss_ratio),
        warnings=found if device is None else (*found, *device.warnings()),
        device=device,
    )


def _joined(parts: list[Part], params: PyTree) -> tuple[list[Any], dict[str, Float[np.ndarray, "leaves"]]]:
    """The paths of all memories' leaves in the order of the parameters, and their sums by name where every memory has them."""
    order = {path: i for i, (path, _) in enumerate(flatten(params))}
    rows = sorted((order[path], k, i) for k, part in enumerate(parts) for i, (path, _) in enumerate(part.leaves))
    names = [name for name in parts[0].columns if all(name in part.columns for part in parts)]
    column = {name: np.array([parts[k].columns[name][i] for _, k, i in rows]) for name in names}
    return [parts[k].leaves[i][0] for _, k, i in rows], column


def _row(name: str, column: dict[str, np.ndarray], index: np.ndarray, compared_with: str | None) -> LayerReport:
    """The sums of some leaves as one line."""
    at = {name: float(values[index].sum()) for name, values in column.items()}
    parameter_steps = max(at["parameter_steps"], 1)
    return LayerReport(
        name=name,
        parameters=int(at["parameters"]),
        path_levels=at["path"],
        net_levels=at.get("net"),
        hops=at["hops"],
        heat_kt=at["heat"],
        actuation_kt=at["actuation"],
        static_kt=at.get(f"compare/{STATIC}"),
        compared_kt=None if compared_with is None else at[f"compare/{compared_with}"],
        saturated_fraction=at["saturated"] / parameter_steps,
        range_fraction=at["range_clipped"] / parameter_steps,
        temperature=_temperature(at),
    )


def _temperature(sums: dict[str, float]) -> float:
    """Mean temperature, weighted with the heat; of a layer that dissipated nothing the mean over its cells [K]."""
    mean = sums["kelvin"] / max(sums["parameters"], 1)
    weighted = sums["heat_kelvin"] / sums["heat"] if sums["heat"] > 0 else mean
    # Two float32 sums know their ratio to some 1e-6: cells that never changed have the temperature they say.
    return mean if abs(weighted - mean) < 1e-5 * mean else weighted
