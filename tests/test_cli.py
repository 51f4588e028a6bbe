"""The command: what it prints where, and how it fails."""

from __future__ import annotations

import csv
import io
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vertebra.cli import VERBS
from vertebra.measurements import Measurement, Table
from vertebra.zoo import CLASSICS

ROOT = Path(__file__).resolve().parents[1]
ALL_VERBS = [verb for verbs in VERBS.values() for verb in verbs]


@pytest.fixture
def run(tmp_path):
    """Runs the command in a process of its own, in a folder and on a table of its own."""

    def run_(*arguments: str, table: str | None = None, **more: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "VERTEBRA_TABLE": table or str(tmp_path / "table.sqlite"), **more}
        return subprocess.run(
            [sys.executable, "-m", "vertebra", *arguments],
            capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=300, check=False,
        )  # fmt: skip

    return run_


@pytest.fixture
def cited(run, tmp_path):
    """A table with the published figures."""
    assert run("cite").returncode == 0
    return tmp_path / "table.sqlite"


def fails(done: subprocess.CompletedProcess[str], status: int, *told: str) -> None:
    """One clear error on stderr: no data, no traceback."""
    assert done.returncode == status, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    for text in told:
        assert text in done.stderr


def test_help_lists_every_verb_under_its_group(run):
    done = run("--help")
    assert done.returncode == 0
    for group, verbs in VERBS.items():
        assert group in done.stdout
        for verb, text in verbs.items():
            assert re.search(rf"^  {verb} +{re.escape(text)}$", done.stdout, re.MULTILINE)


