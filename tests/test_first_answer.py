"""The first answer: prices like Python's, times with intervals, one clear line where something is wrong."""

from __future__ import annotations

import functools
import http.server
import json
import math
import random
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import vertebra
from test_explorer import axe
from test_web import BROWSER, SWITCHES, needs_browser, runtime
from vertebra import cli
from vertebra.errors import InvalidInputError
from vertebra.exporting import web
from vertebra.measurements import Measurement, shipped
from vertebra.measurements.statistics import median_interval
from vertebra.measuring import estimation
from vertebra.reading import first_answer
from vertebra.reading.choice import field
from vertebra.reading.first_answer import Timed
from vertebra.reading.first_answer.prior import prior
from vertebra.verbs import first_answer as verb
from vertebra.zoo.graphs import drawing

__all__ = ["runtime"]

#: Small ones, so that the tests are quick; the page's own are `first_answer.anchors()`.
FEW = ("timm:tinynet_e", "timm:lcnet_050", "timm:mobilenetv4_conv_small_050",
       "timm:tf_mobilenetv3_small_minimal_100", "timm:lcnet_075")  # fmt: skip
TIMES = "wasm*1*2026-11-30*Chromium+140*1.30.0" + "".join(
    f"*{name.replace(':', '%3A')}*{value}*{value - 90}*{value + 120}*B"
    for name, value in zip(FEW, (4200, 6100, 7300, 6600, 11000), strict=True)
)
needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="needs apt-get install nodejs")


# ------------------------------------------------------------------ the same numbers as Python


