"""Estimates of networks that never ran here."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vertebra.errors import InvalidInputError
from vertebra.measurements import Measurement, shipped
from vertebra.measuring import estimation
from vertebra.measuring.estimation import Estimator, Field, MemoryModel, kept
from vertebra.measuring.estimation.memory import quantile

_SPEC = importlib.util.spec_from_file_location(
    "estimation_error", Path(__file__).parent.parent / "benchmarks" / "estimation_error.py"
)
assert _SPEC is not None
assert _SPEC.loader is not None
held_out = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(held_out)


def synthetic(networks: int = 120, tables: int = 6) -> tuple[Field, np.ndarray]:
    """A field whose tables are a power law of the counts, and the column of a machine not among them."""
    draw = np.random.default_rng(7)
    counts = np.exp(draw.normal(3, 1, (networks, 3)))
    tastes = draw.dirichlet((8, 4, 2), tables + 1)
    columns = np.exp(np.log(counts) @ tastes.T + draw.normal(0, 0.02, (networks, tables + 1)))
    names = tuple(f"network{number}" for number in range(networks))
    families = tuple("abc"[number % 3] for number in range(networks))
    told = tuple(map(str, range(tables)))
    return Field(names, counts, families, columns[:, :tables], told), 0.3 * columns[:, tables]


def row(model: str, value: float, metric: str = "latency", **more: object) -> Measurement:
    told: dict[str, object] = {
        "engine": "onnxruntime", "device": "cpu", "precision": "float32", "batch_size": 1, "threads": 2,
        "input_size": shipped.counts()[model].input_size, "scenario": "single-stream",
        "system": "here", **more,
    }  # fmt: skip
    return Measurement(model=model, metric=metric, value=value, origin="benched", **told)  # type: ignore[arg-type]


def test_a_power_law_is_found_from_few_anchors() -> None:
    field, truth = synthetic()
    estimator = Estimator(field)
    chosen = estimator.choose(12)
    found = estimator.estimate({name: truth[field.names.index(name)] for name in chosen})
    wrong = np.abs(found.values / truth - 1)
    assert np.median(wrong) < 0.05
    assert np.mean((found.low <= truth) & (truth <= found.high)) > 0.85
    assert np.all((found.low < found.values) & (found.values < found.high))


def test_what_the_published_tables_say_ships_as_it_is_computed() -> None:
    path = Path(estimation.__file__).with_name(estimation.LEARNT)
    told = estimation.Learnt.restored(np.load(path))
    made = estimation.Learnt.of(estimation.field())
    assert told.base == pytest.approx(made.base)
    assert told.imputed == pytest.approx(made.imputed)
    for shipped_, computed in ((told.tastes, made.tastes), (told.scores, made.scores)):
        turned = np.sign((shipped_ * computed).sum(axis=0))  # a component may point either way
        assert shipped_ * turned == pytest.approx(computed, abs=1e-6)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 0.9, 1.0])
def test_quantiles_are_numpys(share: float) -> None:
    values = np.random.default_rng(3).normal(size=24)
    for count in (1, 2, 5, 24):
        assert quantile(values[:count], share) == np.quantile(values[:count], share)


def test_a_general_factor_scales_every_price() -> None:
    field, truth = synthetic()
    estimator = Estimator(field)
    chosen = estimator.choose(12)
    once = estimator.estimate({name: truth[field.names.index(name)] for name in chosen})
    thrice = estimator.estimate({name: 3 * truth[field.names.index(name)] for name in chosen})
    np.testing.assert_allclose(thrice.values / once.values, 3, rtol=0.02)


@pytest.mark.parametrize("factor", [10.0, 0.1])
def test_an_anchor_that_contradicts_the_others_is_left_out_and_named(factor: float) -> None:
    field, truth = synthetic()
    estimator = Estimator(field)
    measured = {name: truth[field.names.index(name)] for name in estimator.choose(12)}
    plain = estimator.estimate(measured)
    spoilt = next(iter(measured))
    found = estimator.estimate({**measured, spoilt: factor * measured[spoilt]})
    assert list(found.left_out) == [spoilt]
    assert found.left_out[spoilt] == pytest.approx(factor, rel=0.2)
    assert np.median(np.abs(found.values / truth - 1)) < 0.05
    assert np.median(found.high / found.low) < 1.3 * np.median(plain.high / plain.low)
    assert not plain.left_out


def test_an_anchor_counts_less_the_less_it_is_known() -> None:
    field, truth = synthetic()
    estimator = Estimator(field)
    measured = {name: truth[field.names.index(name)] for name in estimator.choose(12)}
    slow = next(iter(measured))
    measured[slow] *= 1.5
    place = field.names.index(slow)
    plain, doubted = estimator.estimate(measured), estimator.estimate(measured, {slow: 1.0})
    assert abs(doubted.values[place] / truth[place] - 1) < abs(plain.values[place] / truth[place] - 1) / 2


def slow_anchor(**more: object) -> list[Measurement]:
    """Twelve networks at 5 ms for each 10^9 MACs, and the first of them ten times slower."""
    names = estimation.anchors(12)
    rows = [row(name, 5e-12 * shipped.counts()[name].macs + 1e-3) for name in names]
    return [replace(rows[0], value=10 * rows[0].value, **more), *rows[1:]]  # type: ignore[arg-type]


@pytest.mark.parametrize(("grade", "counts"), [("C", False), ("B", True)])
def test_the_row_of_an_anchor_left_out_counts_only_where_it_stands_by_itself(
    grade: str, counts: bool
) -> None:
    rows = slow_anchor(grade=grade)
    priced = estimation.price_measured(rows)
    assert (rows[0] in priced.measured) is counts
    assert (rows[0].model in {one.model for one in priced.rows}) is not counts
    (told,) = priced.told
    assert told.startswith(f"{rows[0].model} on onnxruntime is ")
    assert told.endswith(" times slower than the other 11 foretell; left out")
    assert told in priced.rows[0].grade_reasons[0]


def test_anchors_are_distinct_allowed_and_not_known_ones() -> None:
    field, _ = synthetic()
    allowed = field.names[:40]
    chosen = Estimator(field).choose(15, among=allowed, known=allowed[:3])
    assert len(set(chosen)) == 15
    assert set(chosen) <= set(allowed[3:])


def test_anchors_by_design_tell_more_than_the_first_ones_of_a_list() -> None:
    field, truth = synthetic()
    estimator = Estimator(field)
    order = np.argsort(field.counts[:, 0])  # all small ones first

    def error(names: list[str]) -> float:
        found = estimator.estimate({name: truth[field.names.index(name)] for name in names})
        return float(np.median(np.abs(found.values / truth - 1)))

    assert error(estimator.choose(8)) < error([field.names[number] for number in order[:8]])


def test_a_network_that_no_table_has_is_priced_with_a_wider_interval() -> None:
    field, truth = synthetic()
    published = field.published.copy()
    published[5] = np.nan
    estimator = Estimator(replace(field, published=published))
    chosen = estimator.choose(12, among=[name for name in field.names if name != "network5"])
    found = estimator.estimate({name: truth[field.names.index(name)] for name in chosen})
    widths = np.log(found.high / found.low)
    assert widths[5] > np.median(widths)
    assert found.low[5] <= truth[5] <= found.high[5]


@pytest.mark.parametrize(
    ("measured", "told"),
    [
        ({"network1": 1.0}, "too few"),
        ({**{f"network{n}": 1.0 for n in range(6)}, "no-such": 1.0}, "no-such"),
        ({**{f"network{n}": 1.0 for n in range(6)}, "network7": 0.0}, "greater than 0"),
    ],
)
def test_what_cannot_be_priced_from_is_refused(measured: dict[str, float], told: str) -> None:
    with pytest.raises(InvalidInputError, match=told):
        Estimator(synthetic()[0]).estimate(measured)


def test_memory_is_taken_apart_exactly_where_it_is_a_sum() -> None:
    counts = {f"n{k}": (4e6 * k, 1e6 * (k * k % 7 + 1)) for k in range(1, 12)}
    truth = {name: 50e6 + 1.1 * weights + 8 * activations for name, (weights, activations) in counts.items()}
    model = MemoryModel.fit(counts, truth)
    assert model.coefficients == pytest.approx((50e6, 1.1, 8))
    assert model.price(1e6, 1e6) == pytest.approx((59.1e6, 59.1e6, 59.1e6))
    with pytest.raises(InvalidInputError, match="too few"):
        MemoryModel.fit(counts, {"n1": 1.0})


def test_nine_in_ten_memories_lie_in_their_interval_which_widens_away_from_what_was_measured() -> None:
    draw, inside = np.random.default_rng(0), []
    for _ in range(40):
        counts = {f"n{k}": (draw.uniform(4e6, 2e8), draw.uniform(1e6, 2e7)) for k in range(120)}
        truth = {
            name: (50e6 + 1.1 * weights + 8 * activations) * draw.lognormal(0, 0.05)
            for name, (weights, activations) in counts.items()
        }
        model = MemoryModel.fit(counts, dict(list(truth.items())[:20]))
        prices = [(truth[name], *model.price(*counts[name])) for name in list(truth)[20:]]
        inside += [low <= true <= high for true, _, low, high in prices]
    assert 0.86 < np.mean(inside) < 0.93
    near, far = (model.price(*told) for told in ((1e8, 1e7), (1e8, 1e9)))
    assert far[2] / far[0] - 1 > 1.2 * (near[2] / near[0] - 1)


def test_estimated_rows_say_so_and_keep_the_conditions() -> None:
    names = estimation.anchors(8)
    measured = [row(name, shipped.counts()[name].macs / 2e10) for name in names]
    made = estimation.price(measured)
    told = {one.model for one in made}
    assert told == set(shipped.counts()) - set(names)
    one = made[0]
    assert one.origin == "estimated"
    assert (one.engine, one.threads, one.system, one.samples) == ("onnxruntime", 2, "here", 8)
    assert one.low is not None
    assert one.high is not None
    assert one.low < one.value < one.high
    assert "8 measured networks" in one.grade_reasons[0]


def test_memory_rows_are_priced_too() -> None:
    counts = shipped.counts()
    names = estimation.anchors(8)
    measured = [row(name, 60e6 + counts[name].weight_bytes, "memory_total") for name in names]
    made = {one.model: one for one in estimation.price(measured, "memory_total")}
    for name, one in list(made.items())[:50]:
        assert one.value == pytest.approx(60e6 + counts[name].weight_bytes, rel=0.01)


def test_rows_of_two_forms_are_not_mixed() -> None:
    names = estimation.anchors(6)
    measured = [row(name, 0.01, threads=1 + number % 2) for number, name in enumerate(names)]
    with pytest.raises(InvalidInputError, match="threads is 1, 2"):
        estimation.price(measured)


def test_a_metric_that_is_no_sum_and_no_time_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="top1 can't be estimated"):
        estimation.price([], "top1")


#: Of each kind of device one table, with all tables of the other devices to price it from.
SAMPLE = ("amp-nchw-pt291-cu130-5090-dynamo", "fp32-nchw-pt240-cpu-i7_12700h-dynamo")


@pytest.mark.parametrize("table", SAMPLE)
def test_a_held_out_device_is_priced_within_what_is_promised(table: str) -> None:
    whole = estimation.field()
    others = [other for other in whole.tables if held_out.device(other) != held_out.device(table)]
    found = held_out.errors(whole, table, others)
    assert found.networks > 1000
    assert found.median <= 0.12
    assert found.p90 <= 0.32


@pytest.mark.slow
def test_over_all_devices_errors_and_intervals_are_as_promised() -> None:
    whole = estimation.field()
    found = {}
    for table in whole.tables:
        others = [other for other in whole.tables if held_out.device(other) != held_out.device(table)]
        found[table] = held_out.errors(whole, table, others)
    median, p90 = held_out.over_devices(found)
    assert median <= 0.10
    assert p90 <= 0.25
    assert np.mean([one.covered for one in found.values()]) == pytest.approx(0.90, abs=0.03)


# ------------------------------------------------------------------ prices that are kept


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VERTEBRA_CACHE", str(tmp_path))
    return tmp_path / "prices"


@pytest.mark.parametrize("metric", ["latency", "memory_total"])
def test_kept_prices_are_those_that_were_computed(
    cache: Path, monkeypatch: pytest.MonkeyPatch, metric: str
) -> None:
    scale = {"latency": 1e-9, "memory_total": 2.0}[metric]
    models = [name for name in shipped.counts() if ":" not in name][:8]
    rows = [
        row(one, 1e-2 + scale * shipped.counts()[one].macs, metric, precision="float32") for one in models
    ]
    made = estimation.price_measured(rows)
    first = estimation.price_measured(rows, keep=True)
    with monkeypatch.context() as patch:
        patch.setattr("vertebra.measuring.estimation.pricing._prices", None)  # nothing is computed again
        again = estimation.price_measured(rows, keep=True)
    for found in (first, again):
        assert [replace(one, measured_at=None) for one in found.rows] == [
            replace(one, measured_at=None) for one in made.rows
        ]
        assert (found.measured, found.told) == (made.measured, made.told)
    assert len(list(cache.iterdir())) == 1
    other = estimation.price_measured([replace(rows[0], value=2 * rows[0].value), *rows[1:]], keep=True)
    assert other.rows[0].value != made.rows[0].value
    assert len(list(cache.iterdir())) == 2


def test_an_anchor_left_out_is_kept_with_the_prices(cache: Path) -> None:
    models = [name for name in shipped.counts() if ":" not in name][:10]
    rows = [row(one, 1e-3 + 1e-11 * shipped.counts()[one].macs) for one in models]
    rows[3] = replace(rows[3], value=40 * rows[3].value)
    told = estimation.price_measured(rows, keep=True).told
    assert [models[3] in one for one in told] == [True]
    assert estimation.price_measured(rows, keep=True).told == told


@pytest.mark.parametrize("damage", [b"", b"nothing", None])
def test_prices_that_were_damaged_are_computed_again(cache: Path, damage: bytes | None) -> None:
    rows = [row(one, 1e-3 + 1e-11 * shipped.counts()[one].macs) for one in list(shipped.counts())[:8]]
    values = [one.value for one in estimation.price_measured(rows, keep=True).rows]
    (path,) = cache.iterdir()
    content = path.read_bytes()
    path.write_bytes(content[:-9] + b"x" + content[-8:] if damage is None else damage)
    assert [one.value for one in estimation.price_measured(rows, keep=True).rows] == values
    assert path.read_bytes() == content


def test_a_cache_that_can_not_be_written_changes_no_price(cache: Path) -> None:
    rows = [row(one, 1e-3 + 1e-11 * shipped.counts()[one].macs) for one in list(shipped.counts())[:8]]
    cache.write_bytes(b"")  # a file where the folder would be
    found = estimation.price_measured(rows, keep=True).rows
    assert [one.value for one in found] == [one.value for one in estimation.price_measured(rows).rows]


def test_the_prices_used_last_stay(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "_MOST", 2)
    made = kept.Prices({name: (2.0, 1.0, 3.0) for name in shipped.counts()}, "made up", {})
    for number in range(4):
        assert kept.prices("latency", [("alexnet", 1.0 + number, 0.0)], lambda: made) == made
    assert len(list(cache.iterdir())) == 2