@pytest.mark.parametrize("verb", ALL_VERBS)
def test_every_verb_has_help_and_stands_in_the_docs(run, verb):
    assert run(verb, "--help").stdout.startswith(f"Usage: vertebra {verb} ")
    assert f"### vertebra {verb}\n" in (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")


def test_list_prints_models_engines_and_metrics_in_every_format(run):
    models = json.loads(run("list", "--json").stdout)
    assert [model["model"] for model in models][:11] == list(CLASSICS)
    engines = {row["engine"] for row in csv.DictReader(io.StringIO(run("list", "engines", "--csv").stdout))}
    assert engines >= {"null", "eager", "onnxruntime", "openvino"}
    assert "latency_p99" in run("list", "metrics").stdout


def test_an_unknown_verb_name_or_metric_offers_close_matches(run):
    fails(run("surwey"), 2, 'Did you mean "survey"?')
    fails(run("show", "vgg99"), 1, 'Unknown model "vgg99"', '"vgg19"', "vertebra list")
    fails(run("bench", "resnet50_acne", "--engine", "eager"), 1, '"resnet50_acnet"')
    fails(run("bench", "alexnet", "--engine", "onnxrt"), 1, 'Unknown engine "onnxrt"', "onnxruntime")
    fails(run("table", "--origin", "publshed"), 1, 'Unknown origin "publshed"', '"published"')
    fails(run("table", "--metric", "latncy"), 1, 'Unknown metric "latncy"', '"latency"')


def test_an_impossible_size_or_thread_count_is_refused_before_anything_runs(run):
    fails(run("bench", "alexnet", "--input-size", "32"), 1, "32x32", "smallest that works is 63")
    fails(run("profile", "alexnet", "--input-size", "62"), 1, "smallest that works is 63")
    fails(run("profile", "alexnet", "--input-size", "1000000000"), 1, "too large", "65535x65535")
    fails(run("bench", "alexnet", "--threads", "9999"), 1, "9999 threads")
    fails(run("bench", "alexnet", "--batch-size", "0"), 2, "batch-size")
    fails(run("survey", "--budget", "soon"), 1, '"soon"', "known units")


def test_a_broken_or_foreign_table_is_refused_and_left_alone(run, tmp_path):
    broken = tmp_path / "broken.sqlite"
    broken.write_bytes(b"these are not the rows you are looking for" * 100)
    for arguments in (["cite"], ["table"], ["pick"], ["survey"], ["report"]):
        fails(run(*arguments, "--table", str(broken)), 1, "broken.sqlite", "hint:")
    assert broken.read_bytes() == b"these are not the rows you are looking for" * 100


def test_readers_of_a_missing_table_say_how_to_fill_it_and_leave_no_litter(run, tmp_path):
    fails(run("pick", "--fps", "30"), 1, "none of 9", "add --budget 3m", "vertebra survey")
    fails(run("report"), 1, "vertebra survey")
    fails(run("chart"), 1, "vertebra survey")
    assert list(tmp_path.iterdir()) == []


def test_a_table_in_a_folder_that_cannot_be_made_is_one_error(run, tmp_path):
    (tmp_path / "file").write_text("not a folder", encoding="utf-8")
    fails(run("cite", "--table", str(tmp_path / "file" / "table.sqlite")), 1, "hint:")


def test_cite_twice_adds_nothing(run):
    assert "312 rows added" in run("cite").stderr
    assert "0 rows added" in run("cite").stderr


def test_the_table_prints_filters_and_travels(run, cited, tmp_path):
    rows = json.loads(run("table", "--model", "AlexNet", "--metric", "top1", "--json").stdout)
    assert {row["value"] for row in rows} == {0.567}
    assert {row["model"] for row in rows} == {"alexnet"}
    assert "56.7 %" in run("table", "--model", "alexnet", "--metric", "top1").stdout
    for name in ("rows.csv", "rows.json", "rows.parquet"):
        assert run("table", "--all", "--write", name).returncode == 0
        elsewhere = str(tmp_path / f"{name}.sqlite")
        assert "312 rows added" in run("cite", name, table=elsewhere).stderr
        assert "0 rows added" in run("cite", str(cited), table=elsewhere).stderr
    fails(run("table", "--write", "rows.docx"), 1, "rows.docx", ".parquet")


def test_the_wide_table_puts_published_and_measured_forms_of_a_network_under_each_other(run, cited):
    from vertebra.machine import system

    fill(cited, system.describe().id)
    forms = json.loads(run("table", "--wide", "--model", "alexnet", "--batch-size", "1", "--json").stdout)
    told = {(form["system"], form["engine"], form["precision"]): form["latency"] for form in forms}
    assert told["nvidia-v100", "tensorrt", "float32"] == 0.81e-3
    assert told["nvidia-v100", None, "float32"] == 1.176e-3
    assert told[system.describe().id, "openvino", "float32"] == pytest.approx(27e-3)
    assert {form["top1"] for form in forms} == {0.567}
    fails(run("table", "--wide", "--write", "rows.csv"), 2, "--write", "--wide")
    assert "nvidia-t4" in run("table", "--wide", "--model", "alexnet").stdout


def test_profile_counts_without_memory_and_prints_layers(run):
    (counted,) = json.loads(run("profile", "VGG16", "--json").stdout)
    assert (counted["params"], counted["macs"]) == (138_353_320, 15_470_264_320)
    assert counted["operations"] == 2 * counted["macs"]
    layers = json.loads(run("profile", "vgg16", "--layers", "--json").stdout)
    assert sum(layer["macs"] for layer in layers) == counted["macs"]


def test_show_tells_the_paper_the_figures_and_the_stages(run, cited):
    text = run("show", "squeezenet1_0").stdout
    for told in ("Iandola", "1602.07360", "59.6 %", "Stages", "Fire", "smallest 35x35"):
        assert told in text
    layers = json.loads(run("show", "squeezenet1_0", "--layers", "--json").stdout)
    assert sum(layer["params"] for layer in layers) == 1_248_424


def test_a_chart_of_published_figures_is_drawn_and_readable_as_a_table(run, cited, tmp_path):
    assert run("chart", "-o", "balls.svg").returncode == 0
    assert (tmp_path / "balls.svg").read_text(encoding="utf-8").startswith("<svg")
    models = [row["model"] for row in json.loads(run("chart", "--json").stdout)]
    assert sorted(models) == sorted(CLASSICS)
    fails(run("chart", "-o", "balls.docx"), 1, ".svg")
    fails(run("chart", "--x", "latncy"), 1, '"latency"')


def fill(table: Path, system: str) -> None:
    """A table in which three networks were measured on two engines."""
    where = {"device": "cpu", "precision": "float32", "batch_size": 1, "input_size": 224, "system": system,
             "threads": 2, "scenario": "single-stream", "origin": "benched"}  # fmt: skip
    rows = []
    for model, latency_ms in (("alexnet", 30.0), ("squeezenet1_1", 10.0), ("vgg16", 200.0)):
        for engine, factor in (("onnxruntime", 1.0), ("openvino", 0.9)):
            value = latency_ms * factor / 1e3
            row = {"model": model, "engine": engine, **where}
            rows.append(Measurement(metric="latency", value=value, low=0.98 * value, high=1.02 * value,
                                    samples=64, grade="B", **row))  # fmt: skip
            rows.append(Measurement(metric="memory_total", value=latency_ms * 1e7, **row))
    Table(table).append(rows)


def test_pick_prints_choice_runner_up_and_what_excluded_the_better_ones(run, cited):
    from vertebra.machine import system

    fill(cited, system.describe().id)
    text = run("pick", "--latency", "50ms").stdout
    title, weights, accuracy, time, _, _, *rest = text.splitlines()
    assert title == "squeezenet1_1 on openvino   grade B"
    assert weights == "  weights paddle_in1k, licence apache-2.0"
    assert accuracy.split() == ["top-1", "accuracy", "60.1", "%", "published"]
    assert time == "  latency         9.00 ms (8.23 to 9.84 ms)  ≤ 50 ms  ✓ 18 % of it  measured"
    assert rest[-1] == "next: vertebra export squeezenet1_1 --engine openvino -o squeezenet1_1"
    assert rest[-3].startswith("Not compared: 975 networks, because too few are measured here")
    assert rest[-3].endswith("To measure: vertebra pick --latency 50ms --budget 3m")
    assert rest[1].startswith("Runner-up: alexnet on openvino (top-1 accuracy 56.7 %, latency 27.0 ms")
    assert "latency ≤ 197 ms instead of 50 ms: vgg16 on openvino (top-1 accuracy 72.0 %)" in text
    assert "Missed: 1 network would be better (--why)" in text
    assert "Origin" not in text
    why = run("pick", "--latency", "50ms", "--why").stdout
    assert "vgg16 on openvino: latency 180 ms (165 to 197 ms), limit 50 ms" in why
    of_the_table = run("pick", "--latency", "50ms", "--why", "--among", "table").stdout
    assert "senet154_vd: latency is not known" in of_the_table
    assert "top-1 accuracy published for the weights paddle_in1k" in why
    assert "latency measured in this form" in why
    records = json.loads(run("pick", "--latency", "50ms", "--top", "5", "--json").stdout)
    assert [record["model"] for record in records if record["verdict"] == "met"] == [
        "squeezenet1_1",
        "alexnet",
    ]
    at_the_limit = json.loads(run("pick", "--latency", "180ms", "--json").stdout)
    assert [record["verdict"] for record in at_the_limit if record["model"] == "vgg16"] == [
        "borderline",
        "if relaxed",
    ]


def test_pick_that_nothing_meets_names_the_nearest_miss_and_fails(run, cited):
    from vertebra.machine import system

    fill(cited, system.describe().id)
    done = run("pick", "--latency", "1ms")
    assert done.returncode == 1
    assert "Nearest misses" in done.stdout
    assert done.stdout.index("squeezenet1_1") < done.stdout.index("alexnet")


def test_units_mistyped_are_refused_with_those_understood(run, cited):
    fails(run("pick", "--latency", "10"), 1, '"10"', "the number is 10, but its unit is missing", "ms")
    fails(run("pick", "--top1", "75"), 1, '"75"', "75 is more than 100 %", "%")
    fails(
        run("pick", "--memory", "10 parsecs"), 1, 'the number is 10, but "parsecs" is not a known unit', "mb"
    )
    fails(run("pick", "--family", "vggg"), 1, "vggg", '"vgg"')


def test_two_engines_in_one_latency_chart_are_refused_by_name(run, cited):
    from vertebra.machine import system

    fill(cited, system.describe().id)
    fails(run("chart", "--x", "latency", "-o", "latency.svg"), 1, "engine", "--engine")
    assert run("chart", "--x", "latency", "--engine", "openvino", "-o", "latency.svg").returncode == 0


def test_a_report_is_one_page_that_asks_nothing_of_a_network(run, cited, tmp_path):
    assert run("report", "-o", "page.html").returncode == 0
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "senet154_vd" in page
    assert not re.search(r"<(link|script|img)[^>]+(src|href)=[\"']?http", page)
    fails(run("report", "-o", "nowhere/page.html"), 1, "nowhere/page.html")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_output_that_finds_no_room_is_one_error(run, tmp_path):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "vertebra", "list"],
            stdout=full, stderr=subprocess.PIPE, text=True, timeout=300, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == "error: Can't write: No space left on device.\nhint: free some space\n"


