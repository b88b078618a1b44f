"""A history of layers against the ledger it reads, in loops of all kinds, and its files against readers of their own."""

import csv
import struct

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import limjax
from limjax.memory._event_file import crc32c

pytestmark = pytest.mark.optax

PARAMS = {"first": {"w": jnp.linspace(-1, 1, 12).reshape(3, 4), "b": jnp.ones(4)}, "head": {"w": jnp.full(5, 0.5)}}
CELL = limjax.ArrheniusCell(lsb=2**-10)


def make(**options):
    barrier = limjax.LyapunovBarrier(start=9.0)
    return limjax.learning_in_memory(optax.sgd(0.05), CELL, barrier, hops="mean", compare=(), **options)


def step(opt, params, state):
    loss = sum(jnp.sum(p**2) for p in jax.tree.leaves(params))
    updates, state = opt.update(params, state, params, value=loss)
    return optax.apply_updates(params, updates), state, loss


def looped(opt, steps, **options):
    """A Python loop; the history, and what the ledger itself said at every step."""
    state = opt.init(PARAMS)
    history = limjax.LedgerHistory.of(state, PARAMS, **options)

    @jax.jit
    def go(params, state, history):
        params, state, loss = step(opt, params, state)
        return params, state, history.record(state, loss), loss

    params, said = PARAMS, {}
    for k in range(1, steps + 1):
        params, state, history, loss = go(params, state, history)
        heat = limjax.leaf_totals(limjax.get_ledger(state), "heat")
        said[k] = [heat[0] + heat[1], heat[2]], float(loss), float(limjax.get_barrier(state))
    return history, said, state


@pytest.fixture(scope="module", params=["parameter", pytest.param("leaf", marks=pytest.mark.slow)])
def recorded(request):
    return looped(make(granularity=request.param), 11, every=3)


@pytest.mark.representatives(1)
def test_rows_are_what_the_ledger_said(recorded):
    history, said, state = recorded
    assert history.step.tolist() == [3, 6, 9] and history.layers.names == ("first", "head")
    assert history.layers.parameters == (16, 5)
    for i, k in enumerate((3, 6, 9)):
        heat, loss, barrier = said[k]
        np.testing.assert_allclose(history.column("heat")[i], heat, rtol=1e-5)
        np.testing.assert_allclose([history.loss[i], history.barrier[i]], [loss, barrier], rtol=1e-6)
    with pytest.raises(ValueError, match="A history has no 'heta'; it has heat, actuation, path, hops"):
        history.column("heta")
    both = limjax.total(limjax.get_ledger(state), "heat") + limjax.total(limjax.get_ledger(state), "actuation")
    assert float(limjax.spent_kt(state)) == pytest.approx(both, rel=1e-6)


@pytest.mark.slow
def test_a_scan_records_the_same():
    opt = make()
    state = opt.init(PARAMS)

    def body(carry, _):
        params, state, history = carry
        params, state, loss = step(opt, params, state)
        return (params, state, history.record(state, loss)), None

    start = PARAMS, state, limjax.LedgerHistory.of(state, PARAMS, every=1, rows=4)
    (_, _, history), _ = jax.jit(lambda carry: jax.lax.scan(body, carry, length=11))(start)
    # Rows 1, 2, 3, 4 become 2, 4; with 6 and 8 they are 4, 8; every fourth step from there on.
    assert history.step.tolist() == [4, 8] and int(history.every) == 4
    other, _, _ = looped(opt, 8, every=4)
    for name in ("heat", "path", "hops", "actuation"):
        np.testing.assert_allclose(history.column(name), other.column(name), rtol=1e-6)


def test_steps_between_calls_do_not_lose_rows():
    """Recorded every four steps only, with rows every three: the first call after each third step counts."""
    opt = make()
    params, state = PARAMS, opt.init(PARAMS)
    history = limjax.LedgerHistory.of(state, PARAMS, every=3)
    go, record = jax.jit(lambda p, s: step(opt, p, s)), jax.jit(lambda history, state: history.record(state))
    for k in range(1, 13):
        params, state, _ = go(params, state)
        history = record(history, state) if k % 4 == 0 else history
    assert history.step.tolist() == [4, 8, 12] and np.isnan(history.loss[:3]).all()