def in_node(folder: Path, program: str, **given: Any) -> Any:
    """What the page's estimator and statistics give in Node.js for `program`, an expression."""
    room = files("vertebra.reading.first_answer")
    text = "".join(room.joinpath(name).read_text() for name in ("estimator.js", "statistics.js"))
    (folder / "given.json").write_text(json.dumps(given))
    (folder / "run.js").write_text(
        f'{text}\nconst given = JSON.parse(require("fs").readFileSync("given.json", "utf8"));\n'
        f"process.stdout.write(JSON.stringify({program}));\n"
    )
    done = subprocess.run(["node", "run.js"], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def measured(model: str, seconds: float, width: float = 0.01, grade: str = "B") -> Measurement:
    size = shipped.counts()[model].input_size
    return Measurement(
        model=model, metric="latency", value=seconds, low=seconds * (1 - width),
        high=seconds * (1 + 2 * width), origin="benched", grade=grade, system="here",
        device="cpu", engine="ONNX Runtime Web 1.30.0", precision="float32", batch_size=1, threads=1,
        input_size=size, scenario="single-stream",
    )  # fmt: skip


def plausible(names: list[str], seed: int) -> dict[str, float]:
    """Times of a machine that is ten times as slow as the published ones, and a little unlike them."""
    draws, known = random.Random(seed), estimation.whole_estimator().prior()
    usual = dict(zip(known.names, known.base.tolist(), strict=True))
    return {name: 10 * math.exp(usual[name] + draws.gauss(0, 0.1)) for name in names}


@functools.cache
def chosen() -> list[str]:
    return first_answer.anchors()


def cases() -> list[tuple[str, int, dict[int, float], str]]:
    """(what, anchors, how many times slower some are, the grade of these)"""
    return [
        ("fewest", 5, {}, "B"),
        ("agreeing", 8, {}, "B"),
        ("one contradicts", 8, {2: 30.0}, "B"),
        ("one that is doubted contradicts", 8, {2: 30.0}, "C"),
        ("two contradict", 8, {1: 40.0, 5: 1 / 60}, "C"),
    ]


@needs_node
@pytest.mark.parametrize(("what", "count", "odd", "grade"), cases(), ids=[one[0] for one in cases()])
def test_prices_are_those_of_python_to_1e_9(what, count, odd, grade, tmp_path):
    times = plausible(chosen()[:count], seed=count + len(odd))
    rows = [
        measured(name, seconds * odd.get(place, 1), 0.01 * (place + 1), grade if place in odd else "B")
        for place, (name, seconds) in enumerate(times.items())
    ]
    known = sorted(field.names())
    told = in_node(
        tmp_path,
        "[...priced(priorOf(given.prior), new Map(given.times), given.engine).rows]",
        prior=prior(known), engine=rows[0].engine,
        times=[(row.model, {name: getattr(row, name) for name in ("value", "low", "high", "grade")})
               for row in rows],
    )  # fmt: skip
    ours = estimation.price_measured(rows)
    expected = {row.model: row for row in (*ours.measured, *ours.rows)}
    assert bool(ours.told) == bool(odd)
    assert [name for name, _ in told] == known
    for name, row in told:
        other = expected[name]
        assert row["origin"] == {"benched": "m", "estimated": "e"}[other.origin], name
        for end in ("value", "low", "high"):
            assert row[end] == pytest.approx(getattr(other, end), rel=1e-9, abs=0), (name, end)
        if other.origin == "estimated":
            assert row["reason"] == other.grade_reasons[0]


@needs_node
@pytest.mark.parametrize("count", [1, 5, 6, 7, 23, 64, 120])
def test_a_median_s_interval_is_that_of_python(count, tmp_path):
    draws = random.Random(count)
    samples = [draws.lognormvariate(0, 0.02) for _ in range(count)]
    told = in_node(tmp_path, "summary([given.samples])", samples=samples)
    ours = median_interval(samples)
    assert told["value"] == pytest.approx(ours.median, rel=1e-15)
    assert told["low"] == (min(samples) if ours.low is None else ours.low)
    assert told["high"] == (max(samples) if ours.high is None else ours.high)


@needs_node
def test_rounds_that_differ_are_disturbed_and_in_the_interval(tmp_path):
    quiet, busy = [1.0 + place / 1000 for place in range(20)], [1.4 + place / 1000 for place in range(8)]
    told = in_node(tmp_path, "[summary([given.quiet, given.quiet]), summary([given.quiet, given.busy])]",
                   quiet=quiet, busy=busy)  # fmt: skip
    assert [one["grade"] for one in told] == ["B", "C"]
    assert told[1]["low"] <= 1.0095
    assert told[1]["high"] >= 1.4034
    assert told[1]["reason"] == "the rounds' medians are 39 % apart: something else ran"


@needs_node
def test_too_few_times_are_refused(tmp_path):
    times = [(name, {"value": 0.1, "low": 0.09, "high": 0.11, "grade": "B"}) for name in chosen()[:4]]
    program = """(() => { try { return priced(priorOf(given.prior), new Map(given.times), "engine").note; }
                          catch (error) { return error.message; } })()"""
    told = in_node(tmp_path, program, prior=prior(chosen()), times=times)
    assert told == "4 measured networks are too few to estimate others from; 5 are needed"


# ------------------------------------------------------------------ the folder


def test_anchors_are_small_different_and_have_graphs():
    counts = shipped.counts()
    assert 5 <= len(chosen()) <= 8
    assert len(set(chosen())) == len(chosen())
    assert all(counts[name].macs <= 2e9 and counts[name].params <= 15e6 for name in chosen())
    assert set(chosen()) <= field.names()


def test_a_network_s_parameters_lie_apart_and_fill_its_file():
    one = first_answer.timed("timm:lcnet_050")
    ends = sorted((offset, offset + 4 * math.prod(shape)) for _, offset, shape in one.parameters)
    assert ends[0][0] == 0
    assert all(end <= begin for (_, end), (begin, _) in pairwise(ends))
    assert ends[-1][1] == one.size
    assert b"batch" in one.graph


def stand_in(folder: Path) -> Path:
    """A folder like the unpacked npm package, with contents that are no runtime."""
    for name in (*web.RUNTIME_FILES, *web.WEBGPU_FILES):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text('{"name": "onnxruntime-web", "version": "0.0.1"}')
    return folder


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--first-answer", "--live"], "--live can't be combined with --first-answer"),
        (["--first-answer", "--system", "box"], "--system can't be combined with --first-answer"),
        (["--first-answer", "--table", "t.sqlite"], "--table can't be combined with --first-answer"),
        (["--runtime", "x.tgz"], "--runtime needs --first-answer"),
        (["--first-answer", "--memory", "700MB"], "--memory can't limit a first answer"),
        (["--first-answer", "--latency", "fast"], "latency"),
        (["--first-answer", "--runtime", "missing.tgz"], "missing.tgz is not an archive of onnxruntime-web"),
    ],
)  # fmt: skip
def test_what_can_not_be_is_one_line_before_any_work(arguments, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(first_answer, "timed", None)
    found = CliRunner().invoke(cli.cli, ["report", *arguments])
    assert found.exit_code == 1
    assert isinstance(found.exception, InvalidInputError)
    assert told in str(found.exception)
    assert list(tmp_path.iterdir()) == []


def test_the_folder_is_written_whole_and_replaces_only_its_like(tmp_path):
    package = stand_in(tmp_path / "package")
    folder = verb.write(tmp_path / "page", runtime=package, networks=FEW, limits={"latency": "20ms"})
    names = {
        "index.html",
        "runtime-wasm.js",
        "runtime-webgpu.js",
        "THIRD_PARTY_NOTICES.txt",
        "first-answer.json",
    }
    assert {path.name for path in folder.iterdir()} == names
    text = (folder / "index.html").read_text()
    data = json.loads(text.split('id="first-data">')[1].split("</script>")[0])
    assert data["explorer"]["start"] == {"latency": "20ms"}
    assert set(data["prior"]["names"]) == field.names()
    assert len(text) < 1_200_000
    assert json.loads((folder / "first-answer.json").read_text())["networks"] == list(FEW)
    assert "Apache" in (folder / "THIRD_PARTY_NOTICES.txt").read_text()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "index.html").write_text("mine")
    with pytest.raises(InvalidInputError, match="is not a first answer's page"):
        verb.write(tmp_path / "mine", runtime=package, networks=FEW)
    assert (tmp_path / "mine" / "index.html").read_text() == "mine"