def test_an_export_that_cannot_be_is_refused_before_weights_are_fetched(run, tmp_path):
    (tmp_path / "file").write_text("mine")
    nowhere = {"HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}
    for arguments, *told in (
        (("-o", "file"), "file exists and is not a Bundle", "untouched"),
        (("-o", "file/there"), "The Bundle file/there can't be written: Not a directory."),
        (("-o", "new", "--precision", "float8"), 'has no precision "float8"', "float32"),
        (("-o", "new", "--engine", "eager"), "there is nothing to export"),
    ):
        fails(run("export", "alexnet", *arguments, **nowhere), 1, *told)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "mine"


def test_output_into_a_closed_pipe_is_no_error(cited):
    command = f"{sys.executable} -m vertebra table --table {cited} | head -n 1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        capture_output=True, text=True, check=False, env={**os.environ},  # without readline's COLUMNS
    )  # fmt: skip
    assert done.stderr == ""
    assert done.returncode == 0
    assert done.stdout.startswith("model")


@pytest.mark.parametrize(
    ("extra", "module"), [("torch", "torch"), ("openvino", "openvino"), ("charts", "vl_convert")]
)
def test_a_missing_library_is_an_error_with_its_install_line(run, cited, tmp_path, extra, module):
    """`sitecustomize` hides the library, as if it had never been installed."""
    hide = (
        "import importlib.machinery as m\nreal = m.PathFinder.find_spec.__func__\n"
        f"def find_spec(cls, name, path=None, target=None):\n    if name == {module!r}: return None\n"
        "    return real(cls, name, path, target)\nm.PathFinder.find_spec = classmethod(find_spec)\n"
    )
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / "sitecustomize.py").write_text(hide, encoding="utf-8")
    path = os.pathsep.join([str(tmp_path / "hidden"), *sys.path])
    arguments = {
        "torch": ["bench", "alexnet", "--engine", "eager"],
        "openvino": ["bench", "alexnet", "--engine", "openvino"],
        "vl_convert": ["chart", "-o", "balls.svg"],
    }
    fails(run(*arguments[module], PYTHONPATH=path), 1, f'pip install "vertebra[{extra}]"')


