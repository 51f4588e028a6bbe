"""Exporting: a builder becomes a Bundle that other engines answer alike, here or in its own process."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

import vertebra
from vertebra import bundles, engines, parity
from vertebra.bundles.manifest import MANIFEST
from vertebra.campaigns import tuning
from vertebra.engines import Settings, Subject
from vertebra.errors import BundleError, InvalidInputError, MeasurementError, MissingRuntimeError
from vertebra.exporting import conversion, export, process
from vertebra.machine import files
from vertebra.zoo import names

TESTS = str(Path(__file__).parent)
SMALL = Subject(
    "small", builder="small_networks:small_net", arguments={"num_classes": 7, "in_channels": 1, "seed": 4}
)


@pytest.fixture(scope="module", autouse=True)
def _networks_importable() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(TESTS)
        yield


def zoo(name: str, **arguments: Any) -> Subject:
    return Subject(name, builder="vertebra.zoo:build", arguments={"name": name, "seed": 0, **arguments})


def in_its_own_process(*jobs: object) -> list[dict[str, Any]]:
    lines = "".join((job if isinstance(job, str) else json.dumps(job)) + "\n" for job in jobs)
    path = os.pathsep.join([TESTS, *sys.path])
    done = subprocess.run(
        [sys.executable, "-m", "vertebra.exporting"],
        input=lines,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def job(subject: Subject, folder: Path, *, input_size: int = 24, in_channels: int = 3) -> dict[str, Any]:
    values = json.loads(subject.to_json())
    return {"subject": values, "folder": str(folder), "input_size": input_size, "in_channels": in_channels}


def test_a_bundle_tells_what_was_exported(tmp_path: Path) -> None:
    export(SMALL, tmp_path / "small", input_size=24, in_channels=1)
    kept = bundles.read(tmp_path / "small")
    assert (kept.model, kept.seed, kept.num_classes, kept.in_channels, kept.input_size) == (
        "small",
        4,
        7,
        1,
        24,
    )
    assert set(kept.versions) == {"torch", "onnx", "onnxscript", "onnxruntime"}
    assert [path.name for path in tmp_path.iterdir()] == ["small"]


def test_the_network_holds_every_parameter_outside_the_graph(tmp_path: Path) -> None:
    kept = export(zoo("squeezenet1_1", num_classes=10), tmp_path / "net", input_size=64)
    parameters_bytes = 4 * 727_626  # 1,235,496 with 1,000 classes, less 990 x (512 + 1)
    assert kept.files["model.onnx.data"]["bytes"] > 0.9 * parameters_bytes
    assert kept.files["model.onnx"]["bytes"] < 0.1 * parameters_bytes


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize(
    ("name", "input_size"),
    [
        ("squeezenet1_1", 64),
        ("alexnet", 95),  # its adaptive pool meets a size that doesn't divide
        pytest.param("vgg11", 64, marks=pytest.mark.slow),
        pytest.param("darknet53", 64, marks=pytest.mark.slow),
        pytest.param("resnet50_acnet", 64, marks=pytest.mark.slow),
        pytest.param("resnet50_acnet_deploy", 64, marks=pytest.mark.slow),
        pytest.param("senet154_vd", 64, marks=pytest.mark.slow),
    ],
)
def test_a_zoo_network_answers_alike_wherever_it_runs(
    name: str, input_size: int, engine: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp() / f"{name}-{input_size}"
    if not folder.exists():
        export(zoo(name, num_classes=20), folder, input_size=input_size)
    images, logits = bundles.read(folder).reference_pair(3)
    settings = Settings(batch_size=3, input_size=input_size, num_classes=20)
    session = engines.load(engine, Subject(name, bundle=str(folder)), settings)
    assert parity.check_outputs(logits, session.run(images)) < parity.LIMITS["float32"]


def sizes(name: str) -> int:
    return max(names.find(name).min_size, 32)


#: Engines whose Bundles are made without a compiler, the same each time.
CONVERTED = [
    name
    for name in engines.ENGINES
    if conversion.missing(name) is None
    and engines.find(name).reads == "bundle"
    and not engines.find(name).needs_compiler
]
#: Every classic for every engine that can run here; one for each converter, drawn by lot, runs unmarked.
GRID = [
    (name, engine)
    for name in names.CLASSICS
    for engine in engines.ENGINES
    if conversion.missing(engine) is None and engine not in ("null", "eager")
]
LOT = [(draw.choice(names.CLASSICS), engine) for draw in [random.Random(31)] for engine in CONVERTED]

#: Loads a network in a process of its own, runs the images of a file and keeps the answers beside them.
FRESH = """
import pathlib, sys
import numpy as np
from vertebra import engines
engine, subject, asked, folder = sys.argv[1:]
session = engines.load(engine, engines.Subject.from_json(subject), engines.Settings.from_json(asked))
np.save(pathlib.Path(folder, "got.npy"), session.run(np.load(pathlib.Path(folder, "images.npy"))))
print("torch" in sys.modules)
"""


def answers(engine: str, subject: Subject, asked: Settings, images: Any, folder: Path) -> Any:
    """What a fresh process answers, which loads torch only where the engine needs it."""
    np.save(folder / "images.npy", images)
    command = [sys.executable, "-c", FRESH, engine, subject.to_json(), asked.to_json(), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == str("torch" in engines.find(engine).imports)
    return np.load(folder / "got.npy")


@pytest.mark.parametrize(
    ("name", "engine"),
    [pair if pair in LOT else pytest.param(*pair, marks=pytest.mark.slow) for pair in GRID],
)
def test_a_classic_answers_alike_in_a_fresh_process_of_each_engine(
    name: str, engine: str, tmp_path: Path
) -> None:
    if engines.find(engine).reads == "builder":
        subject, batch_sizes = zoo(name, num_classes=20), (1, 5)
    else:
        kept = export(zoo(name, num_classes=20), tmp_path / "net", input_size=sizes(name), engine=engine)
        assert kept.parity is not None
        assert kept.parity["output_error"] <= kept.parity["limit"]
        subject = Subject(name, bundle=str(kept.folder))
        batch_sizes = (1, 5) if kept.batch_size is None else (kept.batch_size,)
    for batch_size in batch_sizes:
        asked = Settings(batch_size=batch_size, input_size=sizes(name), num_classes=20)
        images = bundles.reference_images(
            batch_size=batch_size, in_channels=3, input_size=sizes(name), seed=batch_size
        )
        logits = engines.load("eager", zoo(name, num_classes=20), asked).run(images)
        parity.check_outputs(logits, answers(engine, subject, asked, images, tmp_path))


@pytest.mark.parametrize("engine", CONVERTED)
def test_the_same_network_is_the_same_bundle_and_names_no_folder(engine: str, tmp_path: Path) -> None:
    subject = Subject("small", builder="small_networks:small_net", arguments={"seed": 4})
    first, second = (
        export(subject, tmp_path / name, input_size=24, engine=engine) for name in ("first", "second")
    )
    assert sorted(path.name for path in first.folder.iterdir()) == sorted({*first.files, MANIFEST})
    for name in [*first.files, MANIFEST]:
        content = (first.folder / name).read_bytes()
        assert content == (second.folder / name).read_bytes(), name
        for folder in (str(Path(__file__).parent), sys.prefix, str(tmp_path)):
            assert folder.encode() not in content, name
    assert engine in first.engines


@pytest.mark.parametrize("engine", CONVERTED)
def test_an_engine_that_answers_otherwise_gives_no_bundle(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(parity.LIMITS, "float32", 0.0)
    with pytest.raises(MeasurementError, match=r"Wrong outputs.*Worst: image \d, class \d"):
        export(SMALL, tmp_path / "small", input_size=24, in_channels=1, engine=engine)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("engine", [name for name in ("ncnn", "mnn") if name in CONVERTED])
def test_a_folder_named_from_here_is_found_by_converters_that_run_elsewhere(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    export(SMALL, "small", input_size=24, in_channels=1, engine=engine)
    assert bundles.read(tmp_path / "small").format == engine


@pytest.mark.parametrize("engine", [name for name in ("ncnn", "mnn") if name in CONVERTED])
def test_winograd_s_method_costs_no_more_than_rounding(engine: str, tmp_path: Path) -> None:
    stacked = Subject("stacked", builder="small_networks:stacked_net")
    kept = export(stacked, tmp_path / "stacked", input_size=96, engine=engine)
    assert kept.parity is not None
    assert kept.parity["output_error"] <= parity.LIMITS["float32"] / 10


@pytest.mark.parametrize("engine", [name for name in ("ncnn", "mnn") if name in CONVERTED])
def test_an_operator_that_a_converter_lacks_is_named_with_a_way_out(engine: str, tmp_path: Path) -> None:
    odd = Subject("odd", builder="small_networks:odd_net")
    with pytest.raises(MeasurementError, match=r"can't take the operator .*solve_triangular") as caught:
        export(odd, tmp_path / "odd", input_size=24, engine=engine)
    assert "eager, compile, aotinductor" in str(caught.value.hint)
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_of_one_batch_size_or_for_no_engine_is_told(tmp_path: Path) -> None:
    kept = export(SMALL, tmp_path / "small", input_size=24, in_channels=1, batch_size=3)
    assert kept.batch_size == 3
    with pytest.raises(InvalidInputError, match="nothing to export") as caught:
        export(SMALL, tmp_path / "other", input_size=24, in_channels=1, engine="eager")
    assert "onnxruntime" in str(caught.value.hint)
    with pytest.raises(InvalidInputError, match='no precision "int3"'):
        export(SMALL, tmp_path / "other", input_size=24, in_channels=1, precision="int3")
    with pytest.raises(InvalidInputError, match="batch size is 0"):
        export(SMALL, tmp_path / "other", input_size=24, in_channels=1, batch_size=0)


def test_an_engine_that_is_not_here_is_told_before_anything_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "MNN" else real(name))
    with pytest.raises(MissingRuntimeError, match="needs MNN") as caught:
        export(Subject("absent", builder="no:net"), tmp_path / "small", input_size=24, engine="mnn")
    assert 'pip install "vertebra[torch,mnn]"' in str(caught.value.hint)


def test_the_same_seed_gives_the_same_answers_in_another_process(tmp_path: Path) -> None:
    here = export(zoo("squeezenet1_1", num_classes=5), tmp_path / "here", input_size=64)
    subject = zoo("squeezenet1_1", num_classes=5)
    (answer,) = in_its_own_process(job(subject, tmp_path / "there", input_size=64))
    assert answer["error"] is None
    there = bundles.read(tmp_path / "there")
    assert parity.output_error(here.reference_pair(2)[1], there.reference_pair(2)[1]) < 1e-5
    np.testing.assert_array_equal(here.reference_pair(2)[0], there.reference_pair(2)[0])


def test_one_job_that_fails_is_told_and_the_next_goes_on(tmp_path: Path) -> None:
    absent = Subject("absent", builder="no_such_module:net")
    answers = in_its_own_process(
        "no job",
        {"subject": 3},
        job(absent, tmp_path / "absent"),
        job(zoo("alexnet"), tmp_path / "tiny", input_size=8),
        job(
            Subject("crash", builder="small_networks:small_net", arguments={"colour": 3}), tmp_path / "crash"
        ),
        job(SMALL, tmp_path / "small", in_channels=1),
    )
    assert [answer["error"] for answer in answers] == [
        "InvalidInputError", "InvalidInputError", "InvalidInputError", "InvalidInputError", "TypeError", None,
    ]  # fmt: skip
    assert "no_such_module" in answers[2]["message"]
    assert "63" in answers[3]["hint"]
    assert all(answer["seconds"] >= 0 for answer in answers)
    assert [path.name for path in tmp_path.iterdir()] == ["small"]


def test_a_network_that_no_graph_can_hold_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    tangled = Subject("tangled", builder="small_networks:tangled_net")
    with pytest.raises(MeasurementError, match="can't take"):
        export(tangled, tmp_path / "tangled", input_size=24)
    assert list(tmp_path.iterdir()) == []


def test_a_foreign_folder_is_refused_before_anything_is_exported(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"sea")
    with pytest.raises(BundleError, match="is not a Bundle"):
        export(SMALL, tmp_path, input_size=24, in_channels=1)


def test_a_bundle_is_not_exported_again(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="only a network from a builder"):
        export(Subject("small", bundle=str(tmp_path)), tmp_path / "x", input_size=24)


@pytest.mark.parametrize("package", ["torch", "onnx", "onnxscript"])
def test_a_missing_package_is_told_with_the_line_that_installs_it(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else real(name))
    with pytest.raises(MissingRuntimeError, match=f"needs {package}") as caught:
        export(SMALL, tmp_path / "small", input_size=24, in_channels=1)
    assert 'pip install "vertebra[torch]"' in str(caught.value.hint)


# ------------------------------------------------------------------ interrupted


EXPORT = ["export", "squeezenet1_1", "--untrained", "-o"]
FASTEST = [
    "pick", "squeezenet1_1", "--fastest", "--engine", "onnxruntime", "--budget", "20s", "--untrained",
    "--export",
]  # fmt: skip
PROGRAM = """
import sys, vertebra
try:
    vertebra.export("squeezenet1_1", sys.argv[1], untrained=True)
