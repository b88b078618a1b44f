"""The ledger as a table: what each layer dissipated, what that bought, and what other memories would have cost."""

import collections
import dataclasses
import io
import json
import os
import pathlib
import textwrap
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from limjax.comparisons.names import STATIC, comparison_words
from limjax.ledger import Ledger, leaf_totals, one_member
from limjax.numerics.sums import CompensatedSum
from limjax.optimizer import get_memories
from limjax.physics.abstract_cell import AbstractCell
from limjax.physics.units import BOLTZMANN_J_PER_K, LN2
from limjax.pulse_report import PulseReport, pulse_report

# A run with more than this share of saturated or stopped parameter-steps is not what the model describes.
_TOLERATED_SHARE = 1e-3
_FEW_LEVELS = 0.02
# Columns of the table: where a comparison's name is broken in a header, and what is left of a layer's name on a narrow page.
_HEADER_WIDTH, _NAME_WIDTH = 14, 12
# Hops per parameter over the run from which on a layer at rest has moved.
_WALKED = 0.1


@dataclasses.dataclass(frozen=True)
class LayerReport:
    """One layer's sums.

    Attributes:
        name: path of the layer in the parameters.
        parameters: number of parameters.
        path_levels: requested path Σ|d| [levels], summed over the parameters.
        net_levels: displacement |end - start| [levels], summed over the parameters; None if the start is not kept.
        hops: mean number of hops ΣA.
        heat_kt: update heat [kT].
        actuation_kt: barrier work [kT].
        static_kt: heat and barrier work under a static barrier at ten years' retention [kT], or None if not compared.
        compared_kt: heat and barrier work of the cheapest comparison of the whole run [kT], or None without one.
        saturated_fraction: share of parameter-steps whose tilt exceeded the barrier.
        range_fraction: share of parameter-steps stopped at the end of the cell's range.
        temperature: mean temperature at which the heat went, weighted with it [K].
    """

    name: str
    parameters: int
    path_levels: float
    net_levels: float | None
    hops: float
    heat_kt: float
    actuation_kt: float
    static_kt: float | None
    compared_kt: float | None
    saturated_fraction: float
    range_fraction: float
    temperature: float

    @property
    def heat_joules(self) -> float:
        """Update heat [J]."""
        return self.heat_kt * BOLTZMANN_J_PER_K * self.temperature

    @property
    def useful_fraction(self) -> float | None:
        """Net displacement over hops: the share of the hops that training kept."""
        return None if self.net_levels is None else self.net_levels / max(self.hops, 1e-300)

    @property
    def ratio(self) -> float | None:
        """Cost of the cheapest comparison over the cost of this run."""
        return None if self.compared_kt is None else self.compared_kt / max(self.cost_kt, 1e-300)

    @property
    def cost_kt(self) -> float:
        """Heat and barrier work of this run [kT]."""
        return self.heat_kt + self.actuation_kt