# ------------------------------------------------------------------ in the browser


@functools.cache
def networks() -> tuple[Timed, ...]:
    return tuple(map(first_answer.timed, FEW))


def written(folder: Path, archive: Path, runs: tuple[Timed, ...]) -> Path:
    with web.package_of(archive, web.RUNTIME_FILES) as (package, version):
        library, binary = (package / name for name in web.RUNTIME_FILES[:2])
        one = first_answer.Runtime("wasm", version, library.read_bytes(), binary.read_bytes())
    folder.mkdir()
    for name, content in first_answer.files([one], runs, {"latency": "50ms"}).items():
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture(scope="module")
def folder(runtime: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("first") / "page", runtime, networks())


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=SWITCHES)
        yield browser
        browser.close()


def opened(browser: Any, folder: Path, hash: str = "", before: str = "", **options: Any) -> Any:
    page = browser.new_page(**options)
    page.said = []
    page.on("pageerror", lambda error: page.said.append(str(error)))
    if before:
        page.add_init_script(before)
    page.goto((folder / "index.html").as_uri() + hash)
    return page


def run(page: Any) -> str:
    """What the page says when it has measured, or failed."""
    page.click("#first-start")
    page.wait_for_selector("#first-result:not([hidden]), #first-status.error", timeout=240_000)
    return str(page.text_content("#first-status"))


@pytest.fixture(scope="module")
def answered(browser: Any, folder: Path) -> Any:
    page = opened(browser, folder, "#explorer?top1=60%25")
    assert run(page).startswith("Measured 5 networks on this device; 973 are estimated."), page.said
    page.wait_for_selector("#explorer-choice:not(:empty)")
    return page


@needs_browser
def test_a_file_measures_and_opens_the_explorer_under_the_link_s_limits(answered):
    assert answered.said == []
    assert answered.input_value("#limit-top1") == "60"
    assert "One thread: browsers allow several only" in answered.text_content("#first-notes")
    where = answered.text_content("#explorer-where")
    assert where.startswith("Estimated for this device in its browser on ")
    assert "WebAssembly, float32, 1 thread, batch 1" in where
    assert "not for a native engine" in answered.text_content("#first-how")
    rows = answered.query_selector_all("#first-times tr")
    assert [row.query_selector("th").text_content() for row in rows] == list(FEW)
    assert all(" to " in row.text_content() for row in rows)


