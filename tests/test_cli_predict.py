"""`vertebra predict` and `vertebra export`: what they print where, and how they end."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import golden_bundle
from colours import COLOURS, colours, encoded
from vertebra import bundles

ROOT = Path(__file__).resolve().parents[1]


def run(*arguments: Any, stdin: bytes = b"", **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "vertebra", *map(str, arguments)],
        input=stdin, capture_output=True, timeout=300, check=False, env={**os.environ, **environment},
    )  # fmt: skip


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch):
    """Runs the command in this process, with a network that answers red, green or blue."""
    from click.testing import CliRunner

    from vertebra import cli

    asked: list[dict[str, Any]] = []

    def load(model: str, **options: Any) -> Any:
        asked.append({"model": model, **options})
        return colours(options.get("batch_size", 1))

    monkeypatch.setattr("vertebra.inference.loading.load", load)

    def invoke(*arguments: Any, stdin: bytes = b"") -> Any:
        done = CliRunner().invoke(cli.cli, ["predict", "-m", "x", *map(str, arguments)], input=stdin)
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done

    invoke.asked = asked
    return invoke


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in COLOURS:
        (tmp_path / f"{name}.png").write_bytes(encoded(name))
    return tmp_path


def test_text_names_each_picture_and_its_classes(command, folder):
    done = command(folder / "red.png", folder / "blue.png", "--top", 1)
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert lines[0] == str(folder / "red.png")
    assert re.fullmatch(r" +9\d\.\d\d%  red", lines[1])
    assert re.fullmatch(r" +9\d\.\d\d%  blue", lines[3])
    assert len(lines) == 4
    assert done.stderr == ""


def test_json_is_one_object_a_line(command, folder):
    done = command(folder, "nowhere.jpg", "--json", "--top", 2)
    assert done.exit_code == 1
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["top"][0]["name"] for one in told[:3]] == ["blue", "green", "red"]
    assert set(told[0]) == {"source", "top", "error"}
    assert set(told[0]["top"][0]) == {"index", "id", "name", "probability"}
    assert [len(one["top"]) for one in told] == [2, 2, 2, 0]
    assert told[3] == {
        "source": "nowhere.jpg",
        "top": [],
        "error": "can't be read: No such file or directory.",
    }
    assert all(0 < answer["probability"] < 1 for one in told for answer in one["top"])


def test_csv_is_one_line_a_class(command, folder):
    strange = folder / 'a,"b".png'
    strange.write_bytes(encoded("green"))
    done = command(strange, "nowhere.jpg", "--csv", "--top", 2)
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [(row["source"], row["rank"], row["name"]) for row in rows[:2]] == [
        (str(strange), "1", "green"), (str(strange), "2", "red"),
    ]  # fmt: skip
    assert rows[2]["error"].startswith("can't be read")
    assert (rows[2]["rank"], rows[2]["probability"]) == ("", "")
    assert float(rows[0]["probability"]) > float(rows[1]["probability"])


def test_one_bad_picture_is_named_on_stderr_and_the_rest_is_answered(command, folder):
    (folder / "fake.jpg").write_text("text")
    done = command(folder)
    assert done.exit_code == 1
    assert done.stdout.count(".png") == 3
    assert "fake.jpg" not in done.stdout
    assert f"error: {folder / 'fake.jpg'}: not a JPEG, PNG" in done.stderr


def test_a_folder_without_pictures_is_an_error(command, tmp_path):
    done = command(tmp_path)
    assert (done.exit_code, done.stdout) == (1, "")
    assert "holds no picture" in done.stderr


def test_standard_input_is_a_picture(command):
    done = command("-", "--json", stdin=encoded("green", "JPEG"))
    assert json.loads(done.stdout)["top"][0]["name"] == "green"


def test_a_name_cannot_steer_the_terminal(command, tmp_path):
    path = tmp_path / "a\x1b[31m\nb.png"
    path.write_bytes(encoded("red"))
    done = command(path)
    assert "\x1b" not in done.stdout
    assert done.stdout.splitlines()[0].endswith(r"a\x1b[31m\nb.png")


def test_the_sheet_and_the_lines_come_together(command, folder):
    done = command(folder, "--save", folder / "sheet.png", "--csv")
    assert done.exit_code == 0
    with Image.open(folder / "sheet.png") as image:
        image.load()
        assert image.width > 192


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--save", "sheet.gif"], "sheet.gif"),
        (["--features", "vectors.txt"], "vectors.txt"),
        (["--save", "no/such/folder/sheet.png"], "no/such/folder"),
    ],
)
def test_a_file_that_cannot_be_written_is_one_clear_error(options, told, folder):
    done = run("predict", folder, "-m", golden_bundle.folder(), *options)
    assert done.returncode == 1
    assert told in done.stderr.decode()
    assert b"Traceback" not in done.stderr


def test_nothing_is_written_where_the_network_cannot_be_loaded(folder):
    done = run("predict", folder / "red.png", "-m", "squeezenet9", "--save", folder / "sheet.html")
    assert done.returncode == 1
    assert done.stdout == b""
    assert not (folder / "sheet.html").exists()


def test_what_was_asked_for_reaches_the_loader(command, folder):
    command(folder, "--engine", "openvino", "--batch-size", 2, "--weights", "w.pth", "--untrained")
    [asked] = command.asked
    assert asked["model"] == "x"
    told = {name: asked[name] for name in ("engine", "batch_size", "weights", "untrained")}
    assert told == {"engine": "openvino", "batch_size": 2, "weights": "w.pth", "untrained": True}


@pytest.mark.parametrize(
    "arguments",
    [["predict"], ["predict", "x.jpg"], ["predict", "x.jpg", "-m", "y", "--top", "0"], ["export", "x"]],
)
def test_misuse_is_exit_status_2(arguments):
    assert run(*arguments).returncode == 2


def test_from_a_bundle_a_picture_is_answered_without_torch(tmp_path):
    (tmp_path / "red.jpg").write_bytes(encoded("red", "JPEG", (300, 200)))
    program = (
        "import atexit, sys\n"
        "names = lambda: sorted({name.split('.')[0] for name in sys.modules})\n"
        "atexit.register(lambda: print(*names(), file=sys.stderr))\n"
        f"sys.argv = ['vertebra', 'predict', {str(tmp_path / 'red.jpg')!r}, '-m', "
        f"{str(golden_bundle.folder())!r}, '--save', {str(tmp_path / 'sheet.png')!r}]\n"
        "from vertebra.cli import main\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(done.stderr.splitlines()[-1].split())
    assert "class number" in done.stdout
    assert {"onnxruntime", "numpy", "simplejpeg", "PIL"} <= loaded
    heavy = {
        "torch",
        "onnx",
        "onnxscript",
        "openvino",
        "timm",
        "torchvision",
        "cv2",
        "sqlalchemy",
        "pandas",
        "ssl",
    }
    assert not loaded & heavy


def test_export_then_predict_is_the_whole_way(tmp_path):
    target = tmp_path / "net"
    done = run("export", "squeezenet1_1", "--weights", golden_bundle.WEIGHTS, "-o", target)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.decode() == f"{target}\n"
    assert bundles.read(target).weights == golden_bundle.WEIGHTS.name
    picture = encoded("blue", "JPEG", (400, 300))
    done = run("predict", "-", "-m", target, "--json", "--top", "3", stdin=picture)
    assert done.returncode == 0, done.stderr.decode()
    told = json.loads(done.stdout)
    assert [answer["name"] for answer in told["top"]] == [None] * 3


def test_an_untrained_network_is_refused_or_says_that_it_guesses(tmp_path):
    (tmp_path / "red.png").write_bytes(encoded("red", size=(300, 300)))
    done = run("predict", tmp_path / "red.png", "-m", "resnet18_acnet")
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"--untrained" in done.stderr
    done = run("predict", tmp_path / "red.png", "-m", "resnet18_acnet", "--untrained", "--top", "1")
    assert done.returncode == 0
    assert b"its answers mean nothing" in done.stderr


def test_features_are_written(tmp_path):
    (tmp_path / "red.png").write_bytes(encoded("red", size=(300, 300)))
    done = run("predict", tmp_path / "red.png", "-m", "squeezenet1_1", "--weights", golden_bundle.WEIGHTS,
               "--features", tmp_path / "vectors.npz")  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    archive = np.load(tmp_path / "vectors.npz", allow_pickle=False)
    assert archive["features"].shape == (1, 512)
    assert archive["sources"].tolist() == [str(tmp_path / "red.png")]


def test_an_option_whose_value_is_no_reaches_the_verb(monkeypatch):
    from click.testing import CliRunner

    from vertebra.cli import cli as command

    asked = {}

    def predict(*sources, **options):
        asked.update(options)
        return (one for one in ())

    monkeypatch.setattr("vertebra.predict", predict)
    CliRunner().invoke(command, ["predict", "x.png", "-m", "alexnet", "--as-stored", "--no-ema"])
    assert (asked["upright"], asked["ema"]) == (False, False)
    asked.clear()
    CliRunner().invoke(command, ["predict", "x.png", "-m", "alexnet"])
    assert (asked["upright"], asked.get("ema")) == (True, None)
