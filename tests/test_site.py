"""The site and the docs that it is made of: every command parses, the cheap ones run, pages build without a warning."""

# ruff: noqa: E501  (tables with one case a line)

from __future__ import annotations

import ast
import contextlib
import glob
import importlib.util
import inspect
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import click
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import docs_commands as shown
import tiny_bundle
import tiny_onnx
import vertebra
from docs_commands import ROOT, Command
from vertebra.cli import cli
from vertebra.errors import VertebraError

DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]
FENCED = {page: list(shown.of_page(page)) for page in PAGES if page.name != "commands.md"}
#: README's commands are run by docs/make.py and CI, CONTRIBUTING's by test_contributing.
ELSEWHERE = ("README.md", "CONTRIBUTING.md", "index.md")

#: What isn't run here: a pattern of the command -> why, and which test runs the like.
NOT_RUN = {
    r"^vertebra doctor": "measures the machine, or reads repeated runs: test_diagnosis, test_calibration",
    r"^vertebra cite all": "seconds of published rates: test_citations",
    r"^vertebra (profile bninception|list models --source timm)": "takes seconds: test_profiler, test_lists",
    r"^vertebra chart history": "needs runs of two days: test_history",
    r"NAME| 0a1b2c3d|--price box": "names what the reader has: test_submission, test_measurements, test_prices",
    r"^vertebra survey(?! --write-job)": "measures for minutes: test_campaigns; on Ray: test_on_ray",
    r"^vertebra report .*--first-answer": "fetches a runtime by npm: test_first_answer",
    r"^vertebra (eval|predict) .*--on ray": "needs a cluster: test_on_ray",
    r"^vertebra merge share-": "joins what several machines evaluated: test_shares",
    r"^vertebra bench (?!resnet5$)": "measures for seconds each: test_benchmarking, test_requests, test_shares",
    r"^vertebra (fit|train)\b": "trains: test_fit, test_train",
    r"^torchrun ": "trains in several processes: test_training_ranks",
    r"^vertebra report.*--live": "answers until it is stopped: test_reports",
    r"^vertebra serve\b": "answers until it is stopped: test_server",
    r"^vertebra pick .*--budget": "measures: test_next_to_measure",
    r"^vertebra pick \S+ --fastest": "measures: test_tuning",
    r"^vertebra check\b(?!.*--no-measure)": "measures, where there is a lock: test_check",
    r"^vertebra export (?!googlenet)": "needs PyTorch and weights: test_exporting, test_web, test_quantisation",
    r"^vertebra eval (?!flowers test-photos)": "reads data sets that aren't here: test_evaluation, test_probing",
    r"postgresql://me@server": "needs a server: test_postgresql",
    r"https?://": "needs a network: test_batches",
    r"camera-tool": "needs a camera: test_batches",
    r"timm:|torchvision:|paddle:": "needs the library and its weights: test_adapters, test_paddle",
    r"lenet5|channelslast|latency_best": "what CONTRIBUTING.md adds: test_contributing",
    r"rose.jpg -m squeezenet1_1 --weights flowers": "needs a training's folder: test_train",
    r"^vertebra show flowers$": "needs a training's folder: test_train",
    r"^vertebra cite rows.json": "needs what a board printed: test_cpp",
    r"--dataset|--origin evaluated": "needs evaluated rows: test_candidates",
    r"^vertebra compare (onnx:|2026|--version|--system|before|--run|[0-9a-f]{8})|onnx:network.onnx": "needs rows of both sides: test_comparison, test_gate",
}  # fmt: skip
#: Commands that end with 1, as the page says or because the props have no answer.
MAY_FAIL = re.compile(r"^vertebra (pick|compare)\b")


def not_run(command: Command) -> str | None:
    found = (why for pattern, why in NOT_RUN.items() if re.search(pattern, command.text))
    return None if command.exact is not None else next(found, None)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_of_a_page_parses(page, monkeypatch):
    shown.without_files(monkeypatch)
    wrong = []
    for command in FENCED.get(page, ()):
        try:
            shown.parse(command.words)
        except click.exceptions.Exit:
            pass  # --version, --help
        except click.ClickException as error:
            wrong.append(f"{command.text}: {error.format_message()}")
    for command in shown.inline(page):  # in a sentence what follows may be left out, but not misspelled
        try:
            shown.parse(command.words)
        except (click.NoSuchOption, click.exceptions.NoSuchCommand) as error:
            wrong.append(f"{command.text}: {error.format_message()}")
        except (click.ClickException, click.exceptions.Exit):
            pass
    assert not wrong


def test_a_wrong_command_is_noticed(tmp_path, monkeypatch):
    shown.without_files(monkeypatch)
    page = tmp_path / "page.md"
    page.write_text(
        "```console\n$ FPS=3 .venv/bin/vertebra pick --fps 30 \\\n  --memmory 1GB | head && vertebra pic\n```\n"
        "See `vertebra bench --sconds 1s`.\n\n    vertebra table --modle x   # why\n"
    )
    found = [command.words for command in (*shown.of_page(page), *shown.inline(page))]
    assert found == [
        ("pick", "--fps", "30", "--memmory", "1GB"), ("pic",), ("table", "--modle", "x"),
        ("bench", "--sconds", "1s"),
    ]  # fmt: skip
    for words in found:
        with pytest.raises(click.UsageError, match="No such"):
            shown.parse(words)


