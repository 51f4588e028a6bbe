"""The C++ runner, built as its page says: it answers like Python, and its rows go into the table."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper
from PIL import Image

import golden_bundle
import photographs
import vertebra
from vertebra import bundles, cli, engines
from vertebra.bundles import Bundle, Card
from vertebra.bundles.manifest import MANIFEST, NETWORK, REFERENCE, SCHEMA
from vertebra.data.labels import LabelSet
from vertebra.data.preprocess import Preprocess, preprocess
from vertebra.engines import Settings, Subject
from vertebra.exporting import export
from vertebra.inference import loading
from vertebra.measurements import Table

SOURCE = Path(__file__).resolve().parents[1] / "cpp"
TOOLS = ("cmake", "ninja", "c++")
missing = [tool for tool in TOOLS if shutil.which(tool) is None]
missing += [] if importlib.util.find_spec("openvino") else ["openvino"]
HEADERS = ("jpeglib.h", "nlohmann/json.hpp")
missing += [name for name in HEADERS if not (Path("/usr/include") / name).is_file()]
pytestmark = pytest.mark.skipif(
    bool(missing) or os.name != "posix",
    reason="needs apt-get install cmake ninja-build g++ libjpeg62-turbo-dev nlohmann-json3-dev, and openvino",
)
PHOTOGRAPHS = [
    *sorted(Path("/usr/share/libjxl-testdata/jxl/flower").glob("*.jpg"))[::4],
    *sorted(Path("/usr/share/backgrounds/mate/nature").glob("*.jpg"))[:1],
]

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def folder_of(package: str) -> Path:
    return Path(importlib.util.find_spec(package).submodule_search_locations[0])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs the runner, built with the headers and libraries of OpenVINO's wheel."""
    return built(tmp_path_factory.mktemp("cpp"), f"-DOpenVINO_DIR={folder_of('openvino') / 'cmake'}")


def built(build: Path, *options: str) -> Run:
    """Builds the runner, every warning an error; what runs it."""
    source = ["cmake", "-S", str(SOURCE), "-B", str(build), "-G", "Ninja", "-DCMAKE_CXX_FLAGS=-Werror"]
    for command in ([*source, *options], ["cmake", "--build", str(build)]):
        done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def run_(*arguments: Any) -> subprocess.CompletedProcess[str]:
        command = [str(build / "vertebra-run"), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)

    return run_


def answers(run: Run, folder: Path, *files: Path) -> list[dict[str, Any]]:
    done = run(folder, *files, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


def picture(height: int, width: int) -> np.ndarray:
    """The same on every machine: soft slopes with hard edges on them."""
    y, x, c = np.ogrid[:height, :width, :3]
    slopes = (x * 255 // width + y * 255 // height * (c + 1)) % 256
    return np.where((x // 9 + y // 7) % 3 == 0, 255 - slopes, slopes).astype(np.uint8)


def saved(path: Path, pixels: np.ndarray, **options: Any) -> Path:
    Image.fromarray(pixels).save(path, "JPEG", **{"quality": 95, **options})
    return path


def pixels_as_logits(folder: Path, record: Preprocess) -> Bundle:
    """A Bundle whose network answers with its own input: what it says is what the preprocessing made."""
    [side, _] = record.input_size
    count = 3 * side * side
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["images"], ["logits"])],
        "pixels",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, side, side])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", count])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    images = bundles.reference_images(batch_size=2, in_channels=3, input_size=side, seed=3)
    return bundles.write(
        folder,
        lambda draft: onnx.save(model, str(draft / NETWORK)),
        model="pixels", logits=images.reshape(2, count), reference_seed=3, input_size=side, in_channels=3,
        versions={}, card=Card(preprocess=record),
    )  # fmt: skip


# ------------------------------------------------------------------ answers


@pytest.mark.parametrize("bundle", [golden_bundle.folder, golden_bundle.with_head], ids=["", "own head"])
def test_photographs_are_answered_like_in_python(run, tmp_path, bundle):
    folder = bundle()
    files = [*PHOTOGRAPHS, saved(tmp_path / "drawn.jpg", picture(375, 500))]
    told = answers(run, folder, *files)
    with loading.load(folder, engine="openvino") as loaded:
        for path, answer in zip(files, told, strict=True):
            expected = loaded.logits(preprocess(path, loaded.preprocess)[None])[0]
            np.testing.assert_allclose(answer["logits"], expected, atol=1e-4, rtol=0)
    for prediction, answer in zip(vertebra.predict(*files, model=folder), told, strict=True):
        assert answer["source"] == prediction.source
        for one, other in zip(answer["top"], prediction.top, strict=True):
            assert (one["index"], one["id"], one["name"]) == (other.index, other.id, other.name)
            assert one["probability"] == pytest.approx(other.probability, abs=1e-5)


