"""The engines' contract: what holds for each one that can run here, and what each one refuses."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from vertebra import bundle, engines, parity
from vertebra.bundle import Bundle
from vertebra.engines import Session, Settings, Subject
from vertebra.errors import (
    BundleError,
    InvalidInputError,
    MeasurementError,
    MissingRuntimeError,
    UnknownNameError,
)
from vertebra.exporting import export

SIZE = 40
BUILDER = Subject("small", builder="small_networks:small_net", arguments={"num_classes": 10, "seed": 3})
REAL = [name for name in engines.ENGINES if name != "null"]
READ_BUNDLES = [name for name in REAL if engines.find(name).reads == "bundle"]


@pytest.fixture(scope="module", autouse=True)
def _networks_importable() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent))
        yield


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, _networks_importable: None) -> Bundle:
    return export(BUILDER, tmp_path_factory.mktemp("bundles") / "small", input_size=SIZE)


def settings(**changes: Any) -> Settings:
    return Settings(**{"input_size": SIZE, "num_classes": 10, "threads": 1} | changes)


def load(name: str, small: Bundle, **changes: Any) -> Session:
    bundled = engines.find(name).reads == "bundle"
    return engines.load(
        name, Subject("small", bundle=str(small.folder)) if bundled else BUILDER, settings(**changes)
    )


@pytest.mark.parametrize("name", engines.ENGINES)
def test_every_engine_of_the_tests_extra_can_run_here(name: str) -> None:
    assert engines.missing(name) is None


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_an_engine_agrees_with_eager_at_any_batch_size(name: str, batch_size: int, small: Bundle) -> None:
    images, logits = small.reference_pair(batch_size)
    got = load(name, small, batch_size=batch_size).run(images)
    assert got.dtype == np.float32
    assert parity.check_outputs(logits, got) < 1e-4


@pytest.mark.parametrize("name", REAL)
def test_wrong_answers_are_caught(name: str, small: Bundle) -> None:
    _, logits = small.reference_pair(2)
    images = bundle.reference_images(batch_size=2, in_channels=3, input_size=SIZE, seed=99)
    got = load(name, small, batch_size=2).run(images)
    with pytest.raises(MeasurementError, match="Wrong outputs"):
        parity.check_outputs(logits, got)


@pytest.mark.parametrize("name", engines.ENGINES)
def test_two_prepared_batches_keep_their_own_answers(name: str, small: Bundle) -> None:
    session = load(name, small, batch_size=1)
    images, _ = small.reference_pair(2)
    first, second = session.prepare(images[:1]), session.prepare(images[1:])
    before = session.outputs(session.infer(first))
    other = session.outputs(session.infer(second))
    again = session.outputs(session.infer(first))
    np.testing.assert_array_equal(before, again)
    assert name == "null" or not np.array_equal(before, other)


@pytest.mark.parametrize("name", engines.ENGINES)
def test_preparing_copies_so_that_the_callers_array_stays_its_own(name: str, small: Bundle) -> None:
    session = load(name, small)
    images, _ = small.reference_pair(1)
    prepared = session.prepare(images)
    before = session.outputs(session.infer(prepared))
    images[:] = 0
    np.testing.assert_array_equal(session.outputs(session.infer(prepared)), before)


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("threads", [1, 2])
def test_an_engine_tells_what_it_really_uses(name: str, threads: int, small: Bundle) -> None:
    effective = load(name, small, threads=threads).effective()
    assert set(effective) == {"precision", "threads", "streams", "provider", "device", "layout", "version"}
    assert (effective["precision"], effective["threads"], effective["device"]) == ("float32", threads, "cpu")
    json.dumps(effective)


@pytest.mark.parametrize("name", REAL)
def test_an_engine_tells_its_version_as_the_installed_package_does(name: str, small: Bundle) -> None:
    told = load(name, small).effective()["version"]
    assert engines.version(name) in told.replace("-", "+").split("+") or engines.version(name) == told


@pytest.mark.parametrize("name", engines.ENGINES)
@pytest.mark.parametrize(
    "images",
    [
        np.zeros((2, 3, SIZE, SIZE), np.float32),
        np.zeros((1, 1, SIZE, SIZE), np.float32),
        np.zeros((1, 3, SIZE, SIZE)),
    ],
)
def test_images_of_another_shape_or_type_are_refused(
    name: str, images: np.ndarray[Any, Any], small: Bundle
) -> None:
    with pytest.raises(InvalidInputError, match=r"float32 \(1, 3, 40, 40\)"):
        load(name, small).prepare(images)


@pytest.mark.parametrize("name", READ_BUNDLES)
def test_a_broken_network_file_is_named(name: str, small: Bundle, tmp_path: Path) -> None:
    (tmp_path / bundle.REFERENCE).write_bytes((small.folder / bundle.REFERENCE).read_bytes())
    broken = bundle.write(
        tmp_path / "broken",
        lambda draft: (draft / bundle.NETWORK).write_bytes(b"no network" * 50) and None,
        model="small",
        logits=np.zeros((2, 10), np.float32),
        reference_seed=0,
        input_size=SIZE,
        in_channels=3,
        versions={},
    )
    with pytest.raises(BundleError, match=bundle.NETWORK):
        load(name, broken)


@pytest.mark.parametrize("name", READ_BUNDLES)
def test_an_engine_that_reads_bundles_refuses_a_builder(name: str) -> None:
    with pytest.raises(InvalidInputError, match="came as a builder"):
        engines.load(name, BUILDER, settings())


@pytest.mark.parametrize("name", engines.ENGINES)
def test_a_precision_or_device_that_an_engine_lacks_is_refused(name: str, small: Bundle) -> None:
    with pytest.raises(InvalidInputError, match='no precision "int4"'):
        load(name, small, precision="int4")
    with pytest.raises(InvalidInputError, match='no device "abacus"'):
        load(name, small, device="abacus")


@pytest.mark.parametrize("name", engines.ENGINES)
def test_a_missing_runtime_is_told_with_the_line_that_installs_it(
    name: str, small: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = engines.find(name)
    monkeypatch.setattr(importlib.util, "find_spec", lambda package: None)
    line = f'pip install "vertebra[{info.extra}]"' if info.extra else "pip install vertebra"
    reason = engines.missing(name)
    assert reason is not None
    assert reason.endswith(line)
    assert info.imports[0] in reason
    assert engines.available() == ()
    with pytest.raises(MissingRuntimeError, match=info.imports[0]) as caught:
        load(name, small)
    assert caught.value.hint is not None
    assert line in caught.value.hint


def test_eager_refuses_to_pass_half_precision_off_as_float32() -> None:
    half = Subject("half", builder="small_networks:half_net")
    with pytest.raises(MeasurementError, match="precision float16, though float32 was asked for"):
        engines.load("eager", half, settings())


@pytest.mark.parametrize(
    ("effective", "told"),
    [({"precision": "bfloat16"}, "bfloat16"), ({"threads": 7}, "threads 7"), ({"device": "gpu"}, "gpu")],
)
def test_a_runtime_that_does_something_else_than_asked_is_refused(
    effective: dict[str, Any], told: str
) -> None:
    as_asked = {"precision": "float32", "threads": 1, "device": "cpu"}
    engines.check_effective("any", settings(), as_asked)
    engines.check_effective("any", settings(), as_asked | {"threads": None})
    with pytest.raises(MeasurementError, match=told):
        engines.check_effective("any", settings(), as_asked | effective)


def test_load_reads_the_settings_back(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = []

    class Liar:
        def effective(self) -> dict[str, Any]:
            return {"precision": "bfloat16"}

        def close(self) -> None:
            closed.append(True)

    module = ModuleType("liar")
    module.load = lambda subject, settings: Liar()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vertebra.engines.null", module)
    with pytest.raises(MeasurementError, match="null runs with precision bfloat16"):
        engines.load("null", BUILDER, settings())
    assert closed == [True]


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("no_such_module:f", "no_such_module"),
        ("small_networks:f", "can't be found"),
        ("small_networks", "can't be found"),
        (":", "can't be found"),
        ("small_networks:no_net", "gave int, not a torch module"),
    ],
)
def test_a_builder_that_leads_nowhere_is_named(address: str, told: str) -> None:
    with pytest.raises(InvalidInputError, match=told):
        engines.load("eager", Subject("x", builder=address), settings())


def test_an_unknown_engine_suggests_the_nearest() -> None:
    with pytest.raises(UnknownNameError) as caught:
        engines.find("onnx-runtime")
    assert '"onnxruntime"' in str(caught.value.hint)
    assert engines.find("OpenVINO").name == "openvino"


def test_a_subject_and_settings_cross_as_text() -> None:
    assert Subject.from_json(BUILDER.to_json()) == BUILDER
    changed = settings(batch_size=7, threads=3)
    assert Settings.from_json(changed.to_json()) == changed


@pytest.mark.parametrize("text", ["", "[]", "3", '{"model": "a", "colour": "red"}', '{"model": "a"}', "{}"])
def test_text_that_is_no_subject_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError):
        Subject.from_json(text)


@pytest.mark.parametrize("name", ["batch_size", "input_size", "in_channels", "num_classes", "threads"])
def test_settings_below_one_are_refused(name: str) -> None:
    with pytest.raises(InvalidInputError, match=f"{name} is 0"):
        settings(**{name: 0})


def test_asking_what_is_available_imports_no_runtime() -> None:
    code = (
        "import sys; from vertebra import engines; engines.available();"
        "[engines.version(n) for n in engines.ENGINES];"
        "print(sorted({'numpy', 'torch', 'onnxruntime', 'openvino'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
