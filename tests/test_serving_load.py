"""`bench --scenario server URL`: rows from a server that answers as a test asks, by counts, not by time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import vertebra
from inference_stub import stubbed
from vertebra.cli import cli
from vertebra.errors import InvalidInputError
from vertebra.machine import system
from vertebra.measurements.views import wide
from vertebra.measuring.benchmarking import scenarios
from vertebra.measuring.requests import offering
from vertebra.measuring.requests.offering import Offered

#: A bound that a busy machine keeps too, and a rate at which 662 requests take a third of a second.
EASY: dict[str, Any] = {
    "scenario": "server", "latency_bound": "20s", "arrival_rate": 2000.0, "quick": True, "seconds": 1
}  # fmt: skip


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return tmp_path / "table.sqlite"


def figures(rows: Any) -> dict[str, Any]:
    return {row.metric: row for row in rows}


def test_a_rate_is_offered_and_its_rows_are_in_the_table(table: Path) -> None:
    begins: list[int] = []  # how many requests came before the load
    with stubbed() as stub:
        stub.odd = lambda number: (503, {}, b"") if begins and number - begins[0] in (100, 200) else None
        url = stub.url
        rows = vertebra.bench(url, table=table, progress=lambda _: begins.append(len(stub.asked)), **EASY)
    found = figures(rows)
    assert set(found) == {
        "request_latency", "request_latency_p90", "request_latency_p99", "missed_requests", "failed_requests"
    }  # fmt: skip
    assert found["failed_requests"].value == found["missed_requests"].value == 2 / 662
    assert found["request_latency"].samples == 660
    row = found["request_latency_p99"]
    assert (row.model, row.engine, row.scenario, row.arrival_rate) == (
        "served:made",
        "made-up",
        "server",
        2000,
    )
    assert (row.source, row.system) == (f"{url}/v2/models/made", system.describe().id)
    assert row.protocol == "p99 within 20000 ms, FP32 over HTTP"
    assert any("taken to run on this machine" in reason for reason in row.grade_reasons)
    assert any("2 of 662 requests failed: status 503 (2)" in reason for reason in row.grade_reasons)
    kept = vertebra.table(path=table)
    assert [(one.metric, one.value, one.versions) for one in kept] == [
        (one.metric, one.value, one.versions) for one in rows
    ]
    (run,) = {one.run for one in kept}
    assert len(vertebra.Table(table).samples(run)["request_latency"]) == 660


def test_the_highest_rate_is_searched_and_held_in_each_run(
    table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server keeps up to 100 a second; requests really go to it one after another."""
    tried = []

    async def offer(ask: Any, *, rate: float, bound: Any, queries: int, seed: int, **_: Any) -> Offered:
        tried.append((rate, seed))
        missed = 0 if rate <= 100 else offering.fewest_broken(bound, queries)
        times = (0.001,) * (queries - missed)
        return Offered(rate, 1, bound, queries, times, (1e-5,) * queries, missed, {}, missed == 0)

    monkeypatch.setattr(offering, "offer", offer)
    with stubbed() as stub:
        rows = vertebra.bench(
            stub.url, scenario="server", latency_bound="1s", table=table, processes=2, seconds=2, seed=5
        )
        single = stub.connections
    rate = figures(rows)["served_rate"]
    assert 100 / 1.06 < rate.value <= 100 < rate.high
    assert {seed for tested, seed in tried if tested == rate.value} == {5, 6}
    assert single < 100
    assert figures(rows)["request_latency"].arrival_rate == rate.value