def test_a_fitted_bundle_answers_photographs_as_its_head_does(run, tmp_path):
    """Real weights and a head of `fit`; of the photographs, which aren't JPEG, the copies in it."""
    shipped = photographs.shipped()
    files = [photographs.as_jpeg(path, tmp_path) for path in shipped.sample(24, seed=5)]
    expected = shipped.expected(files)
    names = [label.name for label in bundles.read(shipped.bundle).label_set()]
    for path, answer, logits in zip(files, answers(run, shipped.bundle, *files), expected, strict=True):
        assert np.abs(answer["logits"] - logits).max() <= 1e-3 * expected.std(), path
        assert answer["top"][0]["name"] == names[logits.argmax()], path


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos", "opencv-bilinear"])
def test_every_record_is_carried_out_to_the_grey_level(run, tmp_path, interpolation):
    sizes = [(96, 73), (37, 41), (40, 80), (211, 300), (20, 26), (24, 31), (48, 49), (51, 48)]
    files = [saved(tmp_path / f"{h}x{w}.jpg", picture(h, w)) for h, w in sizes]
    for number, (resize, rounding) in enumerate([(24, "floor"), (24, "nearest"), ((23, 30), "floor")]):
        record = Preprocess(
            (20, 20), resize, interpolation, resize_rounding=rounding, crop_rounding=rounding,
            mean=(0.1, 0.2, 0.3), std=(0.5, 1.0, 2.0),
        )  # fmt: skip
        folder = pixels_as_logits(tmp_path / str(number), record).folder
        for path, answer in zip(files, answers(run, folder, *files), strict=True):
            np.testing.assert_array_equal(np.float32(answer["logits"]), preprocess(path, record).ravel())


def test_a_scaled_decode_is_carried_out_in_full(run, tmp_path):
    exact = Preprocess((20, 20), 24, "bicubic")
    path = saved(tmp_path / "large.jpg", picture(640, 480))
    [answer] = answers(run, pixels_as_logits(tmp_path / "net", replace(exact, decode="scaled")).folder, path)
    np.testing.assert_array_equal(np.float32(answer["logits"]), preprocess(path, exact).ravel())


@pytest.mark.parametrize("turned", [False, True])
def test_a_picture_is_turned_only_where_the_record_says_so(run, tmp_path, turned):
    record = Preprocess((20, 20), 24, "bicubic", apply_orientation=turned)
    folder = pixels_as_logits(tmp_path / "net", record).folder
    files = []
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        files.append(saved(tmp_path / f"{orientation}.jpg", picture(30, 44), exif=exif))
    for path, answer in zip(files, answers(run, folder, *files), strict=True):
        np.testing.assert_array_equal(np.float32(answer["logits"]), preprocess(path, record).ravel())


def test_grey_and_progressive_jpegs_are_read(run, tmp_path):
    record = Preprocess((20, 20), 24, "bilinear")
    folder = pixels_as_logits(tmp_path / "net", record).folder
    files = [
        saved(tmp_path / "grey.jpg", picture(40, 50)[:, :, 0]),
        saved(tmp_path / "progressive.jpg", picture(40, 50), progressive=True),
        saved(tmp_path / "coarse.jpg", picture(41, 51), subsampling=2, quality=60),
    ]
    for path, answer in zip(files, answers(run, folder, *files), strict=True):
        np.testing.assert_array_equal(np.float32(answer["logits"]), preprocess(path, record).ravel())


def test_text_is_what_people_read(run, tmp_path):
    path = saved(tmp_path / "a.jpg", picture(60, 80))
    done = run(golden_bundle.folder(), path, "--top", 2)
    lines = done.stdout.splitlines()
    assert (done.returncode, len(lines), lines[0]) == (0, 3, str(path))
    assert "class number" in lines[1]


# ------------------------------------------------------------------ refusals


def test_one_bad_file_is_named_and_the_rest_is_answered(run, tmp_path):
    good = saved(tmp_path / "good.jpg", picture(60, 80))
    short = tmp_path / "short.jpg"
    short.write_bytes(good.read_bytes()[:-200])
    (tmp_path / "text.jpg").write_text("text")
    stream = io.BytesIO()
    Image.new("CMYK", (9, 9)).save(stream, "JPEG")
    (tmp_path / "inks.jpg").write_bytes(stream.getvalue())
    bad = [short, tmp_path / "text.jpg", tmp_path / "inks.jpg", tmp_path / "nowhere.jpg"]
    done = run(golden_bundle.folder(), *bad, good, "--json")
    assert done.returncode == 1
    assert [json.loads(line)["source"] for line in done.stdout.splitlines()] == [str(good)]
    told = done.stderr.splitlines()
    assert [line.split(": ", 2)[:2] for line in told] == [["error", str(path)] for path in bad]
    assert [
        words in line
        for words, line in zip(("incomplete", "not a JPEG", "CMYK", "be read"), told, strict=True)
    ]