except KeyboardInterrupt:
    print("the caller has it")
"""


@pytest.fixture(autouse=True)
def heeded() -> Iterator[None]:
    """Heeds signals that nohup or a shell's background runs told to ignore."""
    ignored = [one for one in (signal.SIGHUP, signal.SIGINT) if signal.getsignal(one) is signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, signal.SIG_DFL)
    yield
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)


class Ended:
    """A program that was started with a folder of its own for its output and another for what passes, and
    gets a signal some seconds after its start or that of its exporting process: what it told and left."""

    def __init__(
        self, command: list[str], folder: Path, number: int, after_s: float, *, exporting: bool = False
    ) -> None:
        output, scratch = folder / "output", folder / "scratch"
        output.mkdir()
        scratch.mkdir()
        more = {"TMPDIR": str(scratch), "VERTEBRA_TABLE": str(folder / "table.sqlite")}
        more["TORCHINDUCTOR_CACHE_DIR"] = str(folder / "compiled")  # which is to stay
        with subprocess.Popen(
            [sys.executable, *command, str(output / "net")],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **more},
        ) as process:  # fmt: skip
            while exporting and process.poll() is None and not psutil.Process(process.pid).children():
                time.sleep(0.01)
            time.sleep(after_s)
            children = psutil.Process(process.pid).children(recursive=True)
            self.is_late = process.poll() is not None
            process.send_signal(number)
            self.told, self.said = process.communicate(timeout=60)
        self.status = process.returncode
        made = output / "net"
        self.is_late |= made.exists()
        #: The Bundle, where it was done before the signal came; what is only half of one is none.
        self.whole = [bundles.read(made).folder] if made.exists() else []
        self.left = [*output.iterdir(), *scratch.iterdir()]
        self.running = psutil.wait_procs(children, timeout=5)[1]


