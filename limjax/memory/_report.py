"""What a run dissipated, as an object that is printed, saved, or read by name."""

import dataclasses
import io
import math
import os
import textwrap
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from limjax._files import local_path, without_nan, write_json
from limjax.memory._layer_report import LayerReport, short, short_work, span
from limjax.memory._pulse_report import PulseReport
from limjax.memory.comparisons._names import comparison_words
from limjax.physics.units import LN2

# Where a comparison's name is broken in a header, and what is left of a layer's name on a narrow page.
_HEADER_WIDTH, _NAME_WIDTH = 14, 12


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
        return None if bound is None else self.total.energy_kt / max(self.total.parameters, 1) / bound

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
            "joules_per_kt": self.joules_per_kt,
            "has_range": self.has_range,
            "barrier_clipped_fraction": self.barrier_clipped_fraction,
            "shallow_fraction": self.shallow_fraction,
            "warnings": list(self.warnings),
            **({} if self.device is None else self.device.to_dict()),
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Report":
        """The report that `to_dict` was of, but for what the pulses of a device took.

        Args:
            content: of `to_dict`, or a file of `save`.

        Returns:
            The report.

        Raises:
            KeyError: if something of it is missing.

        Example:
            >>> import jax.numpy as jnp, optax, limjax
            >>> params, cell = {"w": jnp.ones(3)}, limjax.ArrheniusCell()
            >>> opt = limjax.learning_in_memory(optax.sgd(0.1), cell, limjax.StaticBarrier(10.0))
            >>> one = limjax.report(limjax.get_ledger(opt.init(params)), params, cell)
            >>> limjax.Report.from_dict(one.to_dict()) == one
            True
        """
        return cls(
            layers=tuple(LayerReport(**_read(LayerReport, row)) for row in content["layers"]),
            total=LayerReport(**_read(LayerReport, content["total"])),
            comparisons={
                name: math.nan if cost is None else cost for name, cost in dict(content["comparisons_kt"]).items()
            },
            warnings=tuple(content["warnings"]),
            **_read(cls, content, {"layers", "total", "comparisons", "warnings", "device"}),
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes `to_dict` as JSON, in one piece: a link is replaced.

        What is not finite is null there; `from_dict` takes it for NaN where a number has to be.

        Args:
            path: file to write; its folder must exist.

        Raises:
            ValueError: for an address of a server, which is no path of this machine.
            OSError: if the file cannot be written; one that was there before is then as it was.
        """
        write_json(local_path(path, "path"), without_nan(self.to_dict()))

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
                ratio = cost / max(self.total.energy_kt, 1e-300)
                cells = f"  {name}", f"{short(cost / n)} kT", f"{short(ratio)}x", comparison_words(name) or ""
                others.add_row(*map(Text, cells), style="bold" if name == self.compared_with else "")
            yield others
        after = [
            Text(
                f"Landauer line (ln 2 per parameter and step): {short(LN2 * self.steps)} kT, "
                f"{short(self.landauer_kt * self.joules_per_kt)} J"
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
            after.append(Text(f"Heat of the hops drawn ({meaning}): {short(self.realised_kt / n)} kT per parameter."))
        if self.optimizer_kt is not None:
            share = self.optimizer_kt / max(self.total.parameters, 1)
            after.append(Text(f"Optimizer state, charged apart: {short(share)} kT per parameter."))
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
        kelvin = span([row.temperature for row in self.layers] or [self.temperature], "g")
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
            f"A bowl whose loss falls {short(self.loss_ratio or 0.0)} times needs 2 ln(L0/LT) = {short(bound)} kT; this run took "
            f"{short(above)} times that. A yardstick, not a bound of the network{'' if above >= 1 else ', which may take less'}."
        )

    def _cells(self, row: LayerReport) -> list[str]:
        n = max(row.parameters, 1)
        useful = row.useful_fraction
        cells = [
            row.name,
            f"{row.parameters:,}",
            short(row.path_levels / n),
            "-" if row.net_levels is None else short(row.net_levels / n),
            "-" if useful is None else f"{100 * useful:.3g}%",
            short(row.heat_kt / n),
            f"{row.heat_joules:.2e}",
            short_work(row.actuation_kt / n),
        ]
        if self.compared_with is not None:
            other, ratio = row.compared_kt, row.ratio
            cells += ["-" if other is None else short(other / n), "-" if ratio is None else f"{short(ratio)}x"]
        return cells

    def __str__(self) -> str:
        from rich.console import Console

        buffer = io.StringIO()
        Console(file=buffer, width=118, color_system=None).print(self)
        return buffer.getvalue().rstrip()


def _read(kind: type, content: Mapping[str, Any], beside: Collection[str] = ()) -> dict[str, Any]:
    """The fields of a record from JSON, which has null for a number that is not finite."""
    names = {field.name: field.type is float for field in dataclasses.fields(kind) if field.name not in beside}
    return {
        name: math.nan if content[name] is None and is_number else content[name] for name, is_number in names.items()
    }