@pytest.mark.slow
def test_several_memories_are_one_history():
    inner = {name: make() for name in ("a", "b")}
    labels = {"first": {"w": "a", "b": "b"}, "head": {"w": "b"}}
    opt = optax.multi_transform(inner, labels)
    state = opt.init(PARAMS)
    history = limjax.LedgerHistory.of(state, PARAMS)
    _, state, _ = jax.jit(lambda p, s: step(opt, p, s))(PARAMS, state)
    history = history.record(state)
    ledgers = [limjax.leaf_totals(ledger, "heat") for ledger in limjax.get_ledgers(state).values()]
    by_hand = [ledgers[0].sum() + ledgers[1][0], ledgers[1][1]]
    np.testing.assert_allclose(history.column("heat")[0], by_hand, rtol=1e-6)
    with pytest.raises(ValueError, match="holds 1 limjax memories, and the history was made for 2"):
        history.record(make().init(PARAMS))


def test_csv(recorded, tmp_path):
    history = recorded[0]
    history.to_csv(tmp_path / "heat.csv")
    with open(tmp_path / "heat.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [3, 6, 9]
    for i, row in enumerate(rows):
        assert [float(row["heat_kt/first"]), float(row["heat_kt/head"])] == history.column("heat")[i].tolist()
        assert float(row["barrier_kt"]) == pytest.approx(float(history.barrier[i]))


def varint(data, at):
    value = shift = 0
    while True:
        value |= (data[at] & 127) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 128:
            return value, at


def fields(data):
    """A reader of protocol buffers: (field, value) pairs; fixed numbers as bytes."""
    at = 0
    while at < len(data):
        tag, at = varint(data, at)
        if tag & 7 == 0:
            value, at = varint(data, at)
        else:
            size, at = {1: (8, at), 5: (4, at), 2: varint(data, at) if tag & 7 == 2 else None}[tag & 7]
            value, at = data[at : at + size], at + size
        yield tag >> 3, value


def test_event_file(recorded, tmp_path):
    assert crc32c(b"123456789") == 0xE3069283  # RFC 3720 and every catalogue of checksums
    history = recorded[0]
    history.to_tensorboard(tmp_path / "heat.tfevents")
    data, at, events = (tmp_path / "heat.tfevents").read_bytes(), 0, []
    while at < len(data):
        size = struct.unpack_from("<Q", data, at)[0]
        for begin, length in ((at, 8), (at + 12, size)):
            crc = crc32c(data[begin : begin + length])
            stored = struct.unpack_from("<I", data, begin + length)[0]
            assert ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF == stored
        events.append(dict(fields(data[at + 12 : at + 12 + size])))
        at += size + 16
    assert events[0][3] == b"brain.Event:2" and [event[2] for event in events[1:]] == [3, 6, 9]
    for i, event in enumerate(events[1:]):
        values = [dict(fields(value)) for _, value in fields(event[5])]
        found = {value[1].decode(): struct.unpack("<f", value[2])[0] for value in values}
        assert found["heat_kt/head"] == pytest.approx(history.column("heat")[i, 1], rel=1e-6)
    with pytest.raises(ValueError, match=r"path must be a file with tfevents in its name, .* got 'heat.bin'"):
        history.to_tensorboard(tmp_path / "heat.bin")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"every": 0}, "every must be a whole number of at least 1, got 0"),
        ({"rows": 7}, "rows must be even, because every second one is dropped when all are taken; got 7"),
        ({"rows": 0}, "rows must be a whole number of at least 2, got 0"),
    ],
)
def test_wrong_numbers_are_refused(options, said):
    with pytest.raises(ValueError, match=said):
        limjax.LedgerHistory.of(make().init(PARAMS), PARAMS, **options)


def test_what_is_no_state_is_refused():
    with pytest.raises(ValueError, match="There is no limjax state in this"):
        limjax.LedgerHistory.of(optax.sgd(0.1).init(PARAMS), PARAMS)


def test_the_figure_has_a_line_per_layer(recorded):
    history = recorded[0]
    left, right = limjax.plots.training.heat_over_time(history).axes[:2]
    np.testing.assert_allclose(left.lines[1].get_ydata(), history.column("heat")[:, 1] / 5)
    np.testing.assert_allclose(right.lines[0].get_ydata() * 3 * 16, np.diff(history.column("heat")[:, 0], prepend=0.0))
    empty = limjax.LedgerHistory.of(make().init(PARAMS), PARAMS)
    with pytest.raises(ValueError, match="This history has no rows"):
        limjax.plots.training.heat_over_time(empty)
    with pytest.raises(AttributeError, match=r"limjax\.plots has no 'trainig'"):
        _ = limjax.plots.trainig