def instants(
    command: list[str], *, usual: int, usual_span_s: float, slow: int, slow_span_s: float
) -> list[Any]:
    """Of a command the seconds after which it is interrupted, early ones as usual, more if there is time."""
    drawn = random.Random(20)
    early = [pytest.param(command, round(drawn.uniform(0.2, usual_span_s), 2)) for _ in range(usual)]
    return early + [
        pytest.param(command, round(drawn.uniform(0.2, slow_span_s), 2), marks=pytest.mark.slow)
        for _ in range(slow)
    ]


@pytest.mark.parametrize(
    ("command", "after_s"),
    [
        *instants(EXPORT, usual=2, usual_span_s=5.0, slow=8, slow_span_s=10.0),
        *instants(FASTEST, usual=3, usual_span_s=8.0, slow=12, slow_span_s=40.0),
    ],
)
def test_ctrl_c_at_any_instant_ends_in_a_word_and_leaves_nothing(
    command: list[str], after_s: float, tmp_path: Path
) -> None:
    ended = Ended(["-m", "vertebra", *command], tmp_path, signal.SIGINT, after_s)
    assert ended.status in (130, -signal.SIGINT) or ended.is_late  # the second is 130 too, to a shell
    assert "Traceback" not in ended.said
    assert ended.said.count("interrupted") <= 1
    assert (ended.left, ended.running) == (ended.whole, [])


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
@pytest.mark.parametrize(
    ("command", "after_s"),
    [(EXPORT, 1.0), pytest.param(FASTEST, 3.0, marks=pytest.mark.slow)],
)
def test_a_command_that_is_told_to_end_leaves_nothing(
    command: list[str], after_s: float, number: int, status: int, tmp_path: Path
) -> None:
    ended = Ended(["-m", "vertebra", *command], tmp_path, number, after_s, exporting=True)
    assert (ended.status, ended.left, ended.running) == (status, [], [])
    assert "Traceback" not in ended.said