def copied(tmp_path: Path, **changes: Any) -> Path:
    folder = tmp_path / "net"
    shutil.copytree(golden_bundle.folder(), folder)
    path = folder / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return folder


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"schema": SCHEMA + 1}, f"has schema {SCHEMA + 1}"),
        ({"format": "mnn"}, 'doesn\'t know the format "mnn"'),
        ({"batch_size": 4}, "only batches of 4"),
        ({"preprocess": None}, "has no preprocessing"),
        ({"files": {"../x": {"bytes": 1, "sha256": ""}}}, "not a file of this folder"),
        ({"model": 3}, "not a Bundle's manifest"),
    ],
)
def test_a_bundle_that_can_not_be_used_is_refused_in_one_line(run, tmp_path, changes, words):
    done = run(copied(tmp_path, **changes), "a.jpg")
    assert (done.returncode, done.stdout) == (1, "")
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_changed_file_is_refused(run, tmp_path):
    folder = copied(tmp_path)
    (folder / "model.onnx").write_bytes(b"short")
    assert "was changed after the Bundle was written" in run(folder, "a.jpg").stderr


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["net"],
        ["net", "a.jpg", "--colour"],
        ["net", "a.jpg", "--top", "x"],
        ["net", "--top"],
        ["net", "--bench"],
    ],
)
def test_misuse_ends_with_status_2_and_the_usage(run, arguments):
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Usage: vertebra-run")


def test_help_is_no_misuse(run):
    done = run("--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Usage: vertebra-run")


# ------------------------------------------------------------------ bench


def test_the_rows_go_into_the_table(run, tmp_path):
    done = run(
        golden_bundle.folder(), "--bench", "--seconds", 0.5, "--batch", 3, "--json", "--system", "board"
    )
    assert (done.returncode, done.stderr) == (0, "")
    (tmp_path / "rows.json").write_text(done.stdout)
    path = tmp_path / "table.sqlite"
    cited = CliRunner().invoke(cli.cli, ["cite", str(tmp_path / "rows.json"), "--table", str(path)])
    assert cited.exit_code == 0, cited.stderr
    assert f"{len(json.loads(done.stdout)['rows'])} rows added" in cited.stderr
    rows = {row.metric: row for row in vertebra.table(path=Table(path))}
    assert {"latency", "throughput", "output_error"} <= set(rows)
    latency, throughput = rows["latency"], rows["throughput"]
    assert (latency.model, latency.system, latency.engine) == ("squeezenet1_1", "board", "openvino")
    assert (latency.batch_size, latency.precision, latency.grade) == (3, "float32", "C")
    assert latency.low <= latency.value <= latency.high
    assert throughput.value == pytest.approx(3 / latency.value)
    assert 0 <= rows["output_error"].value < 3e-4
    assert latency.weights == bundles.read(golden_bundle.folder()).weights


def test_the_figures_are_read_by_people_too(run):
    done = run(golden_bundle.folder(), "--bench", "--system", "x", "--seconds", 0.1)
    told = dict(line.split(" ") for line in done.stdout.splitlines())
    assert (done.returncode, done.stderr) == (0, "")
    assert float(told["throughput"]) == pytest.approx(1 / float(told["latency"]), rel=1e-4)


def test_a_network_that_answers_wrongly_is_not_timed(run, tmp_path):
    folder = copied(tmp_path)
    path = folder / REFERENCE
    with np.load(path) as archive:
        logits = archive["logits"]
    np.savez(path, logits=logits[:, ::-1])
    done = run(folder, "--bench", "--system", "x", "--seconds", 0.1, "--json")
    assert (done.returncode, done.stdout) == (1, "")
    assert "wrong outputs" in done.stderr


