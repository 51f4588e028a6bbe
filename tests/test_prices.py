"""What an hour of a machine costs, kept in the table."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

import vertebra
from test_ladder import NETWORKS, on, pick, places
from test_ladder import table as two_machines
from test_measurements import Place, change
from test_measurements import place as in_file_or_on_server
from vertebra.cli import cli
from vertebra.errors import InvalidInputError, UnknownNameError
from vertebra.measurements import Table, receiving, submission
from vertebra.measurements import prices as pricing
from vertebra.measurements.prices import Price

table, place = two_machines, in_file_or_on_server


def test_a_price_is_kept_until_another_is_said(place: Place) -> None:
    kept = Table(place("table.sqlite"))
    kept.append([on("box", "alexnet", 1), on("board", "alexnet", 10)])
    assert kept.prices() == {}
    assert kept.keep_prices("box=0.34USD") == {"box": Price(0.34, "USD")}
    kept.keep_prices({"board": "0.02 usd/h"})
    assert kept.prices() == {"board": Price(0.02, "USD"), "box": Price(0.34, "USD")}
    kept.keep_prices(["box=1EUR", "board=none"])
    assert Table(place("table.sqlite")).prices() == {"box": Price(1.0, "EUR")}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("box=cheap", 'The price of box is "cheap"'),
        ("box=-1USD", "The price of box"),
        ("box=1e400USD", "The price of box"),
        ("box", '"box" is not a price'),
        ("=1USD", "is not a price"),
        (["box=1USD", "box=2USD"], "two prices"),
    ],
)
def test_what_is_no_price_changes_nothing(table: Path, given: str | list[str], told: str) -> None:
    Table(table).keep_prices("box=2USD")
    with pytest.raises(InvalidInputError, match=re.escape(told)):
        Table(table).keep_prices(given)
    assert Table(table).prices() == {"box": Price(2.0, "USD")}


def test_a_machine_without_figures_has_no_price(table: Path) -> None:
    with pytest.raises(UnknownNameError) as caught:
        Table(table).keep_prices({"box": "1USD", "pi": "1USD"})
    assert "board, box" in str(caught.value.hint)
    assert Table(table).prices() == {}


def test_pick_counts_money_with_kept_prices_and_one_that_is_given_comes_before(table: Path) -> None:
    rows = vertebra.table(price={"box": "3.60USD", "board": "0.18usd"}, path=table)
    assert {row.system for row in rows} == {"box", "board"}
    assert len(rows) == 2 * len(NETWORKS)
    found = pick(table, systems="box,board").ladder
    assert (found.against, found.currency) == ("money", "USD")
    assert places(found)[0] == ("alexnet", "board")
    dear = pick(table, systems="box,board", price="board=36USD").ladder
    assert places(dear)[0] == ("alexnet", "box")
    assert dear.per_hour == {"box": 3.6, "board": 36.0}
    with pytest.raises(InvalidInputError, match=r"EUR.*the table keeps: board=0.18USD"):
        pick(table, systems="box,board", price="box=3EUR")
    alone = pick(table, system="box").ladder
    assert (alone.against, alone.per_hour) == ("money", {"box": 3.6})


def test_the_command_says_what_is_kept_and_the_answer_names_the_prices(table: Path) -> None:
    shown = CliRunner().invoke(cli, ["table", "--price", "box=3.60USD", "--price", "board=0.18USD",
                                     "--table", str(table), "--json"])  # fmt: skip
    assert json.loads(shown.stdout) == [
        {"system": "board", "price per hour": 0.18, "currency": "USD"},
        {"system": "box", "price per hour": 3.6, "currency": "USD"},
    ]
    asked = ["pick", "--among", "table", "--systems", "box,board", "--table", str(table)]
    answer = CliRunner().invoke(cli, asked)
    assert answer.exit_code == 0, answer.output
    assert "an hour's price (box 3.6, board 0.18 USD)" in " ".join(answer.output.split())
    rungs = [one for one in json.loads(CliRunner().invoke(cli, [*asked, "--json"]).stdout)
             if one["verdict"] == "rung"]  # fmt: skip
    assert {one["system"]: one["price_per_hour"] for one in rungs} == {"board": 0.18, "box": 3.6}
    refused = CliRunner().invoke(cli, ["table", "--price", "box=1USD", "--wide", "--table", str(table)])
    assert refused.exit_code == 2
    assert "leave the other options out" in refused.output


def test_what_was_said_last_survives_merging_in_any_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter(f"2026-11-0{day}T10:00:00.000000+00:00" for day in range(1, 9))
    monkeypatch.setattr(pricing, "now", lambda _: next(times))
    tables = []
    for name, said in (("a", "box=1USD"), ("b", "box=2USD"), ("c", "box=none"), ("d", "box=4USD")):
        one = Table(tmp_path / f"{name}.sqlite")
        one.append([on("box", "alexnet", 1)])
        one.keep_prices(said)
        tables.append(one)
    for order in ((0, 1, 2), (2, 1, 0), (1, 2, 0)):
        into = Table(tmp_path / f"into-{''.join(map(str, order))}.sqlite")
        assert sum(into.bring(tables[place]).prices for place in order) >= 1
        assert into.prices() == {}  # it was taken back last
        assert into.bring(tables[3]).prices == 1
        assert into.prices() == {"box": Price(4.0, "USD")}
        assert into.bring(tables[3]).prices == 0
        assert into.bring(tables[0]).prices == 0
        assert into.prices() == {"box": Price(4.0, "USD")}


def test_a_submission_has_no_price(tmp_path: Path) -> None:
    from vertebra.machine.system import describe

    kept = Table(tmp_path / "t.sqlite")
    here = describe()
    kept.append([on(here.id, "alexnet", 1)], system=here)
    kept.keep_prices({here.id: "987.654321XTS"})
    packed = submission.pack(kept)
    assert packed.rows == 1
    path = tmp_path / f"one{submission.ENDING}"
    path.write_bytes(packed.content)
    found = receiving.read(path, strict=True)
    kept_of_it = repr((found.runs, found.systems))
    assert here.id in kept_of_it
    assert "987.65" not in kept_of_it
    assert "price" not in kept_of_it


@pytest.mark.parametrize(
    "values", ["'cheap', 'USD'", "1.0, NULL", "1.0, 'dollars'", "-1.0, 'USD'", "9e999, 'USD'"]
)
def test_an_edited_price_ends_no_reader(table: Path, values: str) -> None:
    Table(table).keep_prices("board=0.18USD")
    change(
        Table(table),
        f"INSERT INTO prices (system, said_at, per_hour, currency) VALUES ('box', 'x', {values})",
    )
    assert Table(table).prices() == {"board": Price(0.18, "USD")}
    assert pick(table, systems="box,board").ladder.against == "latency"


@pytest.mark.parametrize(("later", "price"), [("box=2USD", {"box": Price(2.0, "USD")}), ("box=none", {})])
def test_of_a_machine_s_earlier_and_today_s_id_the_last_price_counts(
    table: Path, later: str, price: dict[str, Price], monkeypatch: pytest.MonkeyPatch
) -> None:
    change(
        Table(table),
        "INSERT INTO prices (system, said_at, per_hour, currency) "
        "VALUES ('zz-before', '2026-01-01', 9.0, 'USD')",
    )
    monkeypatch.setattr(Table, "_present_ids", lambda self: {"zz-before": "box"})
    assert Table(table).prices() == {"box": Price(9.0, "USD")}
    Table(table).keep_prices(later)
    assert Table(table).prices() == price