@pytest.fixture(scope="module")
def props(tmp_path_factory):
    """A folder with what the pages' commands name; a table with the survey's rows."""
    folder = tmp_path_factory.mktemp("props")
    table = vertebra.Table(folder / "table.sqlite")
    table.read_csv(DOCS / "survey.csv")
    vertebra.submit(folder / "vertebra-3fa2b1c4d5e6.gz", table=table)
    vertebra.pick(params="10M", top1="60%", lock=folder / "small.lock", table=table)
    rows = (DOCS / "survey.csv").read_text(encoding="utf-8")
    for name in ("box", "pi"):
        (folder / "other.csv").write_text(
            rows.replace(table.rows(origin="benched")[0].system, name), encoding="utf-8"
        )
        vertebra.Table(folder / f"{name}.sqlite").read_csv(folder / "other.csv")
    for name in ("laptop", "cluster", "mine", "shares/1", "shares/2"):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(folder / "table.sqlite", folder / f"{name}.sqlite")
    (folder / "mine.csv").write_text("Model,Acc@1,Time,BS\nalexnet,56.5,20,1\n")
    (folder / "phone.csv").write_text("Model,Engine,Threads,Time\nalexnet,ncnn,4,20\n")
    (folder / "classes.txt").write_text("\n".join("abcd"))
    tiny_onnx.network(folder / "network.onnx", shape=("n", 3, 224, 224))
    for name in ("squeezenet", "flowers", "hgnetv2_b4"):
        tiny_bundle.make(folder / name)
    draw = np.random.default_rng(3)
    for name in (
        "cat",
        "photos/a",
        "new-photos/b",
        *(f"test-photos/{one}/c" for one in tiny_bundle.NAMES[:3]),
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 255, (32, 32, 3), "uint8")).save(folder / f"{name}.jpg")
    return folder


def ran(command: Command, folder: Path) -> tuple[int, str]:
    """The exit status and the output of a command in `folder`, patterns as the shell would give them."""
    with contextlib.chdir(folder):
        words = [name for word in command.words for name in sorted(glob.glob(word)) or [word]]
        done = CliRunner(env=shown.environment(folder)).invoke(cli, words, prog_name="vertebra")
    if isinstance(done.exception, VertebraError):
        hint = f"hint: {done.exception.hint}\n" if done.exception.hint else ""
        return 1, f"{done.output}error: {done.exception.message}\n{hint}"
    assert done.exception is None or isinstance(done.exception, SystemExit), repr(done.exception)
    return done.exit_code, done.output


@pytest.mark.parametrize(
    "page",
    [page for page in FENCED if page.name not in ELSEWHERE and any(not not_run(one) for one in FENCED[page])],
    ids=lambda page: page.name,
)
def test_the_cheap_commands_of_a_page_run(page, props, tmp_path):
    folder = tmp_path / "props"
    shutil.copytree(props, folder)
    wrong = []
    for command in FENCED[page]:
        if command.exact is not None:
            (tmp_path / "empty").mkdir(exist_ok=True)
            status, output = ran(command, tmp_path / "empty")
            if status not in (1, 2) or output != command.exact:
                wrong.append(f"{command.text}: printed {output}")
        elif not not_run(command):
            status, output = ran(command, folder)
            if status not in ((0, 1) if MAY_FAIL.match(command.text) else (0,)):
                wrong.append(f"{command.text}: {status}, {output[-500:]}")
    assert not wrong


def test_each_reason_not_to_run_is_used():
    texts = [command.text for commands in FENCED.values() for command in commands]
    assert [pattern for pattern in NOT_RUN if not any(re.search(pattern, text) for text in texts)] == []
    named = {name for why in NOT_RUN.values() for name in re.findall(r"test_\w+", why)}
    assert [name for name in sorted(named) if not (ROOT / "tests" / f"{name}.py").is_file()] == []


PYTHON = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if page.name not in ("python.md", "CONTRIBUTING.md")],
    ids=lambda page: page.name,
)
def test_the_python_of_a_page_compiles_and_names_arguments_that_exist(page):
    for text in PYTHON.findall(page.read_text(encoding="utf-8")):
        for call in ast.walk(ast.parse(text)):
            if isinstance(call, ast.Call) and (name := public(call.func)):
                taken = inspect.signature(getattr(vertebra, name)).parameters
                free = any(one.kind is one.VAR_KEYWORD for one in taken.values())
                given = {one.arg for one in call.keywords if one.arg}
                assert free or given <= set(taken), f"{name}: {given - set(taken)}"


def public(called: ast.expr) -> str | None:
    is_ours = (
        isinstance(called, ast.Attribute)
        and isinstance(called.value, ast.Name)
        and called.value.id == "vertebra"
    )
    return called.attr if is_ours and called.attr in vertebra.__all__ else None


