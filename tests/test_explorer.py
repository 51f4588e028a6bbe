"""The explorer: picks like Python in a real browser, keeps its state in its address, makes no requests."""

from __future__ import annotations

import functools
import importlib.util
import json
import random
import shlex
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from classic_rows import CLASSICS, SYSTEM, known, timed
from field_rows import field
from test_charts import named
from test_evaluation import TABLE, TINY, answering, dataset
from test_names import HOSTILE as NAMES
from test_web import SWITCHES
from vertebra import metrics, units
from vertebra.errors import InvalidInputError
from vertebra.machine import downloads
from vertebra.measurements import Measurement, Table, wide
from vertebra.measurements.measurement import ORIGINS
from vertebra.measuring.evaluation import evaluate
from vertebra.measuring.evaluation import rows as measurements
from vertebra.reading import charts, reports
from vertebra.reading.charts.grid import grid, grid_chart
from vertebra.reading.choice import rule
from vertebra.reading.choice.rule import Limit, described
from vertebra.reading.reports import accuracy, explorer, sheet
from vertebra.reading.reports.edition import edition
from vertebra.reading.reports.evaluated import Evaluated
from vertebra.verbs.pick import pick
from vertebra.verbs.report import _reported, report
from vertebra.zoo import names

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
needs_browser = pytest.mark.skipif(
    BROWSER is None or importlib.util.find_spec("playwright") is None,
    reason='needs apt-get install chromium, and pip install "vertebra[test]"',
)
NETWORKS = 1400
UNFOLDED = "#explorer?open=grid%2Clatency_per_image%2Cmemory_total"
AXE = "axe-core@4.10.3"

#: limits as they are typed, and what else is chosen
ASKED: tuple[tuple[dict[str, str], str, str], ...] = (
    ({}, "top1", "B"),
    ({"latency": "20ms"}, "top1", "B"),
    ({"latency": "7.5ms", "memory": "300MB", "params": "12.5M"}, "top1", "B"),
    ({"top1": "75%", "latency": "40ms"}, "params", "B"),
    ({"top1": "75%", "latency": "40ms"}, "latency", "C"),
    ({"size": "20MB", "macs": "1G"}, "top1", "C"),
    ({"operations": "2G", "fps": "50"}, "accuracy_density", "A"),
    ({"top1": "80%"}, "fps", "B"),
    ({"top1": "89%", "latency": "0.5ms"}, "top1", "B"),  # nothing meets it
)


@functools.cache
def rows() -> tuple[Measurement, ...]:
    return tuple(field(NETWORKS))


@functools.cache
def page_text() -> str:
    return reports.html(rows())


@functools.cache
def swept() -> tuple[Measurement, ...]:
    """The classics at three batch sizes on this machine, with their power; one of them at one size only."""
    batches = [row for batch in (1, 2, 8) for row in timed(pace=batch**0.8, batch_size=batch)]
    return (
        *known(),
        *(row for row in batches if row.model != "vgg19" or row.batch_size == 1),
        *(power(name, 12 + milliseconds / 20) for name, *_, milliseconds in CLASSICS),
    )


def power(model: str, watts: float) -> Measurement:
    return Measurement(model=model, metric="power", value=watts, origin="benched", system=SYSTEM,
                       device="cpu", engine="onnxruntime", precision="float32", batch_size=1, threads=2,
                       input_size=256 if model == "darknet53" else 224)  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=SWITCHES)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("explorer") / "report.html"
    path.write_text(page_text(), encoding="utf-8")
    return path.as_uri()


@pytest.fixture(scope="module")
def page(browser: Any, file: str) -> Any:
    return opened(browser, file)


