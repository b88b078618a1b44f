"""What is trained: size, computation, data, precision and time, with what was given told from what was derived."""

from dataclasses import asdict, dataclass

from limjax.limits.scaling import ComputeOptimal, compute_optimal, get_law
from limjax.numerics.checks import positive_number, whole_number

UPDATES: dict[str, str] = {
    "flop": "every FLOP",
    "token": "token × parameter",
    "optimizer": "optimizer write",
}
"""What may count as one update of a weight, and how a table calls it."""

MAX_BITS = 32
# What is between a thought experiment and a slip of the finger; products of them stay within float64.
_RANGES = {
    "parameters": (1.0, 1e30),
    "flops": (1.0, 1e90),
    "tokens": (1.0, 1e60),
    "steps": (1.0, 1e60),
    "batch": (1.0, 1e30),
    "time": (1e-20, 1e20),
}
_AGREEMENT = 0.01


@dataclass(frozen=True)
class Workload:
    """One training, with everything the limits need to know about it.

    Give one of `flops`, `tokens` and `steps`, or none: then `scaling` says how much. Two may be given if they agree to
    1 % with flops = 6 × parameters × tokens and tokens = steps × batch.

    Args:
        parameters: number of trained weights.
        flops: operations of the whole training [FLOP].
        tokens: tokens (or examples) seen.
        steps: optimizer steps.
        batch: tokens per optimizer step.
        bits: precision of a stored weight, 1 to 32 [bits].
        updates: what counts as one update: `flop`, `token` (token × parameter) or `optimizer` (a write).
        time: duration of the training [s], or None where it does not matter.
        scaling: law used where none of flops, tokens and steps is given.

    Raises:
        ValueError: if a number is out of its range, a name unknown, or two numbers are in conflict.

    Example:
        >>> workload = Workload(1e15, updates="optimizer")
        >>> f"{workload.total_flops:.3g} FLOP, {workload.update_count:.3g} updates"
        '9.99e+27 FLOP, 3.01e+21 updates'
    """

    parameters: float
    flops: float | None = None
    tokens: float | None = None
    steps: float | None = None
    batch: float = 1e6
    bits: int = 8
    updates: str = "flop"
    time: float | None = None
    scaling: str = "kaplan"

    def __post_init__(self):
        remedies = {
            "parameters": "It is the number of trained weights, for example 1e15.",
            "flops": "It is the FLOP of the whole training, for example 1e28.",
            "tokens": "It is how many tokens are seen, for example 3e12.",
            "steps": "It is how many optimizer steps are taken, for example 1e6.",
            "batch": "It is tokens per optimizer step, for example 1e6.",
            "time": "It is the duration of the training in seconds; 90 days are 7.8e6.",
        }
        for name, remedy in remedies.items():
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, positive_number(value, name, remedy, *_RANGES[name]))
            elif name in ("parameters", "batch"):
                raise ValueError(f"{name} must be given. {remedy}")
        bits = int(self.bits) if isinstance(self.bits, float) and self.bits.is_integer() else self.bits
        object.__setattr__(self, "bits", whole_number(bits, "bits", 1, MAX_BITS))
        if self.updates not in UPDATES:
            raise ValueError(f"updates must be one of {', '.join(UPDATES)}, got {self.updates!r}.")
        get_law(self.scaling)
        self._check_conflicts()

    def _check_conflicts(self):
        said = {}
        if self.flops is not None:
            said[f"flops={self.flops:g} (over 6 × parameters)"] = self.flops / (6 * self.parameters)
        if self.tokens is not None:
            said[f"tokens={self.tokens:g}"] = self.tokens
        if self.steps is not None:
            said[f"steps={self.steps:g} (times batch {self.batch:g})"] = self.steps * self.batch
        if not said:
            return
        if max(said.values()) > (1 + _AGREEMENT) * min(said.values()):
            stated = " and ".join(f"{name} means {tokens:.4g} tokens" for name, tokens in said.items())
            raise ValueError(
                f"The workload is in conflict: {stated}, with flops = 6 × parameters × tokens. Give one of flops, tokens "
                "and steps, or numbers that agree to 1 %."
            )

    @property
    def optimum(self) -> ComputeOptimal | None:
        """What the scaling law says, or None where the workload was given."""
        if (self.flops, self.tokens, self.steps) != (None, None, None):
            return None
        return compute_optimal(self.parameters, self.scaling)

    @property
    def total_tokens(self) -> float:
        """Tokens seen: given, from steps or FLOP, or by the scaling law."""
        if self.tokens is not None:
            return self.tokens
        if self.steps is not None:
            return self.steps * self.batch
        if self.flops is not None:
            return self.flops / (6 * self.parameters)
        return compute_optimal(self.parameters, self.scaling).tokens

    @property
    def total_flops(self) -> float:
        """FLOP: given, 6 × parameters × tokens, or by the scaling law [FLOP]."""
        if self.flops is not None:
            return self.flops
        optimum = self.optimum
        return 6 * self.parameters * self.total_tokens if optimum is None else optimum.flops

    @property
    def total_steps(self) -> float:
        """Optimizer steps, at least one."""
        return self.steps if self.steps is not None else max(self.total_tokens / self.batch, 1.0)

    @property
    def update_count(self) -> float:
        """Updates of single weights over the training, as `updates` counts them."""
        if self.updates == "flop":
            return self.total_flops
        return self.parameters * (self.total_tokens if self.updates == "token" else self.total_steps)

    @property
    def convention(self) -> str:
        """Where the computation comes from and what counts as an update, in a few words."""
        optimum = self.optimum
        return f"{'given' if optimum is None else optimum.law.title}, {UPDATES[self.updates]}"

    @property
    def assumptions(self) -> str:
        """The same in one line with the range of the scaling law."""
        optimum = self.optimum
        amount = "computation as given" if optimum is None else optimum.note
        return f"{amount}; {UPDATES[self.updates]} is one update ({self.update_count:.3g} in all)"

    def as_dict(self) -> dict:
        """Everything given and derived, ready for JSON."""
        optimum = self.optimum
        return {
            **asdict(self),
            "flops": self.total_flops,
            "tokens": self.total_tokens,
            "steps": self.total_steps,
            "update_count": self.update_count,
            "scaling": None if optimum is None else self.scaling,
            "is_extrapolated": optimum is not None and optimum.is_extrapolated,
            "extrapolation": 1.0 if optimum is None else optimum.extrapolation,
            "assumptions": self.assumptions,
        }