@pytest.mark.parametrize(
    "after_s", [0.0, 1.0, *(pytest.param(one, marks=pytest.mark.slow) for one in (2.0, 4.0))]
)
def test_an_interrupt_reaches_who_called_export_and_leaves_nothing(after_s: float, tmp_path: Path) -> None:
    ended = Ended(["-c", PROGRAM], tmp_path, signal.SIGINT, after_s, exporting=True)
    assert (ended.told, ended.said) == ("" if ended.is_late else "the caller has it\n", "")
    assert (ended.left, ended.running) == (ended.whole, [])


def test_the_exporting_process_outlives_no_caller(tmp_path: Path) -> None:
    ended = Ended(["-c", PROGRAM], tmp_path, signal.SIGKILL, 1.0, exporting=True)
    assert (ended.status, ended.running) == (-signal.SIGKILL, [])


def test_a_crash_of_the_exporting_process_is_told(tmp_path: Path) -> None:
    crashing = Subject("crashing", builder="os:abort")
    with pytest.raises(MeasurementError, match=r"^The export crashed"):
        process.export(crashing, tmp_path / "net", input_size=24, card=bundles.Card())
    assert list(tmp_path.iterdir()) == []


def test_what_the_exporting_process_refuses_is_raised_as_it_is_here(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="runs a network as it is"):
        process.export(zoo("alexnet"), tmp_path / "net", input_size=224, card=bundles.Card(), engine="eager")
    assert list(tmp_path.iterdir()) == []


