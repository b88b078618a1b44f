"""Power laws of what measured trainings cost per parameter, with bootstrapped bands and a check on the largest size."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from jaxtyping import Float

from limjax.numerics._present_names import per_parameter, with_present_names
from limjax.numerics.checks import is_real, positive_number, whole_number

QUANTITIES = ("energy_kt_per_parameter", "heat_kt_per_parameter", "effective_updates", "law_kt_per_parameter")
"""What is fitted, each per parameter."""
EARLIER = per_parameter("heat_kt", "actuation_kt", "energy_kt", "law_kt", "convergence_kt")
"""Names that earlier versions of `limjax scale` gave to these numbers."""
_RESAMPLES = 2000
_ROUNDING = 0.1  # in logarithms: a whole number of steps of a short run is not quite 20 tokens per parameter
_AXES = ("parameters", "tokens_per_parameter", "batch_tokens", "lsb")


@dataclass(frozen=True)
class MeasuredRun:
    """One measured training, by what fits need; quantities are means per parameter.

    Attributes:
        parameters: N.
        tokens: tokens seen.
        batch_tokens: tokens per optimizer step.
        lsb: one level [weight/level].
        seed: of the run.
        heat_kt_per_parameter: update heat [kT].
        actuation_kt_per_parameter: barrier work [kT].
        effective_updates: gradients that had to be averaged.
        law_kt_per_parameter: 2 ln(L0/LT) + 2 × effective updates [kT].
        loss: test loss of the memory.
        plain_loss: test loss of the same run without a memory.

    Raises:
        ValueError: if a number is missing or is not positive; barrier work and effective updates may be 0.
    """

    parameters: int
    tokens: float
    batch_tokens: float
    lsb: float
    seed: int
    heat_kt_per_parameter: float
    actuation_kt_per_parameter: float
    effective_updates: float
    law_kt_per_parameter: float
    loss: float
    plain_loss: float

    def __post_init__(self):
        for name, value in vars(self).items():
            if name in ("parameters", "seed"):
                whole_number(value, name, 0 if name == "seed" else 1)
            # A barrier that stands does no work, and a full gradient leaves nothing to average.
            elif name not in ("actuation_kt_per_parameter", "effective_updates") or value != 0:
                object.__setattr__(self, name, positive_number(value, name))

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "MeasuredRun":
        """A run as `limjax scale` wrote it, of this version or an earlier one, with whatever else it wrote.

        Args:
            content: numbers by name.

        Returns:
            The run.

        Raises:
            ValueError: if one is missing or wrong; the message names it.
        """
        content, names = with_present_names(content, EARLIER), [field.name for field in fields(cls)]
        missing = [name for name in names if name not in content]
        if missing:
            raise ValueError(f"A measured run lacks {', '.join(missing)}; `limjax scale` writes runs that hold them.")
        whole = ("parameters", "seed")
        return cls(**{name: content[name] if name in whole else _as_float(content[name]) for name in names})

    @property
    def energy_kt_per_parameter(self) -> float:
        """Heat and barrier work [kT]."""
        return self.heat_kt_per_parameter + self.actuation_kt_per_parameter

    @property
    def steps(self) -> float:
        """Optimizer steps."""
        return self.tokens / self.batch_tokens

    @property
    def energy_kt_per_step(self) -> float:
        """Heat and barrier work of one optimizer step [kT]."""
        return self.energy_kt_per_parameter / self.steps

    @property
    def tokens_per_parameter(self) -> float:
        """Tokens seen for each parameter."""
        return self.tokens / self.parameters


def kt_per_step(runs: Sequence[MeasuredRun]) -> tuple[float, float, float]:
    """What a step cost in these runs: geometric mean, least and greatest [kT]."""
    steps = np.array([run.energy_kt_per_step for run in runs])
    return float(np.exp(np.log(steps).mean())), float(steps.min()), float(steps.max())


def _as_float(value: Any) -> Any:
    """A whole number as a float; what is no number is left for the check to name."""
    return float(value) if isinstance(value, int) and is_real(value) else value


@dataclass(frozen=True, eq=False)
class GrowthFit:
    r"""A power law of what training costs per parameter, with a bootstrapped band.

    $$ y = y_0\,(N/N_0)^p \prod_x (x/x_0)^{q_x} $$

    with x those of tokens per parameter, tokens per batch and lsb that vary among the runs. The draws are fits to runs drawn again:
    sizes with replacement, and seeds within each.

    Attributes:
        quantity: what was fitted.
        exponents: powers by name, `parameters` first.
        centre: geometric means of the runs, by name.
        log_centre: ln y at the centre.
        draws: `(ln y at the centre, powers)` of every resample.
        confidence: of the bands.
        sizes: the numbers of parameters that were measured.
    """

    quantity: str
    exponents: dict[str, float]
    centre: dict[str, float]
    log_centre: float
    draws: Float[np.ndarray, "resamples coefficients"]
    confidence: float
    sizes: tuple[int, ...]

    def predict(self, parameters: float, **others: float) -> tuple[float, float, float]:
        """The power law and its band.

        Args:
            parameters: N.
            **others: `tokens_per_parameter`, `batch_tokens` or `lsb` where they were fitted; their means if left out.

        Returns:
            `(value, low, high)` per parameter.

        Raises:
            ValueError: if a number is not positive.
        """
        at = {**self.centre, **others, "parameters": parameters}
        distance = np.array([math.log(positive_number(at[name], name) / self.centre[name]) for name in self.exponents])
        values = np.array([self.log_centre, *self.exponents.values()])
        logs = self.draws @ np.concatenate([[1.0], distance])
        low, high = np.quantile(logs, [0.5 - self.confidence / 2, 0.5 + self.confidence / 2])
        middle = float(values[0] + values[1:] @ distance)
        # A band of quantiles of few runs need not hold the fit itself.
        return math.exp(middle), math.exp(min(low, middle)), math.exp(max(high, middle))

    def band(self, name: str = "parameters") -> tuple[float, float]:
        """The confidence interval of a power."""
        column = self.draws[:, 1 + list(self.exponents).index(name)]
        low, high = np.quantile(column, [0.5 - self.confidence / 2, 0.5 + self.confidence / 2])
        return min(float(low), self.exponents[name]), max(float(high), self.exponents[name])

    def extrapolation(self, parameters: float) -> float:
        """How many times a size is outside the measured ones; 1 inside."""
        return max(parameters / max(self.sizes), min(self.sizes) / parameters, 1.0)

    def as_dict(self) -> dict[str, Any]:
        """Powers with their intervals, ready for JSON."""
        return {
            "exponents": {name: [value, *self.band(name)] for name, value in self.exponents.items()},
            "centre": self.centre,
            "value_at_centre": math.exp(self.log_centre),
            "confidence": self.confidence,
            "resamples": len(self.draws),
        }


def fit_growth(
    runs: Sequence[MeasuredRun], quantity: str = "energy_kt_per_parameter", confidence: float = 0.95
) -> GrowthFit:
    """Fits a power law of the number of parameters, and of what else varies, by least squares in logarithms.

    With three or four sizes the resampled sizes know little of how far a power law may bend: the band is that of the runs, not
    of what lies beyond them.

    Args:
        runs: measured runs of at least two sizes.
        quantity: `energy_kt_per_parameter`, `heat_kt_per_parameter`, `effective_updates` or `law_kt_per_parameter`.
        confidence: of the bands, between 0 and 1.

    Returns:
        The fit.

    Raises:
        ValueError: if there are fewer sizes, the quantity is unknown, 0 or less somewhere, or does not vary by itself.

    Cost: 2,000 least-squares problems, a tenth of a second.

    Example:
        >>> kt = ("actuation_kt_per_parameter", "law_kt_per_parameter")
        >>> rest = dict.fromkeys((*kt, "effective_updates", "loss", "plain_loss", "batch_tokens", "lsb"), 0.001)
        >>> def run(n):
        ...     return MeasuredRun(n, tokens=20.0 * n, seed=0, heat_kt_per_parameter=n**0.5, **rest)
        >>> runs = [run(n) for n in (10**4, 10**5, 10**6)]
        >>> fit = fit_growth(runs)
        >>> f"{fit.exponents['parameters']:.3f}, {fit.predict(1e8)[0]:.0f} kT"
        '0.500, 10000 kT'
    """
    if quantity not in QUANTITIES:
        raise ValueError(f"quantity must be one of {', '.join(QUANTITIES)}, got {quantity!r}.")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, got {confidence!r}.")
    sizes = sorted({run.parameters for run in runs})
    if len(sizes) < 2:
        raise ValueError(
            f"A power law needs runs of at least two sizes, got {len(sizes)}: measure another with --sizes."
        )
    values = np.array([getattr(run, quantity) for run in runs])
    if not (values > 0).all():
        raise ValueError(f"{quantity} must be positive in every run for a power law, got {values.min():g}.")
    columns = {name: np.log([getattr(run, name) for run in runs]) for name in _AXES}
    # Sizes differ by choice, not by rounding, however close they are.
    varied = [name for name in _AXES if name == "parameters" or np.ptp(columns[name]) > _ROUNDING]
    # Centred, the constant is ln y at the centre, and logarithms far from 0 do not spoil the rank below.
    centred = np.stack([columns[name] - columns[name].mean() for name in varied], axis=1)
    design, target = np.insert(centred, 0, 1.0, axis=1), np.log(values)
    # Of the products, as for the draws below: of sizes a billionth apart none would be left.
    if np.linalg.matrix_rank(design.T @ design, hermitian=True) < design.shape[1]:
        raise ValueError(
            f"{', '.join(varied)} vary together in these runs, or hardly: their powers cannot be told apart."
        )
    found = np.linalg.lstsq(design, target)[0]
    members = [np.flatnonzero([run.parameters == size for run in runs]) for size in sizes]
    return GrowthFit(
        quantity=quantity,
        exponents=dict(zip(varied, found[1:].tolist())),
        centre={name: math.exp(columns[name].mean()) for name in _AXES},
        log_centre=float(found[0]),
        draws=_resampled(design, target, members),
        confidence=confidence,
        sizes=tuple(sizes),
    )


def _resampled(design: np.ndarray, target: np.ndarray, members: list[np.ndarray]) -> np.ndarray:
    """The coefficients of runs drawn again, sizes first and then seeds within each; always the same draws."""
    rng, count, rows = np.random.default_rng(0), len(members), np.arange(_RESAMPLES)
    lengths = np.array([len(member) for member in members])
    # Rows filled up to one length by repetition; no draw below reaches the filling.
    table = np.array([np.resize(member, lengths.max()) for member in members])
    # How often a draw holds a run: least squares with these weights is that over the runs repeated.
    times = np.zeros((_RESAMPLES, len(target)))
    for slot in range(count):
        # Of two sizes half of the draws would hold one alone, which has no power: both stay, and seeds are drawn.
        sizes = rng.integers(count, size=_RESAMPLES) if count > 2 else np.full(_RESAMPLES, slot)
        for k in range(lengths.max()):
            drawn = table[sizes, rng.integers(lengths[sizes])]
            # A size with fewer seeds is drawn from as often as it has seeds, not as often as the largest.
            times[rows, drawn] += k < lengths[sizes]
    # Normal equations: at most five centred columns, and one batched call for all draws instead of one `lstsq` each.
    products = np.einsum("rn,ni,nj->rij", times, design, design)
    # Some draws hold one size alone, or one lsb: no power follows from them.
    kept = np.linalg.matrix_rank(products, hermitian=True) == design.shape[1]
    sides = np.einsum("rn,ni,n->ri", times, design, target)
    return np.linalg.solve(products[kept], sides[kept][..., None])[..., 0]


@dataclass(frozen=True)
class LeaveLargestOut:
    """How well the smaller sizes foretell the largest.

    Attributes:
        parameters: the largest size.
        measured: mean over its seeds.
        predicted: by the fit to the smaller ones.
        low: lower end of its band.
        high: upper end.
    """

    parameters: int
    measured: float
    predicted: float
    low: float
    high: float

    @property
    def error(self) -> float:
        """Relative error of the prediction."""
        return self.predicted / self.measured - 1

    @property
    def is_within(self) -> bool:
        """Whether the measured value is within the band."""
        return self.low <= self.measured <= self.high

    def as_dict(self) -> dict[str, Any]:
        """All of it, ready for JSON."""
        return {**asdict(self), "error": self.error, "is_within": self.is_within}


def leave_largest_out(runs: Sequence[MeasuredRun], quantity: str = "energy_kt_per_parameter") -> LeaveLargestOut:
    """Predicts the largest size from the smaller ones.

    Args:
        runs: measured runs of at least three sizes.
        quantity: as in `fit_growth`.

    Returns:
        Prediction and measurement.

    Raises:
        ValueError: as `fit_growth` of the smaller ones.
    """
    largest = max((run.parameters for run in runs), default=0)
    last = [run for run in runs if run.parameters == largest]
    fit = fit_growth([run for run in runs if run.parameters < largest], quantity)
    # At the largest runs' own tokens, batches and lsb: only the step in size is put to the test.
    others = {name: float(np.exp(np.mean(np.log([getattr(run, name) for run in last])))) for name in _AXES[1:]}
    measured = float(np.mean([getattr(run, quantity) for run in last]))
    return LeaveLargestOut(largest, measured, *fit.predict(float(largest), **others))