@dataclasses.dataclass(frozen=True)
class Report:
    """What a run dissipated, per layer and in total. Print it, or use `to_dict` and `save`.

    Attributes:
        layers: one entry per layer.
        total: the sums over all layers.
        steps: number of steps.
        temperature: temperature of the cells [K]; where it differs, the mean weighted with the heat.
        joules_per_kt: k_B T [J].
        compared_with: name of the cheapest comparison, or None without one.
        comparisons: heat and barrier work of every comparison by name, the dearest first [kT].
        optimizer_kt: heat of the optimizer's own state [kT], or None if it was not charged.
        realised_kt: heat of the hops drawn [kT], or None without hop noise. Its mean is `total.heat_kt` for a cell without a
            range; hops stopped at the end of one are not in it, while requests are charged in full.
        has_range: whether the cell has a lowest and a highest level.
        barrier_clipped_fraction: share of parameter-steps whose barrier was clipped to the cell's range.
        shallow_fraction: share of parameter-steps with a barrier below 2 kT.
        loss_ratio: loss at the start over loss at the end, or None if it was not given.
        warnings: what makes the run doubtful, in words.
        device: what the pulses of a device took, or None for cells without pulses.
    """

    layers: tuple[LayerReport, ...]
    total: LayerReport
    steps: int
    temperature: float
    joules_per_kt: float
    compared_with: str | None
    comparisons: dict[str, float]
    optimizer_kt: float | None
    realised_kt: float | None
    has_range: bool
    barrier_clipped_fraction: float
    shallow_fraction: float
    loss_ratio: float | None
    warnings: tuple[str, ...]
    device: PulseReport | None = None

    @property
    def landauer_kt(self) -> float:
        """Landauer's line: ln 2 for one bit erased per parameter and step [kT]."""
        return LN2 * self.total.parameters * self.steps

    @property
    def bowl_bound_kt_per_parameter(self) -> float | None:
        """Least heat of a bowl whose loss falls as this run's did, 2 ln(L0/LT) [kT]; None if it did not fall or is not known.

        A yardstick, not a bound of the network: see `limjax.limits.bounds.convergence`.
        """
        if self.loss_ratio is None or not (np.isfinite(self.loss_ratio) and self.loss_ratio > 1):
            return None
        from limjax.limits import bounds  # not needed to train

        return float(bounds.convergence(self.loss_ratio))

    @property
    def above_bowl_bound(self) -> float | None:
        """Heat and barrier work per parameter over `bowl_bound_kt_per_parameter`."""
        bound = self.bowl_bound_kt_per_parameter
        return None if bound is None else self.total.cost_kt / max(self.total.parameters, 1) / bound

    def to_dict(self) -> dict[str, Any]:
        """All numbers under the names of the attributes, ready for JSON."""

        def layer(row: LayerReport) -> dict[str, Any]:
            return {
                **dataclasses.asdict(row),
                "heat_kt_per_parameter": row.heat_kt / max(row.parameters, 1),
                "heat_joules": row.heat_joules,
                "useful_fraction": row.useful_fraction,
                "ratio": row.ratio,
            }

        return {
            "steps": self.steps,
            "temperature": self.temperature,
            "compared_with": self.compared_with,
            "comparisons_kt": self.comparisons,
            "total": layer(self.total),
            "layers": [layer(row) for row in self.layers],
            "landauer_kt": self.landauer_kt,
            "landauer_bits_per_update": 1,
            "loss_ratio": self.loss_ratio,
            "bowl_bound_kt_per_parameter": self.bowl_bound_kt_per_parameter,
            "above_bowl_bound": self.above_bowl_bound,
            "optimizer_kt": self.optimizer_kt,
            "realised_kt": self.realised_kt,
            "barrier_clipped_fraction": self.barrier_clipped_fraction,
            "shallow_fraction": self.shallow_fraction,
            "warnings": list(self.warnings),
            **({} if self.device is None else self.device.to_dict()),
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes `to_dict` as JSON.

        Args:
            path: file to write; its folder must exist.

        Raises:
            OSError: if the file cannot be written.
        """
        pathlib.Path(path).write_text(json.dumps(self.to_dict(), indent=2) + "\n", encoding="utf-8")

    def __rich_console__(self, console: Any, options: Any):
        from rich.table import Table
        from rich.text import Text

        yield from self._tables(options.max_width)
        first = Text("All per parameter but joules.")
        n = max(self.total.parameters, 1)
        if self.comparisons:
            first.append(" What the same updates would have cost on other memories, and how many times this run:")
        yield first
        if self.comparisons:
            others = Table.grid(padding=(0, 1))
            for justify in ("left", "right", "right", "left"):
                others.add_column(justify=justify, overflow="fold", no_wrap=justify == "right")
            for name, cost in self.comparisons.items():
                ratio = cost / max(self.total.cost_kt, 1e-300)
                cells = f"  {name}", f"{_short(cost / n)} kT", f"{_short(ratio)}x", comparison_words(name) or ""
                others.add_row(*map(Text, cells), style="bold" if name == self.compared_with else "")
            yield others
        after = [
            Text(
                f"Landauer line (ln 2 per parameter and step): {_short(LN2 * self.steps)} kT, "
                f"{_short(self.landauer_kt * self.joules_per_kt)} J"
            )
        ]
        if self.loss_ratio is not None:
            after.append(Text(self._yardstick()))
        if self.realised_kt is not None:
            meaning = (
                "those stopped at the end of the range are not in it, but requests are charged in full above"
                if self.has_range
                else "its mean is the heat above"
            )
            after.append(Text(f"Heat of the hops drawn ({meaning}): {_short(self.realised_kt / n)} kT per parameter."))
        if self.optimizer_kt is not None:
            share = self.optimizer_kt / max(self.total.parameters, 1)
            after.append(Text(f"Optimizer state, charged apart: {_short(share)} kT per parameter."))
        if self.device is not None:
            after.append(Text(str(self.device)))
        after.append(
            Text(
                "Model heat of the weight memory alone: computing gradients, reading and the controller are not in it."
            )
        )
        after += [Text(f"Warning: {warning}", style="yellow") for warning in self.warnings]
        yield from after

    def _tables(self, width: int):
        """The table per layer, in as many pieces as the width asks for: names of layers are folded, numbers never."""
        from rich.table import Table
        from rich.text import Text

        headers = [
            "param-\neters",
            "path\nlevels",
            "net\nlevels",
            "useful\nhops",
            "heat\nkT",
            "heat\nJ",
            "actua-\ntion kT",
        ]
        if self.compared_with is not None:
            headers += ["\n".join([*textwrap.wrap(self.compared_with, _HEADER_WIDTH), "kT"]), "ratio"]
        rows = [self._cells(row) for row in (*self.layers, self.total)]
        widths = [
            max(map(len, [*header.split("\n"), *(row[1 + i] for row in rows)])) for i, header in enumerate(headers)
        ]
        narrow = min(_NAME_WIDTH, max(len(row[0]) for row in rows))
        pieces, used = [[]], narrow + 2
        for i, size in enumerate(widths):
            if pieces[-1] and used + size + 1 > width:
                pieces, used = [*pieces, []], narrow + 2
            pieces[-1].append(i)
            used += size + 1
        kelvin = _span([row.temperature for row in self.layers] or [self.temperature], "g")
        title: Text | None = Text(f"Heat ledger after {self.steps:,} steps at {kelvin} K", "table.title")
        for piece in pieces:
            table = Table(title=title, title_justify="left", show_footer=False, padding=(0, 0), collapse_padding=True)
            title = None
            table.add_column("layer", overflow="fold")
            for i in piece:
                table.add_column(Text(headers[i]), justify="right", no_wrap=True, min_width=widths[i])
            for k, row in enumerate(rows):
                if k == len(self.layers):
                    table.add_section()
                style = "bold" if k == len(self.layers) else ""
                table.add_row(Text(row[0]), *(row[1 + i] for i in piece), style=style)
            yield table

    def _yardstick(self) -> str:
        bound, above = self.bowl_bound_kt_per_parameter, self.above_bowl_bound
        if bound is None or above is None:
            return "The loss did not fall, or is not a positive number: no bowl to compare with."
        return (
            f"A bowl whose loss falls {_short(self.loss_ratio or 0.0)} times needs 2 ln(L0/LT) = {_short(bound)} kT; this run is "
            f"{_short(above)} times above. A yardstick, not a bound of the network."
        )

    def _cells(self, row: LayerReport) -> list[str]:
        n = max(row.parameters, 1)
        useful = row.useful_fraction
        cells = [
            row.name,
            f"{row.parameters:,}",
            _short(row.path_levels / n),
            "-" if row.net_levels is None else _short(row.net_levels / n),
            "-" if useful is None else f"{100 * useful:.3g}%",
            _short(row.heat_kt / n),
            f"{row.heat_joules:.2e}",
            _short(row.actuation_kt / n),
        ]
        if self.compared_with is not None:
            other, ratio = row.compared_kt, row.ratio
            cells += ["-" if other is None else _short(other / n), "-" if ratio is None else f"{_short(ratio)}x"]
        return cells

    def __str__(self) -> str:
        from rich.console import Console

        buffer = io.StringIO()
        Console(file=buffer, width=118, color_system=None).print(self)
        return buffer.getvalue().rstrip()


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
    parts = [_Part(*memory, params, start) for memory in _memories(ledger, cell)]
    order = {path: i for i, (path, _) in enumerate(_flatten(params))}
    rows = sorted(
        (order[path], part, i) for part in range(len(parts)) for i, (path, _) in enumerate(parts[part].leaves)
    )
    leaves = [parts[part].leaves[i] for _, part, i in rows]
    names = [name for name in parts[0].columns if all(name in part.columns for part in parts)]
    column = {name: np.array([parts[part].columns[name][i] for _, part, i in rows]) for name in names}
    compared = [name.removeprefix("compare/") for name in names if name.startswith("compare/")]
    dearest_first = sorted(compared, key=lambda name: -float(column[f"compare/{name}"].sum()))
    comparisons = {name: float(column[f"compare/{name}"].sum()) for name in dearest_first}
    compared_with = min(comparisons, key=lambda name: comparisons[name], default=None)

    def row(name: str, index: np.ndarray) -> LayerReport:
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

    groups: dict[Any, list[int]] = {}
    for i, (path, _) in enumerate(leaves):
        groups.setdefault(layer_path(path), []).append(i)
    layer_names = [name or "parameters" for name in leaf_names(list(groups))]
    layers = tuple(row(name, np.array(index)) for name, index in zip(layer_names, groups.values()))
    total = row("total", np.arange(len(leaves)))
    parameter_steps = max(float(column["parameter_steps"].sum()), 1)
    charged = [part.ledger.optimizer_heat for part in parts if part.ledger.optimizer_heat is not None]
    clipped, shallow = float(column["barrier_clipped"].sum()), float(column["shallow"].sum())
    device = pulse_report([part.ledger for part in parts], total.heat_joules, total.parameters)
    warnings = [*_warnings(layers, total, parts, clipped, shallow), *(() if device is None else device.warnings())]
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
        barrier_clipped_fraction=clipped / parameter_steps,
        shallow_fraction=shallow / parameter_steps,
        loss_ratio=None if loss_ratio is None else float(loss_ratio),
        warnings=tuple(warnings),
        device=device,
    )


def _temperature(sums: dict[str, float]) -> float:
    """Mean temperature, weighted with the heat; of a layer that dissipated nothing the mean over its cells [K]."""
    mean = sums["kelvin"] / max(sums["parameters"], 1)
    weighted = sums["heat_kelvin"] / sums["heat"] if sums["heat"] > 0 else mean
    # Two float32 sums know their ratio to some 1e-6: cells that never changed have the temperature they say.
    return mean if abs(weighted - mean) < 1e-5 * mean else weighted


class _Part:
    """One memory of a run: its ledger's sums, one number for each of its parameter arrays.

    Args:
        ledger: its ledger.
        cell: its cell.
        params: the parameters at the end, of this and perhaps of other memories.
        start: the parameters at the start, or None if the ledger keeps them.
    """

    def __init__(self, ledger: Ledger, cell: AbstractCell, params: PyTree, start: PyTree | None):
        one_member(ledger)
        self.ledger, self.cell, self.steps = ledger, cell, int(ledger.steps)
        self.leaves = _matching_leaves(ledger, params)
        sizes = np.array([np.size(leaf) for _, leaf in self.leaves], np.float64)
        kept = ("path", "hops", "heat", "heat_kelvin", "actuation", "saturated", "barrier_clipped", "shallow")
        self.columns = {name: leaf_totals(ledger, name) for name in kept}
        self.columns |= {"parameters": sizes, "parameter_steps": sizes * self.steps}
        self.columns["kelvin"] = sizes * np.mean(np.asarray(cell.temperature, np.float64))
        stopped = ledger.range_clipped is not None
        self.columns["range_clipped"] = leaf_totals(ledger, "range_clipped") if stopped else np.zeros_like(sizes)
        if ledger.realised_heat is not None:
            self.columns["realised_heat"] = leaf_totals(ledger, "realised_heat")
        start = ledger.start if start is None else start
        if start is not None:
            first = dict(_flatten(start))
            lsb = np.asarray(cell.lsb, np.float64)
            moved = [(np.abs(_wide(leaf) - _wide(first[path])) / lsb).sum() for path, leaf in self.leaves]
            self.columns["net"] = np.array(moved)
        for name, sums in ledger.compare.items():
            self.columns[f"compare/{name}"] = _vector(sums.heat) + _vector(sums.actuation)


def _memories(ledger: Ledger | PyTree, cell: AbstractCell | None) -> list[tuple[Ledger, AbstractCell]]:
    """Ledgers and their cells, from a ledger and a cell or from a state."""
    if isinstance(ledger, Ledger):
        if cell is None:
            raise ValueError(
                "A ledger alone does not know its cell: report(ledger, params, cell), or report(state, params) with the whole "
                "state of the optimizer."
            )
        return [(ledger, cell)]
    found = list(get_memories(ledger).values())
    if not found:
        raise ValueError(
            "There is no limjax state in this: pass the state that `optimizer.init` or `optimizer.update` returned, or a ledger and "
            "its cell."
        )
    if cell is not None and len(found) > 1:
        raise ValueError(f"This state holds {len(found)} memories, which know their own cells: report(state, params).")
    return [(memory.ledger, memory.cell if cell is None else cell) for memory in found]


def layer_path(path: Any) -> Any:
    """The layer a leaf belongs to: its path without the last key, or the whole path if that is all there is."""
    # Flax NNX wraps each array in a variable, whose content is one key deeper.
    path = path[:-1] if len(path) > 1 and getattr(path[-1], "name", None) == "value" else path
    return path[:-1] if len(path) > 1 else path


def leaf_names(paths: list[Any]) -> list[str]:
    """Paths in a tree as names with slashes, no two of them equal: where keys hold slashes, some are written in full.

    Args:
        paths: as `jax.tree_util.tree_flatten_with_path` gives them.

    Returns:
        A name for each.

    Example:
        >>> import jax
        >>> tree = {"a": {"b": 1.0, "c": 2.0}, "a/b": 3.0}
        >>> leaf_names([path for path, _ in jax.tree_util.tree_flatten_with_path(tree)[0]])
        ["['a']['b']", 'a/c', "['a/b']"]
    """
    names = [jax.tree_util.keystr(path, simple=True, separator="/") for path in paths]
    counts = collections.Counter(names)
    return [name if counts[name] == 1 else jax.tree_util.keystr(path) for name, path in zip(names, paths)]


def _flatten(tree: PyTree):
    return jax.tree_util.tree_flatten_with_path(tree)[0]


def _matching_leaves(ledger: Ledger, params: PyTree):
    leaves = _flatten(params)
    kept = {path: leaf for path, leaf in _flatten(ledger.start)} if ledger.start is not None else None
    if kept is not None:
        # A masked ledger keeps only part of the parameters.
        leaves = [(path, leaf) for path, leaf in leaves if path in kept]
        wrong = [path for path, leaf in leaves if np.shape(leaf) != np.shape(kept[path])]
        if len(leaves) != len(kept) or wrong:
            where = jax.tree_util.keystr(wrong[0]) if wrong else f"{len(leaves)} of {len(kept)} arrays found"
            raise ValueError(
                f"These parameters do not fit the ledger ({where}): pass the parameters that the optimizer was "
                "initialised with, after training."
            )
    elif len(leaves) != ledger.hops.total.shape[0]:
        raise ValueError(
            f"The ledger has {ledger.hops.total.shape[0]} leaves but the parameters have {len(leaves)}: pass the "
            "parameters that the optimizer was initialised with."
        )
    return leaves


def _vector(entry: CompensatedSum) -> np.ndarray:
    return np.asarray(entry.float64(), np.float64)


def _warnings(layers, total, parts: list[_Part], clipped: float, shallow: float):
    n = max(total.parameters, 1)
    steps = max(*(part.steps for part in parts), 1)
    mean_request = total.path_levels / (n * steps)
    if total.path_levels == 0:
        yield "no parameter was asked to move: the updates were all zero."
    elif mean_request < _FEW_LEVELS:
        lsb = np.concatenate([np.ravel(np.asarray(part.cell.lsb, np.float64)) for part in parts])
        yield (
            f"the mean request is {mean_request:.1e} levels per step, far below one level, so most steps move nothing and "
            f"the hop noise dominates. Use a finer ladder (lsb below {lsb.min() * mean_request:.1e}, now {_span(lsb, '.1e')}) or "
            "larger steps."
        )
    walking = [
        row for row in layers if row.path_levels == 0 < total.path_levels and row.hops > _WALKED * row.parameters
    ]
    if walking:
        worst = max(walking, key=lambda row: row.hops / row.parameters)
        yield (
            f"{_names(walking)}: nothing was asked to move there, but hops scattered it by up to "
            f"{np.sqrt(worst.hops / worst.parameters):.3g} levels r.m.s. What shall not move keeps its barrier shut: "
            f"learning_in_memory(..., frozen=[{worst.name!r}])."
        )
    lost = [row for row in layers if row.net_levels == 0 and row.path_levels > row.parameters]
    if lost:
        yield (
            f"{_names(lost)}: updates of up to {max(_mean_path(row) for row in lost):.3g} levels were charged, but the weights stand "
            "where they started: something outside dropped them. What does not arrive must not be charged: pass frozen= to "
            "learning_in_memory, or use optax.multi_transform with optax.set_to_zero for those layers."
        )
    saturated = [row for row in layers if row.saturated_fraction > _TOLERATED_SHARE]
    if saturated:
        yield (
            f"{_names(saturated)}: in up to {100 * max(row.saturated_fraction for row in saturated):.3g} % of the updates "
            "the tilt exceeded the barrier, where the Arrhenius law ends, or was held by max_move, or a device was asked for more pulses than its driver gives. Raise attempt_rate or step_time, coarsen lsb, or "
            "lower the learning rate."
        )
    stopped = [row for row in layers if row.range_fraction > _TOLERATED_SHARE]
    if stopped:
        yield (
            f"{_names(stopped)}: up to {100 * max(row.range_fraction for row in stopped):.3g} % of the updates ended at "
            "the end of the cell's range. Use more bits or a coarser lsb."
        )
    if any(part.ledger.realised_heat is not None and part.ledger.pulses is None for part in parts):
        noisy = [row for row in layers if np.sqrt(row.hops / max(row.parameters, 1)) > _mean_path(row) > 0]
        if noisy:
            worst = max(noisy, key=lambda row: np.sqrt(row.hops / row.parameters) / _mean_path(row))
            yield (
                f"{_names(noisy)}: the hop noise ({np.sqrt(worst.hops / worst.parameters):.3g} levels r.m.s. over the run "
                f"in {worst.name}) is larger than the whole requested path ({_mean_path(worst):.3g} levels). Raise the "
                "barrier or use a finer lsb."
            )
    share = shallow / (n * steps)
    if share > 0.01:
        yield (
            f"the barrier was below 2 kT in {100 * share:.3g} % of the parameter-steps, where the ladder is a rough picture "
            "of the cell. Raise attempt_rate or step_time, so that the same exchange needs a higher barrier."
        )
    share = clipped / (n * steps)
    if share > 0.01:
        yield (
            f"the barrier was clipped to the cell's range ({_barriers(parts)} kT) in {100 * share:.3g} % of the parameter-steps."
        )
    weights = [(path, leaf, np.asarray(part.cell.lsb, np.float64)) for part in parts for path, leaf in part.leaves]
    for path, leaf, lsb in weights:
        exact = 2.0 ** (jnp.finfo(leaf.dtype).nmant + 1)
        top = float(np.max(np.abs(_wide(leaf)) / lsb, initial=0.0))
        if top > exact:
            yield (
                f"{jax.tree_util.keystr(path, simple=True, separator='/')}: {leaf.dtype} holds whole levels only up to "
                f"{exact:.0f}, but a weight stands at level {top:.0f}: single hops are lost. Keep a float32 copy or use "
                "a coarser lsb."
            )
            break


def _span(values, form: str) -> str:
    """One number, or the least and the greatest of several."""
    least, greatest = float(np.min(values)), float(np.max(values))
    return f"{least:{form}}" if least == greatest else f"{least:{form}} to {greatest:{form}}"


def _barriers(parts: list[_Part]) -> str:
    lowest = min(float(np.min(part.cell.min_barrier)) for part in parts)
    return f"{lowest:g} to {max(float(np.max(part.cell.max_barrier)) for part in parts):g}"


def _names(rows: list[LayerReport]) -> str:
    names = [row.name for row in rows]
    return ", ".join(names) if len(names) <= 4 else f"{', '.join(names[:3])} and {len(names) - 3} more"


def _mean_path(row: LayerReport) -> float:
    return row.path_levels / max(row.parameters, 1)


def _wide(x) -> np.ndarray:
    return np.asarray(jnp.asarray(x).astype(jnp.float32) if jnp.asarray(x).dtype == jnp.bfloat16 else x, np.float64)


def _short(x: float) -> str:
    if x == 0 or not np.isfinite(x):
        return f"{x:g}"
    return f"{x:,.0f}" if 1e3 <= abs(x) < 1e7 else f"{x:.3g}"