@pytest.fixture(scope="module")
def sweep(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The page of `swept`, everything unfolded."""
    path = tmp_path_factory.mktemp("sweep") / "report.html"
    path.write_text(reports.html(swept()), encoding="utf-8")
    page = opened(browser, path.as_uri() + UNFOLDED)
    settle(page)
    return page


def opened(browser: Any, address: str, **options: Any) -> Any:
    """The page; `asked` are the addresses of all its requests, `said` is its console's talk."""
    page = browser.new_page(**options)
    page.asked, page.said = [], []
    page.on("request", lambda request: page.asked.append(request.url))
    page.on("console", lambda message: page.said.append(message.text))
    page.on("pageerror", lambda error: page.said.append(str(error)))
    page.goto(address)
    page.wait_for_selector("#explorer-choice")
    return page


def settle(page: Any) -> None:
    """Until what was asked for is drawn."""
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def until(page: Any, holds: Callable[[], bool]) -> None:
    """Playwright's own wait would need what the page's policy forbids."""
    for _ in range(200):
        if holds():
            return
        page.wait_for_timeout(25)
    raise AssertionError("it never held")


def fragment(limits: dict[str, str], by: str = "top1", trust: str = "any") -> str:
    parts = {**limits, "by": by, "trust": trust}
    return "#explorer?" + "&".join(f"{name}={quote(text)}" for name, text in parts.items())


def expected(limits: dict[str, str], by: str, trust: str) -> rule.Pick:
    bounds = rule.bounds(limits)
    ordered = [one for name in rule.LIMITS.values() for one in bounds if one.metric == name]
    return rule.pick(wide(rows()), ordered, by, least_grade=None if trust == "any" else trust)


def words(page: Any, where: str) -> list[str]:
    told: list[str] = page.eval_on_selector_all(where, "(all) => all.map((one) => one.textContent)")
    return told


def ask(page: Any, limits: dict[str, str], by: str = "top1", trust: str = "any") -> None:
    page.evaluate("(hash) => { location.hash = hash; }", fragment(limits, by, trust))
    until(page, lambda: page.input_value("#explorer-by") == by)
    settle(page)


# ------------------------------------------------------------------ in the browser


@needs_browser
@pytest.mark.parametrize(("limits", "by", "trust"), ASKED)
def test_the_pick_on_the_page_is_that_of_the_command(page, limits, by, trust):
    picked = expected(limits, by, trust)
    ask(page, limits, by, trust)
    sentence = rule.sentences(picked)[0]
    assert page.text_content("#explorer-choice") == sentence
    assert page.text_content("#explorer-meeting") == f"Networks that meet every limit: {len(picked.ranked)}."
    assert words(page, "#explorer-excluded li") == [
        f"{described(one.row)}: {one.why}" for one in picked.excluded[:12]
    ]
    if picked.runner_up is not None:
        asked = (by, "latency", *(limit.metric for limit in picked.limits))
        assert (
            page.text_content("#explorer-runner-up") == f"Runner-up: {described(picked.runner_up, *asked)}."
        )
    shown = words(page, "#explorer-table tbody button")
    assert shown[: len(picked.ranked)] == [row.model for row in picked.ranked][: len(shown)]
    typed = page.text_content("#explorer-command")
    assert all(f"--{name} {text}" in typed for name, text in limits.items())


@needs_browser
@pytest.mark.parametrize(
    "seed", [*range(6), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(6, 60))]
)
def test_the_pick_under_limits_drawn_at_random_is_that_of_the_command(page, seed):
    draw = random.Random(seed)
    typed = {
        "latency": f"{10 ** draw.uniform(0, 3):.3g}ms", "memory": f"{10 ** draw.uniform(2, 3.3):.3g}MB",
        "size": f"{10 ** draw.uniform(1, 3):.3g}MB", "params": f"{10 ** draw.uniform(0.3, 2.5):.3g}M",
        "operations": f"{10 ** draw.uniform(-1, 2):.3g}G", "top1": f"{draw.uniform(50, 80):.1f}%",
    }  # fmt: skip
    limits = {name: typed[name] for name in typed if draw.random() < 0.4}
    by = draw.choice(("top1", "latency", "params", "accuracy_density", "fps"))
    trust = draw.choice(("any", "A", "B", "C"))
    picked = expected(limits, by, trust)
    ask(page, limits, by, trust)
    assert page.text_content("#explorer-choice") == rule.sentences(picked)[0]
    assert page.text_content("#explorer-meeting") == f"Networks that meet every limit: {len(picked.ranked)}."


