"""Choosing the machine too, and what one more point of accuracy costs."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import vertebra
from test_candidates import latency, top1
from vertebra.cli import cli
from vertebra.cli import ladder as text_of
from vertebra.errors import InvalidInputError, UnknownNameError
from vertebra.measurements import Measurement, Table, WideRow, shipped
from vertebra.reading.choice import ladder
from vertebra.reading.choice.ladder import Ladder

#: network -> top-1, ms on the box, ms on the board
NETWORKS = {"alexnet": (0.50, 1, 10), "squeezenet1_1": (0.60, 2, 20), "vgg11": (0.70, 3, 80),
            "vgg16": (0.72, 12, 300)}  # fmt: skip


def on(system: str, model: str, ms: float, metric: str = "latency", **more: Any) -> Measurement:
    ends = {"low": 0.98 * ms / 1e3, "high": 1.02 * ms / 1e3}
    return latency(model, ms / 1e3, system=system, grade="A", versions={"onnxruntime": "1.22"},
                   measured_at="2026-11-01T10:00:00+00:00", **{**ends, **more})  # fmt: skip


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "table.sqlite"
    rows = [top1(model, accuracy) for model, (accuracy, *_) in NETWORKS.items()]
    rows += [on("box", model, ms) for model, (_, ms, _) in NETWORKS.items()]
    rows += [on("board", model, ms) for model, (_, _, ms) in NETWORKS.items()]
    Table(path).append(rows)
    return path


def pick(table: Path, **asked: Any) -> Any:
    return vertebra.pick(table=table, among="table", **asked)


def places(found: Ladder) -> list[tuple[str, str]]:
    return [(one.row.model, str(one.row.conditions["system"])) for one in found.rungs]


def test_a_candidate_is_a_network_on_a_system(table: Path) -> None:
    picked = pick(table, latency="30ms", systems="board,box")
    assert (picked.choice.model, picked.choice.conditions["system"]) == ("vgg16", "box")
    assert len(picked.meeting) == 6  # two of the board miss 30 ms
    assert picked.systems == ("board", "box")
    alone = pick(table, latency="30ms", system="board")
    assert (alone.choice.model, alone.systems) == ("squeezenet1_1", ())


def test_without_the_option_machines_are_never_mixed(table: Path) -> None:
    with pytest.raises(InvalidInputError, match="system is board, box"):
        pick(table, latency="30ms", filters={"system": None})


def test_with_it_everything_else_stays_equal(table: Path) -> None:
    Table(table).append([on("board", "vgg13", 1, device="cuda")])
    with pytest.raises(InvalidInputError, match="device is cpu, cuda"):
        vertebra.pick(table=table, among="table", by="latency", systems=["box", "board"])


def test_the_price_of_one_more_point_in_time_and_its_knee(table: Path) -> None:
    found = pick(table, system="box").ladder
    assert (found.against, places(found)) == ("latency", [(name, "box") for name in NETWORKS])
    prices = [one.per_point.get("latency") for one in found.rungs]
    assert prices[0] is None
    assert prices[1:] == pytest.approx([0.0001, 0.0001, 0.0045])
    assert found.knee.row.model == "vgg11"


def test_money_decides_the_front_where_every_system_has_a_price(table: Path) -> None:
    asked = {"systems": "box,board", "price": {"box": "3.60USD", "board": "0.18 usd/h"}}
    found = pick(table, **asked).ladder
    assert (found.against, found.currency) == ("money", "USD")
    # an image of alexnet costs 1 ms at 3.60 or 10 ms at 0.18 an hour: 1e-6 and 0.5e-6
    assert places(found) == [("alexnet", "board"), ("squeezenet1_1", "board"), ("vgg11", "box"),
                             ("vgg16", "box")]  # fmt: skip
    assert [one.costs["money"] for one in found.rungs] == pytest.approx([0.5e-6, 1e-6, 3e-6, 12e-6])
    assert found.rungs[1].per_point["money"] == pytest.approx(0.05e-6)
    assert found.rungs[1].per_point["latency"] == pytest.approx(0.001)


def test_a_system_without_a_price_is_said_and_time_decides(table: Path) -> None:
    picked = pick(table, systems="box,board", price="box=3.60EUR")
    assert picked.ladder.against == "latency"
    assert "No price is given for board, so money isn't compared." in picked.notes


def test_watt_hours_and_memory_have_their_price_where_they_are_known(table: Path) -> None:
    shown = pick(table, system="box").meeting[0].figures["latency"]
    rows = [
        shown.like(model=model, metric=metric, value=value, low=None, high=None, run=None)
        for model, more in (("alexnet", 0), ("squeezenet1_1", 1))
        for metric, value in (("energy_per_image", 3.6 + 36 * more), ("memory_total", 1e8 + 1e7 * more))
    ]
    Table(table).append(rows)
    first, second, third, _ = pick(table, system="box").ladder.rungs
    assert first.costs["energy"] == pytest.approx(0.001)  # 3.6 J
    assert second.per_point["energy"] == pytest.approx(0.001)
    assert second.per_point["memory"] == pytest.approx(1e6)
    assert not {"energy", "memory"} & third.per_point.keys()


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"systems": "box", "system": "board"}, "--system can't be set"),
        ({"systems": "box,board", "budget": "3m"}, "--budget can't be set"),
        ({"systems": "box,board", "lock": "a.lock"}, "--lock can't be set"),
        ({"systems": "box,board", "price": {"box": "1USD", "board": "1EUR"}}, "several currencies: USD, EUR"),
        ({"systems": "box,board", "price": "box=cheap"}, 'price of box is "cheap"'),
        ({"systems": "box,board", "price": "box"}, '"box" is not a price'),
        ({"systems": "box,board", "price": ["box=1USD", "box=2USD"]}, "two prices"),
        ({"system": "box", "price": "board=1USD"}, "isn't asked about"),
    ],
)
def test_what_can_not_be_compared_is_refused(table: Path, asked: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidInputError, match=told):
        pick(table, **asked)


@pytest.mark.parametrize("asked", [{"systems": "box,pi"}, {"system": "pi"}])
def test_an_unknown_system_names_those_of_the_table(table: Path, asked: dict[str, Any]) -> None:
    with pytest.raises(UnknownNameError) as caught:
        pick(table, **asked)
    assert "board, box" in str(caught.value.hint)


def test_a_network_that_never_ran_on_a_system_is_estimated_there_and_marked(tmp_path: Path) -> None:
    counts = shipped.counts()
    more = [name for name in counts if name.startswith("timm:resnet")][:20]
    rows = [on("board", name, counts[name].macs / 1e8) for name in (*NETWORKS, *more)]
    path = tmp_path / "t.sqlite"
    Table(path).append([*rows, on("box", "alexnet", 1)])
    picked = vertebra.pick(table=path, latency="500ms", systems="box,board")
    estimated = [one for one in picked.meeting if one.figures["latency"].origin == "estimated"]
    assert {row.conditions["system"] for row in estimated} == {"board"}  # one network says nothing of the box
    rung = next(one for one in picked.ladder.rungs if one.is_estimated("latency"))
    assert rung.row.conditions["system"] == "board"


def test_the_command_names_systems_prices_and_the_knee(table: Path) -> None:
    asked = ["pick", "--among", "table", "--systems", "box,board", "--price", "box=3.60USD",
             "--price", "board=0.18USD", "--latency", "30ms", "--table", str(table)]  # fmt: skip
    done = CliRunner().invoke(cli, asked)
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("vgg16 on onnxruntime on box")
    assert "Knee: vgg11 on box: a point costs 0.2 up to it, 4.5 above it (USD for 1,000,000 images)." in (
        done.stdout
    )
    assert "never idle" in done.stdout
    records = json.loads(CliRunner().invoke(cli, [*asked, "--json"]).stdout)
    rungs = [one for one in records if one["verdict"] == "rung"]
    assert [(one["model"], one["system"], one["knee"]) for one in rungs] == [
        ("alexnet", "board", False), ("squeezenet1_1", "board", False), ("vgg11", "box", True),
        ("vgg16", "box", False),
    ]  # fmt: skip
    plain = CliRunner().invoke(cli, ["pick", "--among", "table", "--system", "box", "--table", str(table)])
    assert "The price of one more point" not in plain.stdout
    why = CliRunner().invoke(
        cli, ["pick", "--among", "table", "--system", "box", "--table", str(table), "--why"]
    )
    assert "Knee: vgg11: a point costs 100 µs up to it, 4.50 ms above it." in why.stdout


def test_no_rung_above_the_straight_line_is_no_knee(table: Path) -> None:
    rows = [row for row in pick(table, system="box").meeting if row.model != "vgg11"]
    found = ladder.ladder(rows[:2], "top1", ladder.Prices())
    assert found is not None
    assert found.knee is None


def test_what_follows_from_an_estimate_is_marked_on_both_sides(table: Path) -> None:
    rows = pick(table, system="box").meeting
    low, high = (next(row for row in rows if row.model == name) for name in ("alexnet", "vgg11"))
    guessed = replace(
        low, figures={**low.figures, "latency": low.figures["latency"].like(origin="estimated")}
    )
    found = ladder.ladder([guessed, high], "top1", ladder.Prices({"box": 3.6}, "USD"))
    assert found is not None
    first, second = found.rungs
    assert (first.is_estimated("money"), second.is_estimated("money")) == (True, False)
    assert second.is_estimated_per_point("money")
    (_, told) = text_of.records(found)
    assert (told["estimated"], told["estimated_per_point"]) == ("", "latency, money")
    assert "~+0.1" in "".join(text_of.text(found, systems=False))


def test_of_many_rungs_each_line_counts_from_the_line_above(table: Path) -> None:
    one = pick(table, system="box").meeting[0]

    def rung(number: int) -> WideRow:
        figures = {"latency": one.figures["latency"].like(value=(number + number**2) / 1e3),
                   "top1": one.figures["top1"].like(value=0.5 + number / 100)}  # fmt: skip
        return WideRow(f"net{number}", one.conditions, figures)

    found = ladder.ladder(map(rung, range(1, 25)), "top1", ladder.Prices())
    assert found is not None
    told = text_of.text(found, systems=False)
    lines = [line.split() for line in told[2].splitlines()[2:]]
    assert len(lines) == 13
    for before, line in pairwise(lines):
        start, end = (int(name.removeprefix("net")) for name in (before[0], line[0]))
        each = ((end + end**2) - (start + start**2)) / (end - start)
        assert float(line[6]) == pytest.approx(each, rel=1e-3)
    assert "Knee among all 24 rungs: net12: a point costs 24.0 ms up to it, 26.0 ms above it." in told
    assert [one["latency_per_point"] for one in text_of.records(found)][1] == pytest.approx(0.004)


def test_where_only_throughputs_are_known_an_image_takes_their_inverse(tmp_path: Path) -> None:
    rows = [top1(model, accuracy) for model, (accuracy, *_) in NETWORKS.items()]
    rows += [
        on(name, model, ms).like(metric="throughput", value=1e3 / ms, low=None, high=None, origin="published",
                                 source="a page")
        for model, (_, *both) in NETWORKS.items() for name, ms in zip(("box", "board"), both, strict=True)
    ]  # fmt: skip
    path = tmp_path / "t.sqlite"
    Table(path).append(rows)
    asked = {"by": "throughput", "systems": "box,board", "price": {"box": "3.60USD", "board": "0.18USD"}}
    found = pick(path, **asked).ladder
    assert [one.costs["money"] for one in found.rungs] == pytest.approx([0.5e-6, 1e-6, 3e-6, 12e-6])
    assert not any(one.is_estimated("money") for one in found.rungs)
    options = ["pick", "--by", "throughput", "--among", "table", "--systems", "box,board", "--table",
               str(path),
               "--price", "box=3.60USD", "--price", "board=0.18USD"]  # fmt: skip
    assert "Time: of one image, from the throughput." in CliRunner().invoke(cli, options).stdout
    told = json.loads(CliRunner().invoke(cli, [*options, "--json"]).stdout)
    rungs = [one for one in told if one["verdict"] == "rung"]
    assert [one["money_per_image"] for one in rungs] == [one.costs["money"] for one in found.rungs]
    assert [one["money_per_point"] for one in rungs] == [one.per_point.get("money") for one in found.rungs]
    with pytest.raises(InvalidInputError, match=r"No latency in this form is known of box, board") as caught:
        vertebra.pick(table=path, latency="5ms", systems="box,board")
    assert caught.value.hint == "known there: throughput; to choose by one: --by NAME"