@needs_browser
def test_the_page_prices_what_it_measured_as_python_does(answered, browser, folder):
    """From the times that the address carries, those of networks that contradict the others among them."""
    page = opened(browser, folder, f"#{answered.url.partition('#')[2]}")
    page.wait_for_selector("#explorer-choice:not(:empty)")
    data = json.loads(page.text_content("#explorer-data"))
    page.close()
    column = data["columns"]["latency"]
    told = {
        data["models"][model]: tuple(column[end][place] for end in ("value", "low", "high"))
        for place, (model, load) in enumerate(zip(data["model"], data["load"], strict=True)) if load == 0
    }  # fmt: skip
    parts = data["carried"]["times"].split("*")[5:]
    rows = [
        replace(measured(name, float(value) / 1e6), low=float(low) / 1e6, high=float(high) / 1e6, grade=grade)
        for name, value, low, high, grade in zip(*[iter(parts)] * 5, strict=True)
    ]
    assert [row.model for row in rows] == list(FEW)
    priced = {row.model: (row.value, row.low, row.high) for row in estimation.price(rows)}
    assert len(priced) >= len(told) - len(FEW) > 900
    assert told.keys() <= priced.keys() | set(FEW)
    for name in told.keys() & priced.keys():
        assert told[name] == pytest.approx(priced[name], rel=1e-9, abs=0)


@needs_browser
def test_the_address_of_an_answer_shows_it_again_without_measuring(answered, browser, folder):
    hash = answered.url.partition("#")[2]
    page = opened(browser, folder, f"#{hash}")
    page.wait_for_selector("#explorer-choice:not(:empty)")
    assert page.text_content("#first-status").startswith("From a link: a device measured on ")
    assert page.text_content("#explorer-choice") == answered.text_content("#explorer-choice")
    assert page.is_hidden("#first-ask")
    page.fill("#limit-latency", "30")
    page.wait_for_url(lambda url: "latency=30ms" in url and "times=wasm" in url)
    page.close()


@needs_browser
@pytest.mark.parametrize(
    ("times", "why"),
    [
        (TIMES.replace("wasm", "cuda"), "they are of no engine that this page has"),
        (TIMES.replace("lcnet_050", "lcnet_051"), "this page doesn't know the network timm:lcnet_051"),
        (TIMES.replace("*4200*", "*-4200*"), "timm:tinynet_e has no time with an interval"),
        (TIMES.rpartition("*timm")[0], "4 networks are too few"),
        ("wasm", "the number of threads is missing"),
    ],
)
def test_a_broken_link_is_one_line(browser, folder, times, why):
    page = opened(browser, folder, f"#explorer?times={times}")
    page.wait_for_selector("#first-status.error")
    assert page.text_content("#first-status") == (
        f"The times in this link can't be read: {why}. Measure this device instead."
    )
    assert page.is_visible("#first-start")
    assert page.said == []
    page.close()


@needs_browser
@pytest.mark.parametrize(
    ("missing", "told"),
    [
        ("delete globalThis.WebAssembly", "This browser can't run networks: it has no WebAssembly."),
        ("delete globalThis.DecompressionStream", "can't run networks: it has no DecompressionStream."),
        ("delete globalThis.Worker; delete globalThis.WebAssembly", "it has no WebAssembly, no workers."),
    ],
)  # fmt: skip
def test_an_old_browser_is_told_in_one_line(browser, folder, missing, told):
    page = opened(browser, folder, before=missing)
    assert told in run(page)
    assert page.said == []
    page.close()


@needs_browser
def test_a_folder_without_its_runtime_is_told_in_one_line(browser, folder, tmp_path):
    shutil.copytree(folder, tmp_path / "page", ignore=shutil.ignore_patterns("runtime-*"))
    page = opened(browser, tmp_path / "page")
    assert run(page) == (
        "No answer: runtime-wasm.js can't be loaded. Is this device offline, or does the page's folder "
        "lack it?"
    )
    assert page.is_enabled("#first-start")
    page.close()


@needs_browser
def test_networks_that_fail_are_named_and_too_few_are_no_answer(browser, runtime, tmp_path):
    broken = replace(networks()[1], graph=b"no graph")
    folder = written(tmp_path / "page", runtime, (networks()[0], broken, *networks()[2:]))
    page = opened(browser, folder)
    assert run(page) == "No answer: Only 4 of 5 networks ran; 5 are needed to estimate the others."
    assert "timm:lcnet_050 can't be measured here: " in page.text_content("#first-notes")
    page.close()