def test_what_a_folder_held_stands_again_where_its_replacement_is_interrupted(tmp_path: Path) -> None:
    kept = tmp_path / "net"
    kept.mkdir()
    (kept / "old").touch()

    def interrupted() -> None:
        with files.whole_folder(kept, lambda there: True) as draft:
            (draft / "new").touch()
            kept.rename(draft.with_name(f"{draft.name}.old"))  # as where its place is being taken
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [path.name for path in tmp_path.rglob("*")] == ["net", "old"]


def test_an_engine_without_its_converter_is_told_with_what_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = importlib.util.find_spec
    found = {"ai_edge_litert": real("json"), "litert_torch": None}
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: found[name] if name in found else real(name)
    )
    assert engines.missing("litert") is None
    told = str(conversion.missing("litert"))
    assert "litert_torch" in told
    assert 'pip install "vertebra[litert-export]"' in told
    assert conversion.missing("eager") is None
    assert "litert" not in {case.engine for case in tuning.cases("squeezenet1_1")}
    assert [note for note in tuning.left_out() if note.startswith("litert was left out: ")]
    with pytest.raises(MissingRuntimeError, match="litert_torch"):
        tuning.cases("squeezenet1_1", ["litert"])


@pytest.mark.parametrize("asked", [{"web": True}, {"embed_preprocess": True}])
@pytest.mark.parametrize("engine", ["openvino", "ncnn"])
def test_an_engine_whose_bundles_hold_no_onnx_is_refused_by_name(
    engine: str, asked: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(InvalidInputError, match=f"Bundles of {engine} have another format"):
        vertebra.export("squeezenet1_1", tmp_path / "net", untrained=True, engine=engine, **asked)
    assert list(tmp_path.iterdir()) == []