@pytest.fixture(scope="module")
def classics(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The page of the classics, timed on this machine."""
    path = tmp_path_factory.mktemp("classics") / "report.html"
    path.write_text(reports.html([*known(), *timed()]), encoding="utf-8")
    return opened(browser, path.as_uri())


def picked(limits: dict[str, str], by: str = "top1") -> rule.Pick:
    """What the command answers from the classics' rows."""
    ordered = {name: limits[name] for name in rule.LIMITS if name in limits}
    return rule.pick(wide([*known(), *timed()]), rule.bounds(ordered), by, least_grade="C")


def same_as_command(page: Any, limits: dict[str, str], by: str = "top1") -> None:
    ask(page, limits, by, trust="C")
    found = picked(limits, by)
    assert page.text_content("#explorer-choice") == rule.sentences(found)[0]
    assert page.text_content("#explorer-meeting") == f"Networks that meet every limit: {len(found.ranked)}."


@needs_browser
@pytest.mark.parametrize("classic", CLASSICS, ids=lambda classic: classic[0])
def test_a_network_meets_a_limit_that_is_its_own_figure(classics, classic):
    model, _, params, macs, top1, *_ = classic
    for limits, by in (
        ({"top1": f"{100 * top1:.1f}%"}, "params"),
        ({"macs": f"{macs}"}, "top1"),
        ({"params": f"{params}"}, "top1"),
        ({"top1": f"{top1}", "macs": f"{macs / 1e9:.9f}G", "params": f"{params / 1e6:.6f}M"}, "top1"),
    ):  # fmt: skip
        same_as_command(classics, limits, by)
        assert model in {row.model for row in picked(limits, by).ranked}


@needs_browser
@pytest.mark.parametrize(
    ("address", "command", "field"),
    [
        ("memory=1.1GB", "--memory 1100MB", "1100"), ("memory=668MiB", "--memory 700.448768MB", "700.448768"),
        ("top1=0.70", "--top1 70%", "70"), ("top1=75%25", "--top1 75%", "75"),
        ("top1=75%", "--top1 75%", "75"),
        ("macs=4100M", "--macs 4.100G", "4.100"), ("macs=4.1e9", "--macs 4.1G", "4.1"),
        ("latency=0.02s", "--latency 20ms", "20"), ("latency=20ms", "--latency 20ms", "20"),
        ("latency=20000%C2%B5s", "--latency 20.000ms", "20.000"), ("fps=30fps", "--fps 30", "30"),
        ("size=0.5gb", "--size 500MB", "500"), ("params=25.5M", "--params 25.5M", "25.5"),
        ("latency=9ms&latency=20ms", "--latency 20ms", "20"),
    ],
)  # fmt: skip
def test_the_address_takes_the_units_of_the_command(classics, address, command, field):
    given, text = address.rpartition("&")[2].split("=")
    limits = {given: text.replace("%25", "%").replace("%C2%B5", "µ")}
    classics.evaluate("(hash) => { location.hash = hash; }", f"#explorer?trust=C&{address}")
    until(classics, lambda: classics.input_value(f"#limit-{given}").rstrip("0") == field.rstrip("0"))
    settle(classics)
    assert classics.text_content("#explorer-choice") == rule.sentences(picked(limits))[0]
    told = classics.text_content("#explorer-command")
    typed = told.partition(f"--{given} ")[2].split(" ")[0]
    unit = metrics.find(rule.LIMITS[given]).unit
    assert units.parse(typed, unit) == units.parse(limits[given], unit)
    assert units.parse(command.split(" ")[1], unit) == units.parse(typed, unit)


@needs_browser
def test_what_an_address_says_in_vain_is_left_out_and_said(classics):
    classics.evaluate(
        "(hash) => { location.hash = hash; }",
        "#explorer?latency=soon&top1=120%25&memory=-3MB&energy=3&probe=70%25&by=beauty&limits=3&latancy=20ms"
        "&trust=C",
    )
    until(classics, lambda: "latancy" in classics.text_content("#explorer-dropped"))
    told = classics.text_content("#explorer-dropped")
    assert "latency=soon (can't be read; write it like 10ms)" in told
    assert "top1=120% (can't be read; write it like 75%)" in told
    assert "memory=-3MB (can't be read" in told
    assert "probe=70% (no network here has this figure)" in told
    assert "by=beauty (not one of the choices here)" in told
    assert "latancy=20ms (there is no such option)" in told
    assert classics.text_content("#explorer-choice") == rule.sentences(picked({}))[0]
    classics.click("#explorer-reset")
    settle(classics)
    assert classics.text_content("#explorer-dropped") == ""
    classics.fill("#limit-latency", "0.02s")
    classics.dispatch_event("#limit-latency", "change")
    settle(classics)
    assert classics.input_value("#limit-latency") == "20"
    classics.fill("#limit-latency", "quick")
    settle(classics)
    assert "latency=quick (can't be read" in classics.text_content("#explorer-dropped")
    classics.click("#explorer-reset")


def read_by_page(page: Any, texts: list[tuple[str, str]]) -> list[float | None]:
    """What the page's own reader makes of texts in units, in one call."""
    reader = (Path(explorer.__file__).parent / "explorer-units.js").read_text(encoding="utf-8")
    scales = {unit: explorer._scales(unit) for unit in units.SUFFIXES}
    told: list[float | None] = page.evaluate(
        f"""({{ units, texts }}) => {{
            const data = {{ units }};
            {reader}
            return texts.map(([text, unit]) => {{
                const found = quantity(text, unit);
                return found === null ? null : valueOf(found);
            }});
        }}""",
        {"units": scales, "texts": texts},
    )
    return told


@needs_browser
def test_the_page_reads_quantities_as_the_command_does(page):
    draw = random.Random(3)
    texts = [(f"{tenths / 10:.1f}%", "fraction") for tenths in range(400, 1000)]
    texts += [(f"{tenths / 10:.1f}ms", "s") for tenths in range(1, 2000)]
    texts += [(f"{cents / 100:.2f}G", "count") for cents in range(1, 2000)]
    for unit, suffixes in units.SUFFIXES.items():
        for suffix in [*suffixes, "", "parsec"]:
            for number in (
                "0",
                "1",
                "0.70",
                ".5",
                "4.1",
                "1e3",
                "2.5E-3",
                "007",
                "1e400",
                f"{draw.random():.17g}",
            ):
                texts += [(f"{number}{suffix}", unit), (f" {number} {suffix.upper()} ", unit)]
    texts += [(text, "s") for text in ("", "ms", "-1s", "1 000s", "1,5s", "nan", "1__s", "1e s", "..5s")]
    expected: list[float | None] = []
    for text, unit in texts:
        try:
            expected.append(units.parse(text, unit))
        except InvalidInputError:
            expected.append(None)
    told = read_by_page(page, texts)
    assert [(text, one) for text, one in zip(texts, told, strict=True)] == list(
        zip(texts, expected, strict=True)
    )
    assert None in expected
    assert units.parse("81.4%", "fraction") == 0.814


@needs_browser
def test_every_stop_of_a_slider_is_the_limit_that_it_shows(classics):
    ask(classics, {}, trust="C")
    for option in ("top1", "latency"):
        for step in range(0, 1001, 91):
            classics.evaluate(
                "([id, step]) => { const one = document.getElementById(id); one.value = step;"
                " one.dispatchEvent(new Event('input')); }",
                [f"slide-{option}", step],
            )
            settle(classics)
            typed = classics.input_value(f"#limit-{option}")
            limits = {option: f"{typed}{'%' if option == 'top1' else 'ms'}"} if typed else {}
            assert classics.text_content("#explorer-choice") == rule.sentences(picked(limits))[0]
        classics.click("#explorer-reset")
        classics.select_option("#explorer-trust", "C")
    classics.click("#explorer-reset")


@needs_browser
def test_moving_a_slider_moves_the_limit_and_the_pick(page):
    ask(page, {})
    free = page.text_content("#explorer-choice")
    page.focus("#slide-latency")
    for _ in range(4):
        page.keyboard.press("PageDown")
    settle(page)
    bound = page.input_value("#limit-latency")
    picked = expected({"latency": f"{bound}ms"}, "top1", "B")
    assert page.text_content("#explorer-choice") == rule.sentences(picked)[0] != free
    assert page.get_attribute("#slide-latency", "aria-valuetext").startswith("at most")
    spoken = page.text_content("#explorer-choice")
    until(page, lambda: page.text_content("#explorer-spoken") == spoken)
    page.keyboard.press("End")
    settle(page)
    assert page.input_value("#limit-latency") == ""
    assert page.text_content("#explorer-choice") == free


@needs_browser
def test_the_address_restores_the_whole_state(browser, file, page):
    ask(page, {})
    page.fill("#limit-latency", "12.5")
    page.fill("#limit-top1", "70")
    page.select_option("#explorer-by", "params")
    page.select_option("#explorer-trust", "C")
    page.uncheck("#explorer-log")
    page.fill("#explorer-search", "net1")
    page.click("#explorer-table thead button >> nth=3")
    page.click("#explorer-table tbody button >> nth=1")
    page.click("#explorer-grid summary")
    until(page, lambda: grid_shown(page) != [])
    kept = page.get_attribute("#explorer-link", "href")
    until(page, lambda: page.evaluate("location.hash") == kept)
    other = opened(browser, file + page.evaluate("location.hash"))
    state = """() => [...document.querySelectorAll("#explorer input, #explorer select")]
        .map((one) => [one.id, one.type === "checkbox" ? one.checked : one.value])
        .concat([[document.getElementById("explorer-answer").textContent,
                  document.getElementById("explorer-table").textContent,
                  document.getElementById("explorer-grid").textContent,
                  document.querySelector("#explorer-table [aria-pressed=true]").textContent]])"""
    assert other.evaluate(state) == page.evaluate(state)
    assert other.input_value("#limit-latency") == "12.5"
    assert not other.is_checked("#explorer-log")
    other.close()
    page.click("#explorer-reset")
    settle(page)
    until(page, lambda: page.evaluate("location.hash") == "#explorer?")


@needs_browser
def test_any_metric_stands_against_any_other_in_the_last_view(page):
    """As the papers have it: memory against the size of the weights, latency against operations."""
    ask(page, {})
    canvas = "#explorer figure:last-of-type canvas"
    for up, across, label in (
        ("memory_total", "weight_bytes", "peak memory against size of the weights"),
        ("latency", "operations", "latency against operations"),
        ("top1", "accuracy_density", "top-1 accuracy against accuracy density"),
    ):
        page.select_option("#explorer-up", up)
        page.select_option("#explorer-across", across)
        settle(page)
        both = [row for row in wide(rows()) if up in row.figures and across in row.figures]
        points = {(row.model, row.value(across), row.value(up)) for row in both}
        assert page.get_attribute(canvas, "aria-label").startswith(f"{label}: {len(points)} points")
        assert not page.is_visible(f'#explorer canvas[data-metric="{up}"]')
    page.click("#explorer-reset")
    settle(page)


def grid_expected(cells: list[Any], by: str) -> list[list[str]]:
    """The cells of the command's grid, worded as the page words them."""
    found: dict[tuple[float, float], list[str]] = {}
    for row in grid_chart(cells, objective=by).data():
        texts = found.setdefault((row["memory_total_limit"], row["fps_limit"]), [])
        if row["verdict"] == "none":
            texts.append("none")
            continue
        estimate = " ~" if "estimated" in (row["fps_origin"], row["memory_total_origin"]) else ""
        text = f"{row['model']} {units.show(row[by], metrics.find(by).unit)}{estimate}"
        texts.append(f"({text}: {row['reasons']})" if row["place"] is None else f"{row['place']}. {text}")
    return list(found.values())


def grid_shown(page: Any) -> list[list[str]]:
    shown: list[list[str]] = page.eval_on_selector_all(
        "#explorer-grid tbody td",
        """(all) => all.map((one) => one.querySelector("li")
            ? [...one.querySelectorAll("li")].map((item) => item.textContent) : [one.textContent])""",
    )
    return shown


@needs_browser
@pytest.mark.parametrize(
    ("most_params", "by", "trust"),
    [(None, "top1", "any"), (None, "top1", "C"), (12.5e6, "top1", "A"), (3e6, "accuracy_density", "B"),
     (1e6, "latency", "C")],
)  # fmt: skip
def test_the_grid_on_the_page_is_that_of_the_command_and_follows_the_sliders(page, most_params, by, trust):
    limits = {} if most_params is None else {"params": f"{most_params / 1e6}M"}
    ask(page, limits | {"open": "grid"}, by, trust)
    within = [
        row for row in wide(rows()) if most_params is None or row.figures["params"].value <= most_params
    ]
    bounds = explorer.data(rows())["cells"]
    cells = grid(
        within, objective=by, least_grade=None if trust == "any" else trust,
        memory_classes=bounds["memory_total"], fps_classes=bounds["fps"],
    )  # fmt: skip
    assert grid_shown(page) == grid_expected(cells, by)
    assert len(cells) == 9
    assert any(cell.entries for cell in cells)


@needs_browser
def test_a_limit_within_an_interval_makes_a_network_borderline_in_the_grid(sweep):
    ask(sweep, {"latency": "9.6ms", "open": "grid"})  # squeezenet1_0: 9.5 ms, and up to 9.98 ms
    first = grid_shown(sweep)[0]
    assert first[0].startswith("1. squeezenet1_1 60.1 %")
    assert first[1].startswith("(squeezenet1_0 59.6 %: latency 9.50 ms (9.21 ms to 9.97 ms), limit 9.60 ms")
    assert len(first) == 2


@needs_browser
@pytest.mark.parametrize(
    ("view", "metric"), [("latency-table", "latency_per_image"), ("memory-table", "memory_total")]
)
def test_the_tables_by_batch_size_are_those_of_the_command(sweep, view, metric):
    sweep.evaluate("(hash) => { location.hash = hash; }", UNFOLDED)
    until(sweep, lambda: sweep.is_visible(f"#explorer-{metric} tbody td"))
    settle(sweep)
    shown = sweep.eval_on_selector_all(
        f"#explorer-{metric} tbody tr",
        """(all) => all.map((line) => [line.cells[0].textContent, [...line.cells].slice(1).map(
            (cell) => [cell.firstChild.textContent, Number(/class-([0-9])/.exec(cell.className)[1])])])""",
    )
    ran = [row for row in wide(swept()) if row.model != "vgg19"]  # which has one batch size
    chart = charts.draw(view, ran)
    classes = chart.spec["layer"][0]["encoding"]["color"]["sort"]
    expected: dict[str, list[list[Any]]] = {}
    for row in chart.data():
        told = [units.show(row[metric], metrics.find(metric).unit), classes.index(row["class"])]
        expected.setdefault(row["model"], []).append(told)
    assert shown == [[model, cells] for model, cells in expected.items()]
    assert words(sweep, f"#explorer-{metric} thead th") == ["Network", "Batch 1", "Batch 2", "Batch 8"]
    assert words(sweep, f"#explorer-{metric} caption .class") == list(classes)


@needs_browser
def test_lines_along_the_batch_size_follow_limits_and_search_and_one_mark_is_in_all_tables(sweep):
    canvas = 'canvas[data-up="latency_per_image"]'
    ask(sweep, {"latency": "50ms", "open": "grid,memory_total"}, trust="C")
    picked = rule.pick(
        wide(row for row in swept() if row.batch_size in (None, 1)), [Limit("latency", 0.05)], least_grade="C"
    )
    told = f"10 networks, {len(picked.ranked)} meet the limits"
    assert told in sweep.get_attribute(canvas, "aria-label")
    assert 0 < len(picked.ranked) < 10
    before = sweep.eval_on_selector(canvas, "(one) => one.toDataURL()")
    sweep.click("#explorer-grid .network >> nth=0")
    marked = words(sweep, "#explorer [aria-pressed=true]")
    assert len(marked) > 3
    assert len(set(marked)) == 1
    assert sweep.eval_on_selector(canvas, "(one) => one.toDataURL()") != before
    sweep.fill("#explorer-search", "vgg")
    settle(sweep)
    assert set(words(sweep, "#explorer-memory_total tbody button")) == {"vgg11", "vgg13", "vgg16"}


@needs_browser
def test_power_can_be_chosen_for_an_axis_if_there_are_figures(sweep):
    ask(sweep, {"up": "power", "across": "operations"})
    label = sweep.get_attribute('canvas[data-metric="operations"]', "aria-label")
    assert label.startswith(f"power against operations: {len(CLASSICS)} points")
    assert sweep.said == []


@needs_browser
def test_no_request_leaves_the_page_and_its_policy_stands(page, file):
    ask(page, {"latency": "9ms"})
    page.hover("#explorer canvas")
    assert set(url.partition("#")[0] for url in page.asked) == {file}
    assert page.said == []
    blocked = page.evaluate(
        """async () => {
            const faults = [];
            addEventListener("securitypolicyviolation", (event) => faults.push(event.effectiveDirective));
            await fetch("http://127.0.0.1:9/").catch(() => {});
            const script = document.createElement("script");
            script.textContent = "window.wasRun = true";
            document.body.append(script);
            await new Promise((done) => setTimeout(done, 50));
            return [faults.sort().join(" "), window.wasRun === undefined];
        }"""
    )
    assert blocked == ["connect-src script-src-elem", True]
    page.said.clear()
    page.asked.clear()


@needs_browser
def test_the_keyboard_reaches_every_control(page):
    ask(page, {})
    page.evaluate("document.getElementById('explorer-more').open = true")
    page.focus("#explorer-body")
    page.focus("#limit-latency")
    reached = []
    for _ in range(60):
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.textContent"))
        page.keyboard.press("Tab")
    controls = page.evaluate(
        "[...document.querySelectorAll('#explorer form :is(input, select, button, a)')].map((one) => one.id)"
    )
    assert len(controls) > 15
    assert set(controls) <= set(reached)
    assert {"explorer-search", "Network"} <= set(reached)
    first = words(page, "#explorer-table tbody button")[0]
    page.focus("#explorer-table tbody button")
    page.keyboard.press("Enter")
    pressed = page.query_selector("#explorer-table [aria-pressed=true]")
    assert pressed.text_content() == first
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


@needs_browser
def test_a_search_and_a_heading_order_the_table(page):
    ask(page, {})
    page.fill("#explorer-search", "swin")
    page.click("#explorer-table thead button:has-text('Parameters')")
    settle(page)
    shown = words(page, "#explorer-table tbody button")
    params = {row.model: row.value for row in rows() if row.metric == "params" and "swin" in row.model}
    assert shown == sorted(params, key=lambda model: params[model])[: len(shown)]
    assert page.get_attribute("#explorer-table th[aria-sort]", "aria-sort") == "ascending"
    page.click("#explorer-all")
    settle(page)
    assert len(words(page, "#explorer-table tbody tr")) == len(params)
    page.click("#explorer-reset")
    settle(page)


@needs_browser
def test_numbers_are_written_as_python_writes_them(browser, tmp_path):
    """Halves above all, where rounding differs."""
    models = [f"net{number}" for number in range(400)]
    sizes = [1_005_000 + 10_000 * number for number in range(200)] + [
        112_500_000 + 500_000 * number for number in range(200)
    ]
    counted = [
        Measurement(model=model, metric="params", value=size, origin="profiled")
        for model, size in zip(models, sizes, strict=True)
    ]
    path = tmp_path / "report.html"
    path.write_text(reports.html(counted), encoding="utf-8")
    page = opened(browser, path.as_uri())
    page.click("#explorer-all")
    shown = dict(zip(words(page, "tbody .network"), words(page, "#explorer-table td.number"), strict=True))
    assert shown == {row.model: units.show(row.value, "count") for row in counted}
    page.close()


@needs_browser
def test_several_engines_are_candidates_together_or_one_alone(browser, tmp_path):
    made = [*known(), *timed(), *timed("eager", 0.5)]
    path = tmp_path / "report.html"
    path.write_text(reports.html(made), encoding="utf-8")
    page = opened(browser, path.as_uri() + fragment({"latency": "40ms"}))
    both = rule.pick(wide(made), [Limit("latency", 0.04)])
    assert page.text_content("#explorer-choice") == rule.sentences(both)[0]
    assert both.choice.conditions["engine"] == "eager"
    page.select_option("#explorer-engine", "onnxruntime")
    settle(page)
    one = rule.pick(wide([*known(), *timed()]), [Limit("latency", 0.04)])
    assert page.text_content("#explorer-choice") == rule.sentences(one)[0]
    page.close()


# ------------------------------------------------------------------ the machine that the page opens on


def reported(browser: Any, path: Path, *rows: Measurement, **asked: Any) -> Any:
    """The page of `vertebra report` on a table of these rows."""
    pytest.importorskip("vl_convert")
    Table(path / "table.sqlite").append(rows)
    written = report(path / "report.html", table=path / "table.sqlite", **asked)
    return opened(browser, written.as_uri())


def elsewhere() -> list[Measurement]:
    """Published latencies of a card, more than this machine has rows; the network that is best there isn't
    here."""
    return [
        Measurement(model=name, metric="latency", value=0.05 + place / 1e3, origin="published",
                    system="nvidia-t4", device="cuda", engine="tensorrt", precision="float32",
                    batch_size=batch, source="a page", input_size=224)
        for place, (name, *_) in enumerate(CLASSICS) for batch in (1, 4, 8)
    ]  # fmt: skip


@needs_browser
def test_the_explorer_opens_on_this_machine_with_all_its_engines_and_each_command_answers_the_same(
    browser, tmp_path
):
    rows = [*known(), *elsewhere(), *timed(scenario="single-stream", streams=1),
            *timed("eager", 0.9, scenario="single-stream")]  # fmt: skip
    page = reported(browser, tmp_path, *rows, among="table")
    machines = words(page, "#explorer-load option")
    assert machines[0] == f"Measured on {SYSTEM}: cpu, batch 1"
    assert machines[1:] == [f"Published for NVIDIA T4: cuda, batch {batch}" for batch in (1, 4, 8)]
    assert page.input_value("#explorer-load") == "0"
    assert page.text_content("#explorer-where") == f"{machines[0]}."
    assert words(page, "#explorer-engine option") == ["any", "tensorrt", "onnxruntime", "eager"]
    for load in range(len(machines)):
        for engine in ("", "eager"):
            if engine and load:
                continue
            for limits in ({}, {"latency": "55ms"}):
                page.evaluate("(hash) => { location.hash = hash; }",
                              f"{fragment(limits)}&load={load}&engine={engine}")  # fmt: skip
                until(page, lambda load=load: page.input_value("#explorer-load") == str(load))
                settle(page)
                told = page.text_content("#explorer-command")
                words_ = shlex.split(told)[2:]
                asked: dict[str, Any] = {
                    name.lstrip("-").replace("-", "_"): int(value) if name == "--batch-size" else value
                    for name, value in zip(words_[::2], words_[1::2], strict=True)
                }
                assert page.text_content("#explorer-choice") == rule.sentences(pick(**asked))[0], told
    page.close()


@needs_browser
def test_a_table_without_memory_opens_on_no_empty_view(browser, tmp_path):
    rows = [*known(), *elsewhere(), *(row for row in timed() if row.metric != "memory_total")]
    page = reported(browser, tmp_path, *rows, among="table")
    drawn = """() => [...document.querySelectorAll("#explorer .views canvas")]
        .filter((one) => one.checkVisibility()).map((one) => one.getAttribute("aria-label"))"""
    for load in ("0", "1"):
        page.select_option("#explorer-load", load)
        settle(page)
        labels = page.evaluate(drawn)
        assert len(labels) > 3
        assert not any(" 0 points" in label or label.startswith("memory") for label in labels)
    assert "Memory" not in words(page, "#explorer-table th:not([hidden])")
    page.close()


@needs_browser
def test_the_explorer_opens_with_the_limits_of_the_answer_and_an_address_has_its_own(browser, tmp_path):
    page = reported(browser, tmp_path, *known(), *timed(), among="table", latency="60ms", memory="0.4GB")
    assert page.input_value("#limit-latency") == "60"
    assert float(page.input_value("#limit-memory")) == 400
    command = f"vertebra pick --among table --table {tmp_path / 'table.sqlite'} --latency 60ms --memory 400MB"
    assert page.text_content("#explorer-command") == command
    assert page.text_content("#explorer-choice").startswith("Choice: resnet50_acnet_deploy on onnxruntime")
    ask(page, {})
    assert page.input_value("#limit-latency") == ""
    page.close()


@needs_browser
def test_the_harness_is_a_candidate_only_if_it_is_asked_for(browser, tmp_path):
    page = reported(browser, tmp_path, *known(), *timed(), *timed("null", 0.01), among="table", latency="9ms")
    assert "squeezenet1_1 on onnxruntime" in page.text_content("#explorer-choice")
    page.select_option("#explorer-engine", "null")
    settle(page)
    assert "senet154_vd on null" in page.text_content("#explorer-choice")
    page.close()


@needs_browser
@pytest.mark.parametrize("width", [1030, 1280])
def test_the_card_s_figures_and_facts_stand_beside_each_other(browser, tmp_path, width):
    limits = {"latency": "80ms", "memory": "500MB", "top1": "70%"}
    page = reported(browser, tmp_path, *known(), *timed(), among="table", **limits)
    page.set_viewport_size({"width": width, "height": 844})
    table, facts = (page.locator(f".answer {one}").bounding_box() for one in ("table", ".facts"))
    assert table["x"] + table["width"] <= facts["x"]
    page.close()


@needs_browser
@pytest.mark.parametrize("width", [390, 1280])
def test_the_answer_and_the_contents_stay_in_sight_all_over_the_explorer(browser, file, width):
    page = opened(browser, file, viewport={"width": width, "height": 844})
    for place in (
        "#explorer-form",
        "#explorer .views figure:last-of-type",
        "#explorer-table",
        "#explorer-all",
    ):
        page.evaluate(
            "(one) => document.querySelector(one).scrollIntoView({block: 'center', behavior: 'instant'})",
            place,
        )
        settle(page)
        for name in ("nav", "#explorer-choice"):
            box = page.locator(name).bounding_box()
            assert 0 <= box["y"] < 250, (place, name, box)
        assert page.locator(".now").bounding_box()["height"] < 200
    page.close()


@needs_browser
def test_the_rest_is_folded_a_link_opens_it_and_paper_has_it_all(browser, file):
    page = opened(browser, file)
    folded = (
        "[...document.querySelectorAll('section > details')].map((one) => [one.parentElement.id, one.open])"
    )
    names_ = ["networks", "grades", "failures", "published", "glossary"]
    assert page.evaluate(folded) == [[name, False] for name in names_]
    page.click("nav a[href='#grades']")
    assert ["grades", True] in page.evaluate(folded)
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert all(is_open for _, is_open in page.evaluate(folded))
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert [name for name, is_open in page.evaluate(folded) if is_open] == ["grades"]
    page.close()


@needs_browser
@pytest.mark.parametrize(("width", "most"), [(390, 9_500), (1280, 6_500)])
def test_a_page_of_the_whole_field_is_short(browser, file, width, most):
    page = opened(browser, file, viewport={"width": width, "height": 844})
    assert page.evaluate("document.documentElement.scrollHeight") < most
    lines = page.eval_on_selector_all(
        "#explorer-table tbody tr", "(all) => all.map((one) => one.clientHeight)"
    )
    assert len(lines) == 50
    assert max(lines) < 40  # a line each
    page.close()


@functools.cache
def eval_page() -> str:
    """An evaluation's page under a long name; one class has a single image."""
    found = evaluate(dataset([0, 0, 1, 2, 3] * 4, [0, 1, 1, 0, 0] * 4), answering(TABLE), TINY, num_classes=6)
    name = f"a_network_{'of_a_long_name' * 6}"
    charted = Evaluated(name, "net.mine", "null", found, measurements(found, {"model": name}))
    return accuracy.html(name, found, charted.rows, charted.confusion_chart(), [], {"weights": "net.mine"})


def sheet_page() -> str:
    page = sheet.Sheet()
    page.add(sheet.Tile("a/long/" + "x" * 300, [(0.9, "y" * 300), (0.1, "tabby")], marks=(False, True)))
    return sheet._page(page._cells, "").decode()


PAGES: dict[str, Callable[[], str]] = {
    "report": lambda: reports.html(swept(), pick=[("A pick", [f"Choice: {'alexnet; ' * 900}"])]),
    "catalogue": page_text,
    "names": lambda: reports.html(named(NAMES, (1,)), title="x" * 300),
    "evaluation": eval_page,
    "edition": lambda: edition([*known(), *timed()], SYSTEM).html(),
    "sheet": sheet_page,
}


@needs_browser
@pytest.mark.parametrize("kind", PAGES)
def test_no_page_scrolls_sideways_and_none_is_endless(browser, kind, tmp_path):
    path = tmp_path / "page.html"
    path.write_text(PAGES[kind](), encoding="utf-8")
    page = browser.new_page()
    for width in (390, 1280):
        for scheme in ("light", "dark"):
            page.set_viewport_size({"width": width, "height": 844})
            page.emulate_media(color_scheme=scheme)
            page.goto(
                f"{path.as_uri()}#explorer?latency=20ms&params=50M&open=grid,latency_per_image,memory_total"
            )
            settle(page)
            page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
            settle(page)
            asked = "[document.documentElement.scrollWidth, document.documentElement.scrollHeight]"
            wide_, high = page.evaluate(asked)
            assert wide_ <= width, (kind, width, scheme)
            assert high < 36_000, (kind, width, scheme, high)
    page.close()


@needs_browser
def test_on_a_phone_the_answer_is_in_sight_while_a_slider_moves(browser, file):
    page = opened(browser, file, viewport={"width": 390, "height": 844})
    for option in ("latency", "top1"):
        page.focus(f"#slide-{option}")
        page.evaluate(f"document.getElementById('slide-{option}').scrollIntoView({{block: 'center'}})")
        before = page.text_content("#explorer-meeting")
        for _ in range(3):
            page.keyboard.press("PageUp" if option == "top1" else "PageDown")
        settle(page)
        assert page.text_content("#explorer-meeting") != before
        for name in ("explorer-choice", "explorer-meeting", f"slide-{option}"):
            box = page.locator(f"#{name}").bounding_box()
            assert 0 <= box["y"] < box["y"] + box["height"] <= 844, name
    page.close()


@needs_browser
def test_a_crowded_chart_draws_the_front_and_what_fits_in_full(page):
    drawn = "() => [...document.querySelectorAll('#explorer canvas')].map((one) => Number(one.dataset.drawn))"
    ask(page, {})
    everything = page.evaluate(drawn)[0]
    assert 3 < everything < 150  # all meet no limit: the front alone
    ask(page, {"latency": "2ms"})
    met = int(page.text_content("#explorer-meeting").split(": ")[1].rstrip("."))
    assert 3 < met <= 150
    assert met <= page.evaluate(drawn)[0] < met + 100
    page.click("#explorer-reset")
    settle(page)


@needs_browser
def test_charts_in_a_page_follow_the_dark_setting(browser, tmp_path):
    path = tmp_path / "page.html"
    path.write_text(reports.html([*known(), *timed()]), encoding="utf-8")
    seen = {}
    for scheme in ("light", "dark"):
        page = browser.new_page(color_scheme=scheme)
        page.goto(path.as_uri())
        marks = [".card > svg > rect", ".card text", ".card path[aria-label]"]
        seen[scheme] = page.evaluate(
            "(all) => all.map((one) => getComputedStyle(document.querySelector(one)).fill)", marks
        )
        page.close()
    assert seen["light"][0] == "rgb(255, 255, 255)"
    assert seen["dark"][0] == "rgb(20, 24, 29)"
    assert all(one != other for one, other in zip(*seen.values(), strict=True))


@needs_browser
def test_families_have_twelve_colours_in_light_and_in_dark(browser, file):
    for scheme in ("light", "dark"):
        page = opened(browser, file, color_scheme=scheme)
        names_ = [f"--family-{number}" for number in range(12)]
        told = page.evaluate(
            "(names) => names.map((one) => getComputedStyle(document.getElementById('explorer-body'))"
            ".getPropertyValue(one).trim())", names_,
        )  # fmt: skip
        assert len(set(told)) == 12
        assert "" not in told
        page.close()


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_fault(browser, scheme, tmp_path):
    script = axe(tmp_path)
    path = tmp_path / "report.html"
    path.write_text(reports.html([*field(60), *swept()]), encoding="utf-8")
    address = path.as_uri() + UNFOLDED + "&latency=20ms&network=squeezenet1_1"
    page = opened(browser, address, color_scheme=scheme, bypass_csp=True)
    page.evaluate(script)
    found = page.evaluate("axe.run('#explorer')")
    faults = [(one["id"], [node["target"] for node in one["nodes"]][:3]) for one in found["violations"]
              if one["impact"] in ("serious", "critical")]  # fmt: skip
    assert faults == []
    assert len(found["passes"]) > 10
    page.close()


def axe(folder: Path) -> str:
    """The script of axe-core, from the user's cache or by npm; skips without either."""
    kept = downloads.cache_folder() / "runtimes" / f"{AXE.replace('@', '-')}.tgz"
    if not kept.is_file():
        npm = shutil.which("npm")
        if npm is None or downloads.offline():
            pytest.skip("needs npm and a network")
        command = [npm, "pack", AXE, "--silent", "--pack-destination", str(folder)]
        done = subprocess.run(command, cwd=folder, capture_output=True, timeout=120, check=False)
        if done.returncode:
            pytest.skip("npm did not fetch axe-core")
        kept = next(folder.glob("*.tgz"))
    with tarfile.open(kept, "r:gz") as archive:
        member = archive.extractfile("package/axe.min.js")
        assert member is not None
        return member.read().decode()


# ------------------------------------------------------------------ without one


def test_a_page_of_1400_networks_is_small():
    assert len(page_text().encode()) < 3_000_000


def test_every_network_is_in_the_explorer_and_the_foremost_in_the_tables():
    contents = explorer.data(rows())
    assert len(set(contents["models"])) == NETWORKS
    assert f"The explorer also has the other {NETWORKS - 150:,}." in page_text()


def test_figures_are_in_the_data_to_the_last_digit():
    contents = json.loads(json.dumps(explorer.data(rows())))
    for row in wide(rows()):
        places = [
            place for place, model in enumerate(contents["model"])
            if contents["models"][model] == row.model
            and (contents["load"][place] >= 0) == ("system" in row.conditions)
        ]  # fmt: skip
        for name in ("latency", "top1", "operations", "memory_total"):
            column = contents["columns"][name]
            at = contents["model"][places[0]] if column["by"] == "model" else places[0]
            assert column["value"][at] == row.value(name)


def test_the_explorer_knows_every_origin():
    assert set(explorer._LETTERS) == set(ORIGINS)


def test_a_view_that_the_rows_tell_nothing_for_says_what_fills_it():
    bare = str(explorer.explorer_section(known()))
    assert "No latency per image and no peak memory at several batch sizes yet" in bare
    assert "<code>vertebra bench --batch-sizes 1..16</code>" in bare
    assert "<code>vertebra survey</code>" in bare
    assert "No power yet" in bare
    assert "data-table" not in bare
    whole = str(explorer.explorer_section(swept()))
    assert " yet" not in whole
    assert whole.count("data-table") == 3


def test_batch_sizes_under_different_conditions_make_no_line():
    apart = [*timed(batch_size=1, threads=1), *timed(batch_size=4, threads=2)]
    assert explorer.data(apart)["batched"] == []
    assert [one["name"] for one in explorer.data(swept())["batched"]] == ["latency_per_image", "memory_total"]


def test_a_name_can_not_end_the_data():
    hostile = "</script><script>alert(1)</script><!--"
    row = Measurement(model=hostile, metric="params", value=3, origin="profiled")
    text = str(explorer.explorer_section([row]))
    assert text.count("</script>") == 1
    assert hostile not in text
    body = text.split('id="explorer-data">')[1].split("</script>")[0]
    assert json.loads(body)["models"] == [hostile]


def test_a_table_without_an_objective_has_no_explorer():
    assert explorer.explorer_section([]) == ""


def test_published_rates_of_other_machines_and_networks_do_not_reach_the_page(tmp_path):
    table = Table(tmp_path / "table.sqlite")
    there = {"metric": "throughput", "value": 5.0, "origin": "published", "source": "elsewhere",
             "system": "a-far-card", "device": "cuda", "batch_size": 256}  # fmt: skip
    classic = names.CLASSICS[0]
    table.append([*known(), *timed(), Measurement(model="timm:resnet50", **there),
                  Measurement(model=classic, **there | {"metric": "latency"})])  # fmt: skip
    latest = table.latest()
    told = _reported(latest, "box-2-cores-1f2e3d4c")
    assert len(told) == len(latest) - 1
    assert not any(row.model == "timm:resnet50" for row in told)
    assert any(row.system == "a-far-card" and row.model == classic for row in told)
