"""The optimizer's step alone, on one large array: every mode against bare Adam and a copy of memory."""

import functools
import statistics
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import PyTree

from limjax.barriers._base import AbstractBarrier
from limjax.barriers._lyapunov import LyapunovBarrier
from limjax.barriers._moment import MomentBarrier
from limjax.benchmarks._timing import interleaved, median_ratio
from limjax.memory import get_ledger, learning_in_memory, total
from limjax.memory._hops import HopsName
from limjax.physics._cell import ArrheniusCell

# Barrier [kT] at which a hop happens about six times a step either way: the request is one level.
_BARRIER = 12.0
# Barriers [kT] and requests [levels]: from many hops to hardly any.
_ACTIVITIES = ((9.0, 1.0), (12.0, 1.0), (15.0, 1.0), (15.0, 0.1), (20.0, 0.1), (30.0, 0.01))


def step_modes(barrier: float = _BARRIER, request: float = 1.0) -> dict[str, optax.GradientTransformationExtraArgs]:
    """The optimizers that are compared, by name; the first is the reference.

    Args:
        barrier: height of the barrier, but of the one per parameter, which follows the requests [kT].
        request: what every parameter asks for in a step [levels].

    Returns:
        Optimizers by name of the mode.
    """
    # With the same gradient at every step Adam's update is the learning rate, whatever the gradient: `request` levels.
    adam = optax.adam(request * 2**-10)

    one_for_all = LyapunovBarrier(barrier)

    def wrapped(hops: HopsName = "mean", policy: AbstractBarrier = one_for_all, **options):
        return learning_in_memory(
            adam, ArrheniusCell(lsb=2**-10), policy, hops=hops, key=jax.random.key(0), compare=(), **options
        )

    return {
        "Adam": optax.with_extra_args_support(adam),
        "ledger per leaf": wrapped(granularity="leaf", compensated=False),
        "ledger of heat": wrapped(compensated=False, track=("heat",)),
        "ledger": wrapped(compensated=False),
        "ledger, compensated": wrapped(),
        "gaussian": wrapped("gaussian", granularity="leaf", compensated=False),
        "exact": wrapped("exact", granularity="leaf", compensated=False),
        "exact, ledger compensated": wrapped("exact"),
        "exact, barrier per parameter": wrapped("exact", MomentBarrier(), granularity="leaf", compensated=False),
    }


@functools.lru_cache(maxsize=16)
def compiled_step(mode: str, parameters: int, barrier: float = _BARRIER, request: float = 1.0):
    """One step, compiled with donated buffers, and a function that makes its arguments.

    Args:
        mode: a name from `step_modes`.
        parameters: size of the one float32 array.
        barrier: height of the barrier [kT].
        request: what every parameter asks for in a step [levels].

    Returns:
        `(compiled, arguments)`: `compiled(params, state, gradient, loss)` returns new parameters and state.
    """
    optimizer = step_modes(barrier, request)[mode]

    def step(params, state, gradient, loss):
        updates, state = optimizer.update(gradient, state, params, value=loss)
        return optax.apply_updates(params, updates), state

    def arguments():
        params = jax.random.normal(jax.random.key(1), (parameters,))
        gradient = jax.random.normal(jax.random.key(2), (parameters,))
        return params, jax.jit(optimizer.init)(params), gradient, jnp.asarray(1.0)

    # From shapes, so that the cache holds programs and no arrays.
    shapes = jax.eval_shape(arguments)
    # Donated, as a training loop does: state is overwritten in place, and every call has to start from the last one's.
    return jax.jit(step, donate_argnums=(0, 1)).lower(*shapes).compile(), arguments