def test_the_presets_are_read_by_cmake():
    done = subprocess.run(
        ["cmake", "--list-presets"], cwd=SOURCE, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    names = {
        one["name"] for one in json.loads((SOURCE / "CMakePresets.json").read_text())["configurePresets"]
    }
    assert names == {"base", "linux", "linux-aotinductor", "macos", "windows"}


# ------------------------------------------------------------------ from a folder to an answer


@pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="needs torch and timm")
def test_from_a_folder_to_the_same_answer_in_python_and_cpp(run, tmp_path, monkeypatch):
    """train, eval, bench, pick, export, predict by the command, and the runner: one accuracy, one answer."""
    import toys

    monkeypatch.setenv("VERTEBRA_TABLE", str(tmp_path / "table.sqlite"))
    monkeypatch.setenv("VERTEBRA_CACHE", str(tmp_path / "cache"))

    def said(*words: Any) -> str:
        done = CliRunner().invoke(cli.cli, [*map(str, words)], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    def told(*words: Any) -> list[dict[str, Any]]:
        return json.loads(said(*words, "--json"))

    model, place, fresh = "timm:test_resnet", tmp_path / "photos", tmp_path / "fresh"
    toys.photos(place, 10)
    toys.photos(fresh, 3, seed=5)
    changes = {
        "input_size": 32, "epochs": 2, "batch": 12, "lr": 0.05, "warmup_epochs": 0, "ema": 0.5, "mixup": 0,
        "augment": "none", "cutmix": 0, "erasing": 0,
    }  # fmt: skip
    sets = [word for key, value in changes.items() for word in ("--set", f"{key}={value}")]
    place_and_recipe = (place, "--recipe", "modern", "-o", tmp_path / "run", "--threads", 1)
    [trained] = told("train", model, *place_and_recipe, *sets)
    assert (trained["status"], trained["top1"]) == ("finished", 1.0)
    folder = tmp_path / "bundle"
    said("export", model, "--weights", tmp_path / "run", "-o", folder, "--engine", "openvino")
    for words in ((model, fresh, "--weights", tmp_path / "run"), (folder, fresh)):
        rows = {row["metric"]: row for row in told("eval", *words)}
        assert (rows["top1"]["value"], rows["top1"]["samples"]) == (1.0, 9)
    told("bench", folder, "--engine", "openvino", "--quick", "--seconds", "2s")
    first = told("pick", "--origin", "evaluated", "--dataset", "fresh", "--among", "table")[0]
    assert (first["verdict"], first["model"], first["top1"]) == ("met", model, 1.0)
    assert first["latency"] > 0

    # the runner reads JPEG, without which the answers couldn't be of the same pixels
    files = []
    for number, path in enumerate(sorted(fresh.glob("*/1.png"))):
        with Image.open(path) as image:
            files.append(saved(tmp_path / f"{number}.jpg", np.asarray(image)))
    runner = answers(run, folder, *files)
    for words in ((model, "--weights", tmp_path / "run"), (folder,)):
        python = [json.loads(line) for line in said("predict", *files, "-m", *words, "--json").splitlines()]
        for one, other in zip(python, runner, strict=True):
            assert [top["name"] for top in one["top"]] == [top["name"] for top in other["top"]]
            assert [top["probability"] for top in one["top"]] == pytest.approx(
                [top["probability"] for top in other["top"]], abs=1e-5
            )
    assert [one["top"][0]["name"] for one in runner] == list(toys.CLASSES)


# ------------------------------------------------------------------ AOTInductor


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="needs torch")
def test_the_runner_in_aotinductor_answers_like_python(tmp_path, monkeypatch):
    run = built(tmp_path / "build", "-DVERTEBRA_ENGINE=aotinductor", f"-DTORCH_DIR={folder_of('torch')}")
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    subject = Subject("small", builder="small_networks:small_net", arguments={"seed": 3})
    record = Preprocess((40, 40), 46, "bicubic", mean=(0.1, 0.2, 0.3), std=(0.5, 1.0, 2.0))
    card = Card(preprocess=record, labels=LabelSet("letters", tuple("abcdefghij")))
    folder = export(subject, tmp_path / "net", input_size=40, card=card, engine="aotinductor").folder
    path = saved(tmp_path / "a.jpg", picture(375, 500))
    expected = engines.load(
        "eager", subject, Settings(input_size=40, num_classes=10)
    ).run(preprocess(path, record)[None])[0]  # fmt: skip
    [told] = answers(run, folder, path)
    np.testing.assert_allclose(told["logits"], expected, atol=1e-4, rtol=0)
    assert [one["index"] for one in told["top"]] == np.argsort(-expected)[:5].tolist()
    assert "built for Bundles in the format aotinductor" in run(golden_bundle.folder(), path).stderr
    done = run(folder, "--bench", "--system", "board", "--seconds", 0.2, "--json")
    rows = {row["metric"]: row for row in json.loads(done.stdout)["rows"]}
    assert (rows["latency"]["engine"], set(rows["latency"]["versions"])) == ("aotinductor", {"torch"})
    assert rows["output_error"]["value"] < 3e-4
