"""From measured trainings of growing size to a larger one: what power laws of them say of 1e15 parameters."""

import json
import os
import pathlib
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from limjax.limits._growth import MeasuredRun, fit_growth, kt_per_step
from limjax.physics.units import thermal_energy_joules

SCALING_FILE = "scaling.json"
"""What `limjax scale` writes and `limjax limits --from` reads."""
_SHIPPED = pathlib.Path(__file__).with_name("catalogue") / "growth.json"


@dataclass(frozen=True)
class MeasuredLimit:
    """What measured trainings say about a larger one.

    Attributes:
        parameters: of the larger model.
        joules: heat and barrier work [J].
        low_joules: lower end of the band [J].
        high_joules: upper end [J].
        kt_per_parameter: the same per parameter [kT].
        exponent: power of the number of parameters in kT per parameter.
        exponent_low: lower end of its interval.
        exponent_high: upper end.
        kt_per_step: heat and barrier work per parameter and optimizer step, geometric mean of the runs [kT].
        kt_per_step_low: the least of the runs [kT].
        kt_per_step_high: the greatest [kT].
        step_joules: one step of the larger model, if it costs that mean there too, without any power law [J].
        law_joules: the law's 2 ln(L0/LT) + 2 n_eff by its own power law from the same runs [J].
        tokens_per_parameter: at which the runs were measured, or which were asked for.
        batch_tokens: tokens per step at which they were, or which were asked for.
        batch_exponent: power of the tokens per step, or None where the runs have one batch size.
        extrapolation: how many times beyond the measured sizes.
        sizes: the measured sizes.
        confidence: of the intervals.
    """

    parameters: float
    joules: float
    low_joules: float
    high_joules: float
    kt_per_parameter: float
    exponent: float
    exponent_low: float
    exponent_high: float
    kt_per_step: float
    kt_per_step_low: float
    kt_per_step_high: float
    step_joules: float
    law_joules: float
    tokens_per_parameter: float
    batch_tokens: float
    batch_exponent: float | None
    extrapolation: float
    sizes: tuple[int, ...]
    confidence: float

    @property
    def assumptions(self) -> str:
        """What it assumes, in one line."""
        batch = "" if self.batch_exponent is None else f" (their power {self.batch_exponent:.3f})"
        return (
            f"power law N^{self.exponent:.3f} ({self.exponent_low:.3f} to {self.exponent_high:.3f} at {100 * self.confidence:.0f} %) of heat and "
            f"barrier work per parameter over {min(self.sizes):,} to {max(self.sizes):,} parameters, {self.extrapolation:.1e} times beyond them "
            f"if it is continued; {self.tokens_per_parameter:.3g} tokens per parameter, {self.batch_tokens:,.0f} tokens per step{batch}, on which it "
            "depends; lsb, network and barrier as measured"
        )

    def as_dict(self) -> dict[str, Any]:
        """All of it, ready for JSON."""
        return {**asdict(self), "sizes": list(self.sizes), "assumptions": self.assumptions}

    def text(self, width: int = 100) -> str:
        """The same in a few lines.

        Args:
            width: columns of the terminal.

        Returns:
            Text without colours.
        """
        said = (
            f"Measured and continued: {self.joules:.3g} J ({self.low_joules:.2g} to {self.high_joules:.2g} J), {self.kt_per_parameter:.3g} kT per "
            f"parameter. The law by the same runs: {self.law_joules:.3g} J. Each step took {self.kt_per_step:.2g} kT per parameter "
            f"({self.kt_per_step_low:.2g} to {self.kt_per_step_high:.2g} over the runs): {self.step_joules:.2g} J for each step of the larger model, "
            f"if a step costs as much there. Assumed: {self.assumptions}. A larger model measured outside its "
            "band would refute it."
        )
        return textwrap.fill(said, max(width, 60))


def measured_limit(
    runs: Sequence[MeasuredRun],
    parameters: float,
    *,
    batch_tokens: float | None = None,
    temperature: float = 300.0,
    confidence: float = 0.95,
) -> MeasuredLimit:
    """Continues measured heat and barrier work to a larger model.

    Args:
        runs: measured runs of at least two sizes.
        parameters: of the larger model.
        batch_tokens: tokens per step of the larger training, where the runs have several batch sizes; None takes their mean.
        temperature: of its cells [K].
        confidence: of the band.

    Returns:
        The energy with its band.

    Raises:
        ValueError: as `fit_growth`, or for a batch size where all runs have one.
    """
    fit, kt = fit_growth(runs, "energy_kt_per_parameter", confidence), thermal_energy_joules(temperature)
    # `predict` takes only what was fitted: another batch size would be passed over in silence.
    if batch_tokens is not None and "batch_tokens" not in fit.exponents:
        raise ValueError(
            f"batch_tokens={batch_tokens:g} cannot be predicted from runs of one batch size: leave it out."
        )
    others = {} if batch_tokens is None else {"batch_tokens": batch_tokens}
    middle, low, high = fit.predict(parameters, **others)
    per_step, least, most = kt_per_step(runs)
    law = fit_growth(runs, "law_kt_per_parameter").predict(parameters, **others)[0]
    return MeasuredLimit(
        parameters=parameters,
        joules=middle * parameters * kt,
        low_joules=low * parameters * kt,
        high_joules=high * parameters * kt,
        kt_per_parameter=middle,
        exponent=fit.exponents["parameters"],
        exponent_low=fit.band()[0],
        exponent_high=fit.band()[1],
        kt_per_step=per_step,
        kt_per_step_low=least,
        kt_per_step_high=most,
        step_joules=per_step * parameters * kt,
        law_joules=law * parameters * kt,
        tokens_per_parameter=fit.centre["tokens_per_parameter"],
        batch_tokens=others.get("batch_tokens", fit.centre["batch_tokens"]),
        batch_exponent=fit.exponents.get("batch_tokens"),
        extrapolation=fit.extrapolation(parameters),
        sizes=fit.sizes,
        confidence=confidence,
    )


def read_measured(*paths: str | os.PathLike) -> list[MeasuredRun]:
    """The runs that `limjax scale` measured.

    Args:
        *paths: its folders, or the files `scaling.json` in them; none takes the runs that come with limjax, `limits/catalogue/growth.json`,
            which also says on what machine and text they were measured.

    Returns:
        The runs of all of them.

    Raises:
        ValueError: if it cannot be read or holds something else; the message says what.
    """
    return [run for path in paths or (_SHIPPED,) for run in _runs_in(pathlib.Path(path))]


def _runs_in(file: pathlib.Path) -> list[MeasuredRun]:
    file = file / SCALING_FILE if file.is_dir() else file
    remedy = f"Give --from the folder of `limjax scale`, or its {SCALING_FILE}."
    try:
        runs = json.loads(file.read_text(encoding="utf-8"))["runs"]
        return [MeasuredRun.from_json(run) for run in runs]
    except OSError as error:
        raise ValueError(f"{file} cannot be read: {error.strerror}. {remedy}") from None
    # Whatever JSON may hold in the place of runs: lists, texts, numbers beyond floats, objects nested too deeply.
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(f"{file} holds no measured runs ({error}). {remedy}") from None