# ------------------------------------------------------------------ the site


@pytest.fixture(scope="module")
def builder() -> Iterator[ModuleType]:
    """docs/site/build.py, as a module."""
    place = DOCS / "site" / "build.py"
    description = importlib.util.spec_from_file_location("site_build", place)
    assert description is not None
    assert description.loader is not None
    module = importlib.util.module_from_spec(description)
    before = list(sys.path)
    description.loader.exec_module(module)
    yield module
    sys.path[:] = before


def test_every_page_has_a_place_in_the_site():
    listed = (DOCS / "site" / "mkdocs.yml").read_text(encoding="utf-8")
    assert [page.name for page in DOCS.glob("*.md") if f" {page.name}\n" not in listed] == []


def test_links_out_of_the_docs_lead_into_the_site(builder):
    text = (
        "[a](../CHANGELOG.md#x) [b](../CONTRIBUTING.md) [c](../src/vertebra/zoo/names.py) [d](trust.md#signs) "
        "`[e](../src/x)` [f](https://made.org/x) ![g](pictures/latency.svg)\n```\n[h](../README.md)\n```\n"
    )
    assert builder.linked(text, DOCS / "page.md") == (
        "[a](changes.md#x) [b](contributing.md) c [d](trust.md#signs) "
        "`[e](../src/x)` [f](https://made.org/x) ![g](pictures/latency.svg)\n```\n[h](../README.md)\n```\n"
    )
    assert builder.linked("[a](docs/fit.md) [b](LICENSE)", ROOT / "CHANGELOG.md") == "[a](fit.md) b"


def test_faults_of_a_site_are_found(builder, tmp_path):
    (tmp_path / "a.html").write_text(
        '<a href="b.html#there"></a><a href="b.html#gone"></a><a href="c.html"></a><a href="https://made.org"></a>'
        '<script src="https://cdn.made.org/x.js"></script><link rel="stylesheet" href="no.css"><img src="data:,x">'
    )
    (tmp_path / "b.html").write_text('<p id="there">')
    (tmp_path / "x.css").write_text("@import url(https://fonts.made.org/f)")
    assert list(builder.faults(tmp_path)) == [
        "a.html: no place for b.html#gone", "a.html: no file for c.html",
        "a.html: loads https://cdn.made.org/x.js", "a.html: no file for no.css",
        "x.css: loads https://fonts.made.org/f",
    ]  # fmt: skip


def test_every_network_of_ours_and_of_the_papers_has_a_page_whose_commands_parse(
    builder, monkeypatch, tmp_path
):
    shown.without_files(monkeypatch)
    made = builder.gallery.gallery(DOCS / "survey.csv")
    pages = {place: make() for place, make in made.pages().items()}
    assert len([place for place in pages if place.startswith("models/")]) == 68 + 1
    for place, text in pages.items():
        (tmp_path / "page.md").write_text(text, encoding="utf-8")
        for command in shown.of_page(tmp_path / "page.md"):
            shown.parse(command.words)
        if place.startswith("models/") and not place.endswith("index.md"):
            assert "## Commands" in text
            assert "**Front.**" in text
    page = pages["models/senet154_vd.md"]
    assert "121,737,048" in page
    assert "114.29 M" in page
    assert (
        "| [`amd-epyc-2-cores-0ec31edf`](../results/amd-epyc-2-cores-0ec31edf.md) | onnxruntime | float32 | 2 | 282 ms"
        in page
    )
    # from README's table, which is made another way
    assert "| 3.52 ms (3.22 ms to 3.84 ms) | 88.4 MB | B |" in pages["results/amd-epyc-2-cores-0ec31edf.md"]
    assert "non-commercial" not in pages["models/vgg16.md"]


@pytest.mark.skipif(importlib.util.find_spec("zensical") is None, reason='needs pip install "vertebra[site]"')
def test_the_site_builds_without_a_warning_and_every_link_leads_somewhere(builder, tmp_path, monkeypatch):
    monkeypatch.setenv("VERTEBRA_CACHE", str(tmp_path / "cache"))
    builder.stage(tmp_path / "staged")
    builder.build(tmp_path / "staged", tmp_path / "site")
    assert list(builder.faults(tmp_path / "site")) == []
    home = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    assert "How to read an answer" in home
    [explorer] = (tmp_path / "site" / "results").glob("explorer-*.html")
    report = explorer.read_text(encoding="utf-8")
    assert (
        report.count('class="card"') == report.count('class="card" tabindex="0"') > 0
    )  # a chart that scrolls


@pytest.mark.skipif(importlib.util.find_spec("zensical") is None, reason='needs pip install "vertebra[site]"')
def test_a_link_to_nothing_stops_the_build(builder, tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text("# A\n\n[b](b.md)\n")
    (tmp_path / "mkdocs.yml").write_text("site_name: x\ntheme: {name: material, font: false}\n")
    with pytest.raises(SystemExit, match="does not exist"):
        builder.build(tmp_path, tmp_path / "site")