# ------------------------------------------------------------------ interrupted


@pytest.mark.parametrize("verb", ["list", "table"])
def test_an_interrupt_while_the_command_starts_prints_no_traceback(verb, tmp_path):
    program = "from vertebra.__main__ import main\nprint('started', flush=True)\nmain()"
    waits = random.Random(11)
    for _ in range(12):
        with subprocess.Popen(
            [sys.executable, "-c", program, verb], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "VERTEBRA_TABLE": str(tmp_path / "table.sqlite")},
        ) as process:  # fmt: skip
            assert process.stdout is not None
            assert process.stdout.readline() == "started\n"
            time.sleep(waits.uniform(0, 0.3))
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=60)
        assert "Traceback" not in said
        assert process.returncode in (0, 1, 130, -signal.SIGINT)  # 1: it had told that there is no table


@pytest.mark.parametrize(
    "verb",
    [
        "interrupt()\ntime.sleep(60)",
        "thing = Thing()\nwatch = weakref.ref(thing, interrupt)\ndel thing\ntime.sleep(60)",
        "try:\n    interrupt()\nexcept KeyboardInterrupt:\n    raise RecursionError",
        "try:\n    interrupt()\nexcept KeyboardInterrupt:\n    raise VertebraError('no network')",
    ],
    ids=["plainly", "in a callback", "as another error", "as an error of ours"],
)
def test_an_interrupt_inside_a_library_is_one_word(verb):
    body = "".join(f"    {line}\n" for line in verb.splitlines())
    program = (
        "import os, signal, time, weakref\n"
        "from vertebra import cli\n"
        "from vertebra.errors import VertebraError\n"
        "class Thing: pass\n"
        "def interrupt(*_): os.kill(os.getpid(), signal.SIGINT)\n"
        f"def verb(**_):\n{body}"
        "cli.cli.main = verb\n"
        "cli.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=50, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


def test_what_nohup_ignores_stays_ignored():
    program = (
        "import signal\n"
        "from vertebra import cli\n"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "cli.cli.main = lambda **_: print(signal.getsignal(signal.SIGHUP) == signal.SIG_IGN)\n"
        "cli.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")