def test_an_interruption_leaves_what_was_found(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    async def offer(ask: Any, *, rate: float, bound: Any, queries: int, seed: int, **_: Any) -> Offered:
        calls.append(rate)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return Offered(rate, 1, bound, queries, (0.001,) * queries, (1e-5,) * queries, 0, {}, True)

    monkeypatch.setattr(offering, "offer", offer)
    with stubbed() as stub, pytest.raises(KeyboardInterrupt):
        vertebra.bench(stub.url, scenario="server", latency_bound="1s", table=table)
    rate = figures(vertebra.table(path=table))["served_rate"]
    assert (rate.value, rate.grade) == (calls[1], "C")
    assert "interrupted" in rate.grade_reasons[0]


@pytest.mark.parametrize(
    ("missed", "lag", "said"),
    [
        (700, 0.0, "can't keep p99 within 20000 ms: 700 of the first 662 requests were late or failed"),
        (0, 3.0, "the load generator was late at 2000/s"),
    ],
)
def test_a_rate_without_figures_is_a_failure_with_its_reason(
    table: Path, monkeypatch: pytest.MonkeyPatch, missed: int, lag: float, said: str
) -> None:
    async def offer(ask: Any, *, rate: float, bound: Any, queries: int, **_: Any) -> Offered:
        return Offered(rate, 1, bound, queries, (), (lag,) * queries, missed, {}, missed == 0)

    monkeypatch.setattr(offering, "offer", offer)
    with stubbed() as stub:
        (row,) = vertebra.bench(stub.url, table=table, **EASY)
    assert row.metric == "failure"
    assert said in row.grade_reasons[0]


def test_no_time_is_enough_for_a_budget_that_is_too_short(table: Path) -> None:
    with stubbed() as stub:
        rows = vertebra.bench(
            stub.url,
            scenario="server",
            latency_bound="10s",
            arrival_rate=50,
            processes=1,
            budget=2,
            table=table,
        )
    assert rows == []


def test_answers_that_change_under_load_are_a_defect(table: Path) -> None:
    def odd(number: int) -> Any:
        values = [1.0, 2.0] if number < 500 else [2.0, 1.0]
        described = {"name": "y", "datatype": "FP32", "shape": [1, 2], "data": values}
        return 200, {}, json.dumps({"outputs": [described]}).encode()

    with stubbed(odd=odd) as stub:
        row = vertebra.bench(stub.url, table=table, **EASY)[0]
    assert row.grade == "C"
    assert "others after the load than before" in row.grade_reasons[0]


def test_photographs_are_sent_as_they_are(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a.jpg", "b.jpg"):
        (folder / name).write_bytes(name.encode())
    takes = [{"name": "x", "datatype": "BYTES", "shape": [-1]}]
    with stubbed(inputs=takes) as stub:
        rows = vertebra.bench(stub.url, table=table, pictures=folder, **EASY)
    assert {body[-9:] for body in stub.asked} == {b"\x05\x00\x00\x00a.jpg", b"\x05\x00\x00\x00b.jpg"}
    assert rows[0].protocol.endswith("BYTES over HTTP")
    monkeypatch.setattr(scenarios, "_photograph", lambda seed: b"drawn")
    with stubbed(inputs=takes) as stub:
        rows = vertebra.bench(stub.url, table=table, **EASY)
    assert "synthetic photographs" in rows[0].grade_reasons


def test_an_input_that_the_server_does_not_state_is_stated_by_the_user(table: Path) -> None:
    with stubbed(inputs=[]) as stub:
        with pytest.raises(InvalidInputError, match="0 inputs"):
            vertebra.bench(stub.url, table=table, **EASY)
        vertebra.bench(stub.url, table=table, tensor="x:UINT8:-1x5", **EASY)
    assert {b'"name": "x", "datatype": "UINT8", "shape": [1, 5]' in body for body in stub.asked} == {True}


def test_a_late_run_is_repeated_once(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lags = iter([3.0, 0.0])

    async def offer(ask: Any, *, rate: float, bound: Any, queries: int, **_: Any) -> Offered:
        return Offered(rate, 1, bound, queries, (0.1,) * queries, (next(lags),) * queries, 0, {}, True)

    monkeypatch.setattr(offering, "offer", offer)
    with stubbed() as stub:
        rows = vertebra.bench(stub.url, table=table, **EASY)
    assert figures(rows)["request_latency"].value == 0.1


def test_a_token_goes_with_every_request(table: Path, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("a-token-of-good-length\n")
    token.chmod(0o600)
    with stubbed() as stub:
        vertebra.bench(stub.url, table=table, token_file=token, **EASY)
    assert {one.get("authorization") for one in stub.headers} == {"Bearer a-token-of-good-length"}


@pytest.mark.parametrize(
    ("models", "options", "said"),
    [
        (["http://h"], {"scenario": "offline"}, "scenario is offline"),
        (["http://h"], {"scenario": "server"}, "needs a latency bound"),
        (["http://h", "alexnet"], {}, "alexnet is measured here"),
        (["http://h"], {"engine": "eager", "threads": 2}, "--engine, --threads can't be asked"),
        (["http://h"], {"device": "cuda"}, "--device"),
        (["http://h"], {"shard": "1/2", "on": "ray"}, "--shard, --on can't be asked"),
        (["alexnet"], {"pictures": "photos"}, "named by its URL"),
        (["http://u:p@h"], {}, "password"),
        (["http://127.0.0.1:9"], {}, "can't be reached"),
    ],
)
def test_what_can_not_be_asked_of_a_server_is_refused(
    table: Path, models: list[str], options: dict[str, Any], said: str
) -> None:
    asked = {"scenario": "server", "latency_bound": None if options.get("scenario") else "1s", **options}
    with pytest.raises(InvalidInputError) as caught:
        vertebra.bench(*models, table=table, **asked)
    assert said in f"{caught.value}"
    assert not table.exists()


def test_rows_of_a_server_are_never_one_form_with_those_measured_here(table: Path) -> None:
    here = vertebra.Measurement(
        model="served:made", metric="latency", value=0.1, origin="benched", system=system.describe().id,
        device="cpu", engine="made-up", precision="float32", batch_size=1, input_size=8, scenario="server",
        protocol="p99 within 20000 ms", arrival_rate=2000.0,
    )  # fmt: skip
    with stubbed() as stub:
        rows = [*vertebra.bench(stub.url, table=table, **EASY), here]
    assert [set(form.figures) for form in wide(rows) if "latency" in form.figures] == [{"latency", "fps"}]
    assert not {row.metric for row in rows[:-1]} & {"latency", "throughput", "sustained_rate"}


def test_the_command_prints_a_line_a_server_and_every_row_as_json(table: Path) -> None:
    options = ["--scenario", "server", "--latency-bound", "20s", "--arrival-rate", "2000", "--quick"]
    options += ["--seconds", "1s", "--table", str(table)]
    with stubbed() as stub:
        shown = CliRunner().invoke(cli, ["bench", stub.url, *options])
        printed = CliRunner().invoke(cli, ["bench", stub.url, *options, "--json"])
    assert shown.exit_code == 0, shown.output
    for part in (f"{stub.url}/v2/models/made", "2000/s", "p99 within 20000 ms, FP32 over HTTP", "662"):
        assert part in shown.stdout
    rows = json.loads(printed.stdout)
    assert {row["metric"] for row in rows} >= {"request_latency", "missed_requests"}
    assert {row["scenario"] for row in rows} == {"server"}