def measure_steps(sizes: list[int], rounds: int = 20, modes: tuple[str, ...] | None = None) -> list[dict[str, Any]]:
    """Time of a step at several sizes.

    Args:
        sizes: numbers of parameters.
        rounds: rounds of the timing.
        modes: which modes; None takes all.

    Returns:
        Rows with `parameters`, `mode`, `seconds` (median), `ratio` (to bare Adam, median over the rounds),
        `nanoseconds_per_parameter`, with a ledger `hops_per_parameter` of a step, and for the copy `bytes_per_second`.
    """
    rows = []
    for size in sizes:
        # Ratios need their reference, asked for or not.
        names = step_modes() if modes is None else ("Adam", *(m for m in modes if m != "Adam"))
        calls, held = _steppers({name: compiled_step(name, size) for name in names})
        copy = jax.jit(lambda x: x + 1, donate_argnums=0)
        held["copy"] = jnp.zeros(size)

        def copied(copy=copy, held=held):
            for _ in range(steps_per_wait()):
                held["copy"] = copy(held["copy"])
            return held["copy"]

        calls["one array read and written (x + 1)"] = copied
        seconds = _per_step(interleaved(calls, rounds))
        for name, times in seconds.items():
            middle = statistics.median(times)
            rows.append(
                {
                    "parameters": size,
                    "mode": name,
                    "seconds": middle,
                    "ratio": median_ratio(times, seconds["Adam"]),
                    "nanoseconds_per_parameter": 1e9 * middle / size,
                }
            )
            if name not in ("Adam", "one array read and written (x + 1)"):
                rows[-1]["hops_per_parameter"] = _hops_per_parameter(held[name][1], size)
        # The copy was added last; it reads and writes 4 bytes an element.
        rows[-1]["bytes_per_second"] = 8 * size / rows[-1]["seconds"]
    return rows


def measure_activities(parameters: int = 1_000_000, rounds: int = 10) -> list[dict[str, Any]]:
    """Time of a step with exact hops at several barriers and requests, from many hops to hardly any.

    Args:
        parameters: size of the one array.
        rounds: rounds of the timing.

    Returns:
        Rows with `parameters`, `mode`, `barrier_kt`, `request_levels`, `hops_per_parameter` of a step, `seconds` (median), `ratio` (to bare
        Adam, median over the rounds) and `parameters_per_second`.
    """
    rows = []
    for barrier, request in _ACTIVITIES:
        names = ("Adam", "exact", "exact, ledger compensated")
        calls, held = _steppers({name: compiled_step(name, parameters, barrier, request) for name in names})
        seconds = _per_step(interleaved(calls, rounds))
        for name in names[1:]:
            middle = statistics.median(seconds[name])
            rows.append(
                {
                    "parameters": parameters,
                    "mode": name,
                    "barrier_kt": barrier,
                    "request_levels": request,
                    "hops_per_parameter": _hops_per_parameter(held[name][1], parameters),
                    "seconds": middle,
                    "ratio": median_ratio(seconds[name], seconds["Adam"]),
                    "parameters_per_second": parameters / middle,
                }
            )
    return rows


def _steppers(steps: dict[str, Any]):
    """A function for each compiled step that takes the next one, and what they hold: parameters, state, gradient, loss."""
    held: dict[str, Any] = {name: arguments() for name, (_, arguments) in steps.items()}

    def stepper(name, compiled):
        def call():
            params, state, gradient, loss = held[name]
            for _ in range(steps_per_wait()):
                params, state = compiled(params, state, gradient, loss)
            held[name] = params, state, gradient, loss
            return params

        return call

    return {name: stepper(name, compiled) for name, (compiled, _) in steps.items()}, held


def steps_per_wait() -> int:
    """How many steps are started before the last of them is waited for: a CPU is at work at once, other devices answer late."""
    return 1 if jax.default_backend() == "cpu" else 8


def _per_step(seconds: dict[str, list[float]]) -> dict[str, list[float]]:
    return {name: [one / steps_per_wait() for one in times] for name, times in seconds.items()}


def _hops_per_parameter(state: PyTree, parameters: int) -> float:
    ledger = get_ledger(state)
    # Over all steps that were taken, the warm-up's too.
    return total(ledger, "hops") / int(ledger.steps) / parameters
