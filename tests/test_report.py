"""The table against the ledger it comes from, and warnings where they belong and nowhere else."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

import limjax

pytestmark = pytest.mark.optax

CELL = limjax.ArrheniusCell(lsb=2**-10, attempt_rate=1e9, step_time=1e-3, temperature=250.0)


def train(
    barrier, *, cell=CELL, rate=0.05, steps=20, hops="mean", dtype=jnp.float32, gradient=None, snapped=False, **options
):
    """A few steps of gradient descent; returns ledger, end and start."""
    opt = limjax.learning_in_memory(
        optax.sgd(rate), cell, barrier, hops=hops, key=jax.random.key(0), **{"compare": None, **options}
    )
    start = {
        "first": {"weight": jnp.linspace(-1, 1, 60, dtype=dtype).reshape(6, 10), "bias": jnp.full(10, 0.5, dtype)},
        "second": {"weight": jnp.ones((10, 2), dtype), "bias": jnp.zeros(2, dtype)},
        "gain": jnp.asarray(1.0, dtype),
    }
    start = limjax.snap(start, cell) if snapped else start
    params, state = start, opt.init(start)
    update = jax.jit(opt.update)
    for _ in range(steps):
        g = jax.tree.map(lambda p: p - jnp.asarray(0.25, p.dtype), params) if gradient is None else gradient(params)
        updates, state = update(g, state, params, value=jnp.float32(1.0))
        params = optax.apply_updates(params, updates)
    return limjax.get_ledger(state), params, start


@pytest.fixture(scope="module")
def healthy():
    return train(
        limjax.StaticBarrier(12.0), hops="exact", snapped=True, optimizer_memory=(CELL, limjax.StaticBarrier(30.0))
    )


@pytest.mark.slow
def test_numbers_equal_the_ledger(healthy):
    ledger, params, start = healthy
    table = limjax.report(ledger, params, CELL)
    assert [row.name for row in table.layers] == ["first", "gain", "second"]
    assert [row.parameters for row in table.layers] == [70, 1, 22]
    assert table.total.parameters == 93 and table.steps == 20
    index = {"first": [0, 1], "gain": [2], "second": [3, 4]}
    static = ledger.compare["static"]
    for row in table.layers:
        leaves = index[row.name]
        assert row.heat_kt == pytest.approx(limjax.leaf_totals(ledger, "heat")[leaves].sum(), rel=1e-12)
        assert row.path_levels == pytest.approx(limjax.leaf_totals(ledger, "path")[leaves].sum(), rel=1e-12)
        assert row.hops == pytest.approx(limjax.leaf_totals(ledger, "hops")[leaves].sum(), rel=1e-12)
        assert row.actuation_kt == pytest.approx(limjax.leaf_totals(ledger, "actuation")[leaves].sum(), abs=1e-12)
        assert row.static_kt == pytest.approx(
            (static.heat.float64() + static.actuation.float64())[leaves].sum(), rel=1e-12
        )
        assert row.ratio == pytest.approx(row.compared_kt / (row.heat_kt + row.actuation_kt))
        assert row.saturated_fraction == row.range_fraction == 0
    net = [
        np.abs(np.asarray(a, np.float64) - np.asarray(b)).sum() * 2**10
        for a, b in zip(*map(jax.tree.leaves, (params, start)))
    ]
    assert table.total.net_levels == pytest.approx(sum(net), rel=1e-6)
    assert table.total.useful_fraction == pytest.approx(sum(net) / table.total.hops, rel=1e-6)
    for name in ("heat_kt", "path_levels", "hops", "static_kt", "net_levels", "actuation_kt"):
        assert getattr(table.total, name) == pytest.approx(sum(getattr(row, name) for row in table.layers), rel=1e-12)
    assert table.landauer_kt == pytest.approx(math.log(2) * 93 * 20)
    assert table.realised_kt == pytest.approx(limjax.total(ledger, "realised_heat"))
    assert table.compared_with == "static" and table.temperature == 250.0
    assert table.joules_per_kt == pytest.approx(1.380649e-23 * 250.0, rel=1e-9)
    assert table.optimizer_kt == 0.0


def test_dictionary_and_file(healthy, tmp_path):
    ledger, params, _ = healthy
    table = limjax.report(ledger, params, CELL)
    content = table.to_dict()
    assert content["total"]["heat_joules"] == pytest.approx(table.total.heat_kt * table.joules_per_kt)
    assert content["total"]["heat_kt_per_parameter"] == pytest.approx(table.total.heat_kt / 93)
    assert content["landauer_kt"] == table.landauer_kt and content["warnings"] == list(table.warnings)
    assert [row["name"] for row in content["layers"]] == ["first", "gain", "second"]
    table.save(tmp_path / "report.json")
    assert json.loads((tmp_path / "report.json").read_text()) == content
    with pytest.raises(OSError):
        table.save(tmp_path / "no folder" / "report.json")


def test_a_run_that_diverged_is_a_file_of_json(tmp_path):
    cell, params = limjax.ArrheniusCell(), {"w": jnp.ones(3)}
    opt = limjax.learning_in_memory(optax.sgd(0.1), cell, limjax.StaticBarrier(10.0))
    _, state = opt.update({"w": jnp.array([jnp.nan, 1.0, 1.0])}, opt.init(params), params)
    table, file = limjax.report(state, params, loss_ratio=math.inf), tmp_path / "report.json"
    file.write_text("earlier")
    table.save(file)

    def refused(token):
        raise AssertionError(f"{token} is no JSON")

    back = limjax.Report.from_dict(json.loads(file.read_text(), parse_constant=refused))
    assert math.isnan(table.total.heat_kt) and math.isnan(back.total.heat_kt) and math.isnan(back.layers[0].path_levels)
    assert all(math.isnan(cost) for cost in back.comparisons.values()) and set(back.comparisons) == {"static"}
    assert back.optimizer_kt is None and back.total.parameters == 3 and "nan" in str(back)
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


@pytest.mark.parametrize(
    ("start", "said"),
    [
        ({"second": jnp.ones(2)}, "start has nothing where"),
        ({"first": {"bias": jnp.ones(3)}}, r"start has shape \(3,\)"),
    ],
)
def test_a_start_of_other_parameters_is_refused(healthy, start, said):
    with pytest.raises(ValueError, match=f"{said} .*'first/bias' of shape .10,.*: pass the parameters"):
        limjax.report(healthy[0], healthy[1], CELL, start=start)


def test_table_in_words(healthy):
    ledger, params, _ = healthy
    text = str(limjax.report(ledger, params, CELL))
    for word in ("first", "second", "gain", "total", "Landauer", "250 K", "20 steps", "Optimizer state", "hops drawn"):
        assert word in text
    assert "the controller are not in it" in text
    # Every line fits, and the long ones are not broken in the middle of a cell.
    assert max(map(len, text.splitlines())) <= 118


def test_a_healthy_run_has_no_warning(healthy):
    assert limjax.report(healthy[0], healthy[1], CELL).warnings == ()


def warnings(*args, **options):
    ledger, params, _ = train(*args, **options)
    return limjax.report(ledger, params, options.get("cell", CELL)).warnings


def test_warns_of_requests_far_below_a_level():
    (warning,) = warnings(limjax.StaticBarrier(20.0), rate=1e-5)
    assert "far below one level" in warning and "finer ladder" in warning
    (warning,) = warnings(limjax.StaticBarrier(20.0), gradient=lambda p: jax.tree.map(jnp.zeros_like, p))
    assert "no parameter was asked to move" in warning


def test_warns_of_a_saturated_tilt():
    cell = limjax.ArrheniusCell(lsb=2**-10, attempt_rate=1e4, step_time=1e-3)
    said = warnings(limjax.StaticBarrier(3.0), cell=cell)
    assert any("tilt exceeded the barrier" in w and "attempt_rate" in w and "first" in w for w in said)


def test_warns_of_the_end_of_the_range():
    cell = limjax.ArrheniusCell(lsb=2**-10, levels=(-500, 500))
    said = warnings(limjax.StaticBarrier(12.0), cell=cell)
    assert any("end of the cell's range" in w and "more bits" in w for w in said)


def test_warns_of_noise_above_the_path():
    said = warnings(limjax.StaticBarrier(3.0), hops="gaussian", rate=1e-3)
    assert any("hop noise" in w and "larger than the whole" in w for w in said)
    # Without hops drawn there is no noise to warn of.
    assert not any("hop noise (" in w for w in warnings(limjax.StaticBarrier(3.0), rate=1e-3))


def test_warns_of_bfloat16_levels():
    said = warnings(limjax.StaticBarrier(12.0), dtype=jnp.bfloat16)
    (warning,) = [w for w in said if "whole levels" in w]
    assert "bfloat16" in warning and "256" in warning and "float32 copy" in warning
    coarse = limjax.ArrheniusCell(lsb=2**-6)
    assert not any("whole levels" in w for w in warnings(limjax.StaticBarrier(12.0), cell=coarse, dtype=jnp.bfloat16))


def test_warns_of_a_shallow_or_clipped_barrier():
    said = warnings(limjax.StaticBarrier(1.0))
    assert any("below 2 kT in 100 %" in w for w in said)
    cell = limjax.ArrheniusCell(max_barrier=11.0)
    said = warnings(limjax.StaticBarrier(12.0), cell=cell)
    assert any("clipped to the cell's range (0 to 11 kT)" in w for w in said)


def test_leaf_ledger_takes_the_start_from_the_caller():
    ledger, params, start = train(limjax.StaticBarrier(12.0), granularity="leaf")
    table = limjax.report(ledger, params, CELL)
    assert table.total.net_levels is None and table.total.useful_fraction is None and "-" in str(table)
    again = limjax.report(ledger, params, CELL, start=start)
    fine = limjax.report(*train(limjax.StaticBarrier(12.0))[:2], CELL)
    assert again.total.net_levels == pytest.approx(fine.total.net_levels, rel=1e-6)
    assert again.total.heat_kt == pytest.approx(fine.total.heat_kt, rel=1e-5)
    json.dumps(table.to_dict())


def test_without_comparison():
    ledger, params, _ = train(limjax.StaticBarrier(12.0), compare=())
    table = limjax.report(ledger, params, CELL)
    assert table.compared_with is None and table.total.static_kt is None and table.total.ratio is None
    assert "static" not in str(table)
    other = train(limjax.StaticBarrier(12.0), compare=(limjax.FowlerNordheimBarrier(20.0),))
    assert limjax.report(other[0], other[1], CELL).compared_with == "fowler-nordheim"


def test_headline_is_the_cheapest_comparison():
    others = {
        "dear": limjax.StaticBarrier(40.0),
        "cheap": limjax.StaticBarrier(20.0),
        "static": limjax.StaticBarrier(30.0),
    }
    ledger, params, _ = train(limjax.StaticBarrier(12.0), compare=others)
    table = limjax.report(ledger, params, CELL)
    assert table.compared_with == "cheap" and list(table.comparisons) == ["dear", "static", "cheap"]
    assert table.total.compared_kt == pytest.approx(table.comparisons["cheap"])
    assert table.total.static_kt == pytest.approx(table.comparisons["static"])
    assert table.total.ratio == pytest.approx(
        table.comparisons["cheap"] / (table.total.heat_kt + table.total.actuation_kt)
    )
    assert sum(row.compared_kt for row in table.layers) == pytest.approx(table.total.compared_kt)
    assert table.to_dict()["comparisons_kt"] == table.comparisons
    text = str(table)
    assert "not a rival" in text and "dear" in text and max(map(len, text.splitlines())) <= 118


def test_bound_of_a_bowl_beside_the_heat(healthy):
    ledger, params, _ = healthy
    table = limjax.report(ledger, params, CELL, loss_ratio=65536.0)
    assert table.bowl_bound_kt_per_parameter == pytest.approx(2 * math.log(65536), rel=1e-6)
    cost = (table.total.heat_kt + table.total.actuation_kt) / 93
    assert table.above_bowl_bound == pytest.approx(cost / (2 * math.log(65536)), rel=1e-6)
    content = table.to_dict()
    assert content["bowl_bound_kt_per_parameter"] == table.bowl_bound_kt_per_parameter
    assert content["above_bowl_bound"] == table.above_bowl_bound and content["loss_ratio"] == 65536.0
    words = " ".join(str(table).split())
    assert "= 22.2 kT" in words and "A yardstick, not a bound of the network" in words
    assert max(map(len, str(table).splitlines())) <= 118
    # Without a fall there is no such bound, and without a loss not even a line.
    for ratio in (1.0, 0.3, 0.0, -2.0, math.nan, math.inf):
        table = limjax.report(ledger, params, CELL, loss_ratio=ratio)
        assert table.bowl_bound_kt_per_parameter is None and table.above_bowl_bound is None
        assert "did not fall" in str(table)
    table = limjax.report(ledger, params, CELL)
    assert table.bowl_bound_kt_per_parameter is None and "bowl" not in str(table)


def test_a_run_says_its_bowl_bound():
    run = limjax.train("quadratic", steps=60, compare=())
    summary = run.summary
    fall = summary["initial_loss"] / summary["train_loss"]
    assert fall > 1 and summary["bowl_bound_kt_per_parameter"] == pytest.approx(2 * math.log(fall), rel=1e-6)
    cost = (summary["heat_kt"] + summary["actuation_kt"]) / summary["parameters"]
    assert summary["above_bowl_bound"] == pytest.approx(cost / summary["bowl_bound_kt_per_parameter"], rel=1e-6)


@pytest.mark.parametrize("levels", [None, (-3, 1)])
def test_heat_of_the_hops_drawn_at_the_end_of_a_range(levels):
    """One step of many cells on level 0, against all hop counts enumerated: what is stopped at the end releases nothing."""
    cell, cells, request = limjax.ArrheniusCell(levels=levels), 100_000, 0.5
    opt = limjax.learning_in_memory(
        optax.identity(), cell, limjax.StaticBarrier(14.0), hops="exact", key=jax.random.key(1), compare=()
    )
    params = jnp.zeros(cells)
    updates, state = opt.update(jnp.full(cells, request * 2.0**-10), opt.init(params), params)
    ledger = limjax.get_ledger(state)
    g = 1e6 * math.exp(-14.0)
    affinity, activity = 2 * math.asinh(request / 2 / g), math.sqrt(request**2 + 4 * g**2)
    counts = np.arange(60)
    weights = [stats.poisson.pmf(counts, rate) for rate in ((activity + request) / 2, (activity - request) / 2)]
    moves = counts[:, None] - counts
    moves = moves if levels is None else np.clip(moves, *levels)
    heats = affinity * moves
    mean = np.sum(np.outer(*weights) * heats)
    deviation = math.sqrt(np.sum(np.outer(*weights) * heats**2) - mean**2)
    # 4.9 standard errors: a false alarm in a million.
    assert abs(limjax.total(ledger, "realised_heat") / cells - mean) < 4.9 * deviation / math.sqrt(cells)
    assert limjax.total(ledger, "heat") / cells == pytest.approx(request * affinity, rel=1e-5)
    text = str(limjax.report(ledger, optax.apply_updates(params, updates), cell))
    if levels is None:
        assert mean == pytest.approx(request * affinity) and "its mean is the heat above" in text
    else:
        assert mean < 0.8 * request * affinity
        assert "stopped at the end of the range are not in it" in text and "its mean is the heat above" not in text


def test_parameters_that_do_not_fit(healthy):
    ledger, params, _ = healthy
    with pytest.raises(ValueError, match="do not fit the ledger"):
        limjax.report(ledger, {"first": params["first"]}, CELL)
    wrong = {**params, "gain": jnp.ones(3)}
    with pytest.raises(ValueError, match=r"do not fit the ledger.*gain"):
        limjax.report(ledger, wrong, CELL)
    leaf_ledger, _, _ = train(limjax.StaticBarrier(12.0), granularity="leaf", steps=1)
    with pytest.raises(ValueError, match="5 leaves but the parameters have 2"):
        limjax.report(leaf_ledger, params["first"], CELL)


def test_masked_ledger_takes_its_part_of_the_parameters():
    mask = {"a": True, "b": False}
    params = {"a": jnp.ones(3), "b": jnp.ones(2)}
    opt = optax.masked(limjax.learning_in_memory(optax.sgd(0.1), CELL, limjax.StaticBarrier(12.0)), mask)
    _, state = opt.update(params, opt.init(params), params)
    table = limjax.report(limjax.get_ledger(state), params, CELL)
    assert table.total.parameters == 3 and [row.name for row in table.layers] == ["a"]


def test_before_the_first_step():
    opt = limjax.learning_in_memory(optax.sgd(0.1), CELL, limjax.StaticBarrier(12.0))
    params = {"w": jnp.ones(3)}
    table = limjax.report(limjax.get_ledger(opt.init(params)), params, CELL)
    assert table.steps == 0 and table.total.heat_kt == 0 and table.landauer_kt == 0
    assert "total" in str(table)


@pytest.mark.parametrize(
    ("hops", "snapped", "off"), [("exact", False, 100), ("exact", True, 0), ("gaussian", False, 0)]
)
def test_weights_that_never_stand_on_a_level_are_counted(hops, snapped, off):
    cell = limjax.ArrheniusCell(lsb=2**-10)
    params = {"w": jnp.linspace(-0.5, 0.5, 100) + 0.3 * 2**-10}
    params = limjax.snap(params, cell) if snapped else params
    opt = limjax.learning_in_memory(optax.sgd(0.5), cell, limjax.StaticBarrier(14.0), hops=hops, key=jax.random.key(0))
    updates, state = jax.jit(opt.update)({"w": jnp.ones(100)}, opt.init(params), params)
    found = [
        said
        for said in limjax.report(state, optax.apply_updates(params, updates)).warnings
        if "between two levels" in said
    ]
    assert len(found) == (off > 0) and all(
        said.startswith(f"{off} of 100 weights") and "limjax.snap" in said for said in found
    )


def test_a_memory_without_parameters_is_no_part_of_a_report():
    """As one of `multi_transform` whose label no leaf has."""
    slow, fast = (limjax.learning_in_memory(optax.sgd(0.1), CELL, limjax.StaticBarrier(b)) for b in (10.0, 12.0))
    opt = optax.multi_transform({"slow": slow, "fast": fast}, {"w": "slow"})
    params = {"w": jnp.ones(2)}
    updates, state = opt.update(params, opt.init(params), params)
    report = limjax.report(state, optax.apply_updates(params, updates))
    assert report.total.heat_kt == pytest.approx(float(limjax.spent_kt(state))) and report.total.heat_kt > 0