@needs_browser
def test_a_hidden_tab_is_told_and_measured_again(browser, folder):
    hidden = """
        let hidden = false;
        Object.defineProperty(document, "hidden", { get: () => hidden });
        globalThis.hide = (is) => { hidden = is; document.dispatchEvent(new Event("visibilitychange")); };
    """
    page = opened(browser, folder, before=hidden)
    page.click("#first-start")
    page.wait_for_selector("#first-status:has-text('Round 1')", timeout=120_000)
    page.evaluate("hide(true)")
    page.wait_for_selector("#first-status:has-text('This tab is hidden')", timeout=120_000)
    page.evaluate("hide(false)")
    page.wait_for_selector("#first-notes li:has-text('The tab was hidden while timm:')", timeout=120_000)
    page.close()


WORK = """async ({ network, runtime }) => {
    await new Promise((done) => {
        const script = document.createElement("script");
        Object.assign(script, { src: "runtime-wasm.js", onload: done });
        document.head.append(script);
    });
    const text = document.getElementById("first-worker").textContent;
    const worker = new Worker(URL.createObjectURL(new Blob([text], { type: "text/javascript" })));
    const ask = (message) => new Promise((done) => {
        worker.onmessage = ({ data }) => done(data);
        worker.postMessage(message);
    });
    await ask({ what: "start", number: 1, backend: "wasm", threads: 1, ...globalThis.VERTEBRA_RUNTIME.wasm });
    const { networks } = JSON.parse(document.getElementById("first-data").textContent);
    const one = networks.find(({ name }) => name === network);
    return Array.from((await ask({ what: "prepare", number: 2, network: one })).done.logits);
}"""


@needs_browser
def test_a_network_answers_in_the_browser_as_in_python(browser, folder, tmp_path):
    """The parameters are drawn from their names there, and have the same bits here."""
    import onnxruntime

    one = networks()[1]
    (tmp_path / "model.onnx").write_bytes(one.graph)
    content = bytearray(one.size)
    for name, offset, shape in one.parameters:
        values = drawing.draw(one.name, name, shape, level=one.level).tobytes()
        content[offset : offset + len(values)] = values
    (tmp_path / "model.onnx.data").write_bytes(content)
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
    images = drawing.draw(one.name, "images", (1, 3, one.input_size, one.input_size))
    (expected,) = session.run(None, {session.get_inputs()[0].name: images})
    page = opened(browser, folder)
    told = np.array(page.evaluate(WORK, {"network": one.name}))
    spread = expected.std()
    assert spread > 1e-3
    assert np.abs(told - expected[0]).max() < 1e-3 * spread
    page.close()


@contextmanager
def isolated(folder: Path) -> Iterator[str]:
    """The address of a server whose pages may use several threads."""

    class Isolating(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def end_headers(self) -> None:
            self.send_header("Cross-Origin-Opener-Policy", "same-origin")
            self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
            super().end_headers()

    handler = functools.partial(Isolating, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@needs_browser
@pytest.mark.slow
def test_an_isolated_page_uses_several_threads_and_says_so(browser, folder):
    with isolated(folder) as address:
        page = browser.new_page()
        asked = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(address)
        assert run(page).startswith("Measured 5 networks")
        threads = min(page.evaluate("navigator.hardwareConcurrency"), 8)
        assert threads == 1 or f"{threads} threads, batch 1" in page.text_content("#explorer-where")
        assert all(url.startswith((address, f"blob:{address}")) for url in asked), asked
        page.close()


@needs_browser
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("hash", ["", f"#explorer?latency=10ms&times={TIMES}"], ids=["before", "after"])
def test_axe_finds_no_serious_fault(browser, folder, width, hash, tmp_path):
    script = axe(tmp_path)
    viewport = {"width": width, "height": 844}
    page = opened(browser, folder, hash, bypass_csp=True, viewport=viewport)
    page.wait_for_selector("#explorer-choice:not(:empty)" if hash else "#first-start")
    page.evaluate(script)
    found = page.evaluate("axe.run()")
    faults = [(one["id"], [node["target"] for node in one["nodes"]][:3]) for one in found["violations"]
              if one["impact"] in ("serious", "critical")]  # fmt: skip
    assert faults == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.close()


def test_python_has_the_same_verb(tmp_path, monkeypatch):
    seen = {}
    monkeypatch.setattr(verb, "write", lambda *given, **named: seen.update(named) or given[0])
    assert (
        vertebra.report(tmp_path / "page", first_answer=True, runtime="r.tgz", latency=0.02)
        == tmp_path / "page"
    )
    assert seen == {"runtime": "r.tgz", "limits": {"latency": "0.02s"}}
