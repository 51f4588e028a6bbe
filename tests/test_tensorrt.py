"""TensorRT's engine, on a stand-in for TensorRT and CUDA; on a real card where there is one (`-m gpu`)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnxscript")

import fake_tensorrt as fake
from vertebra import bundles, engines, parity
from vertebra.bundles import Bundle
from vertebra.engines import Session, Settings, Subject
from vertebra.errors import BundleError, InvalidInputError, MeasurementError, MissingRuntimeError
from vertebra.exporting import export

SIZE = 24
BUILDER = Subject("small", builder="small_networks:small_net", arguments={"seed": 3})


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bundle]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent))
        yield export(BUILDER, tmp_path_factory.mktemp("bundles") / "small", input_size=SIZE)


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> fake.Card:
    monkeypatch.setenv("VERTEBRA_CACHE", str(tmp_path / "cache"))
    return fake.install(monkeypatch)


def load(kept: Bundle, **changes: Any) -> Session:
    asked = Settings(**{"input_size": SIZE, "num_classes": 10, "device": "cuda"} | changes)
    return engines.load("tensorrt", Subject("small", bundle=str(kept.folder)), asked)


@pytest.mark.parametrize("batch_size", [1, 5])
def test_it_answers_as_eager_does_and_lets_go_of_all_that_it_took(
    batch_size: int, small: Bundle, card: fake.Card
) -> None:
    images, logits = small.reference_pair(batch_size)
    session = load(small, batch_size=batch_size)
    first = session.prepare(images)
    session.prepare(images[::-1].copy())
    parity.check_outputs(logits, session.outputs(session.infer(first)))
    assert session.device_latency_s() == 0.002
    assert (session.compile_s or 0) > 0
    session.close()
    assert (card.memory, card.alive) == ({}, set())


def test_a_call_is_replayed_as_a_graph(small: Bundle, card: fake.Card) -> None:
    session = load(small)
    assert session.effective()["cuda_graph"] is None
    session.run(small.reference_pair(1)[0])
    assert card.calls == ["cudaGraphLaunch"]
    assert session.effective()["cuda_graph"] is True


def test_a_call_that_cannot_be_captured_is_queued_each_time(small: Bundle, card: fake.Card) -> None:
    card.captures = False
    images, logits = small.reference_pair(1)
    session = load(small)
    parity.check_outputs(logits, session.run(images))
    assert card.calls == []
    assert session.effective()["cuda_graph"] is False


@pytest.mark.parametrize("precision", ["float32", "tf32", "float16", "bfloat16"])
def test_a_precision_is_demanded_and_read_back(precision: str, small: Bundle, card: fake.Card) -> None:
    told = load(small, precision=precision).effective()
    assert (told["precision"], told["tf32"]) == (precision, precision == "tf32")
    (config,) = fake.Builder.builds
    names = {flag.name for flag in config.flags}
    assert (
        names
        == {
            "float32": set(),
            "tf32": {"TF32"},
            "float16": {"FP16", "OBEY_PRECISION_CONSTRAINTS"},
            "bfloat16": {"BF16", "OBEY_PRECISION_CONSTRAINTS"},
        }[precision]
    )


def test_a_precision_that_was_not_obeyed_is_told(
    small: Bundle, card: fake.Card, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake, "_FLAG_OF", {})
    with pytest.raises(MeasurementError, match="precision float32, though float16 was asked for"):
        load(small, precision="float16")


def test_tf32_that_nobody_asked_for_is_told(
    small: Bundle, card: fake.Card, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake.Config, "clear_flag", lambda config, flag: None)
    with pytest.raises(MeasurementError, match="precision tf32, though float32 was asked for"):
        load(small)


@pytest.mark.parametrize(
    ("described", "kind"),
    [
        ("Half", "float16"),
        ("Channel major FP16 format where channel % 8 == 0", "float16"),
        ("Row major linear FP32", "float32"),
        ("Float", "float32"),
        ("BFloat16", "bfloat16"),
        ("Row major linear BF16 format", "bfloat16"),
        ("Thirty-two wide channel vectorized row major Int8 format", "int8"),
    ],
)
def test_the_inspectors_words_for_types_are_understood(described: str, kind: str) -> None:
    from vertebra.engines import tensorrt

    assert tensorrt._type(described) == kind


def test_the_profile_is_of_the_one_shape_and_a_fixed_batch_needs_none(
    small: Bundle, card: fake.Card, tmp_path: Path
) -> None:
    load(small, batch_size=3)
    assert fake.Builder.builds[0].profiles[0].shapes == {"images": ((3, 3, SIZE, SIZE),) * 3}
    three = export(BUILDER, tmp_path / "three", input_size=SIZE, batch_size=3)
    load(three, batch_size=3)
    assert fake.Builder.builds[1].profiles == []


def test_what_building_measured_is_kept_for_the_next(small: Bundle, card: fake.Card, tmp_path: Path) -> None:
    kept = tmp_path / "cache" / "tensorrt" / "10.16.1.11.timing"
    load(small)
    assert kept.read_bytes() == b"+"
    load(small)
    assert kept.read_bytes() == b"++"
    kept.write_bytes(b"another card's")
    load(small)
    assert kept.read_bytes() == b"+"


def test_a_bundle_is_made_for_it_and_compared_on_the_card(
    small: Bundle, card: fake.Card, tmp_path: Path
) -> None:
    kept = export(BUILDER, tmp_path / "net", input_size=SIZE, engine="tensorrt", precision="float16")
    assert (kept.format, kept.precision) == ("onnx", "float16")
    assert "tensorrt" in kept.engines
    assert kept.parity is not None
    assert kept.parity["engine"] == "tensorrt"
    assert card.calls != []


def test_an_operator_that_it_lacks_is_named_with_its_layer(
    small: Bundle, card: fake.Card, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake.OnnxParser, "unknown", ("Gemm",))
    with pytest.raises(MeasurementError, match=r"can't take the operator Gemm of the layer \S+") as caught:
        load(small)
    assert "onnxruntime" in str(caught.value.hint)


def test_a_file_that_it_cannot_parse_is_named(small: Bundle, card: fake.Card, tmp_path: Path) -> None:
    broken = bundles.copy(small, tmp_path / "broken")
    size_bytes = broken.network.stat().st_size
    broken.network.write_bytes(b"\x07" * size_bytes)
    with pytest.raises(BundleError, match=r"model\.onnx"):
        load(broken)


def test_a_build_that_fails_is_told(small: Bundle, card: fake.Card, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fake.Builder, "fails", True)
    with pytest.raises(MeasurementError, match="TensorRT can't build"):
        load(small)


def test_a_card_without_room_is_told(small: Bundle, card: fake.Card) -> None:
    session = load(small)
    card.free_bytes = 0
    with pytest.raises(MeasurementError, match="cudaMalloc failed: cudaErrorMemoryAllocation"):
        session.prepare(small.reference_pair(1)[0])


def test_no_card_is_told(small: Bundle, card: fake.Card) -> None:
    card.devices = 0
    with pytest.raises(MissingRuntimeError, match="no device here"):
        load(small)
    with pytest.raises(InvalidInputError, match='no device "cpu"'):
        load(small, device="cpu")


def test_a_tensorrt_that_cannot_be_told_the_precision_is_told(
    small: Bundle, card: fake.Card, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    from vertebra.engines import tensorrt  # noqa: F401

    flags = type(fake.BuilderFlag.TF32)
    monkeypatch.setattr(
        sys.modules["tensorrt"],
        "BuilderFlag",
        type("BuilderFlag", (), {"TF32": flags.TF32}),
    )
    with pytest.raises(MissingRuntimeError, match="can't be set to compute in float16") as caught:
        load(small, precision="float16")
    assert 'pip install "vertebra[tensorrt]"' in str(caught.value.hint)


def test_the_stand_in_for_cuda_has_no_name_that_the_real_one_lacks() -> None:
    runtime = pytest.importorskip("cuda.bindings.runtime")
    assert [name for name in fake.RUNTIME if not hasattr(runtime, name)] == []
    assert hasattr(runtime.cudaMemcpyKind, "cudaMemcpyHostToDevice")
    assert hasattr(runtime.cudaStreamCaptureMode, "cudaStreamCaptureModeThreadLocal")


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float32", "tf32", "float16", "bfloat16"])
@pytest.mark.parametrize("batch_size", [1, 5])
def test_on_a_card_it_agrees_with_eager(precision: str, batch_size: int, small: Bundle) -> None:
    pytest.importorskip("tensorrt")
    images, logits = small.reference_pair(batch_size)
    session = load(small, precision=precision, batch_size=batch_size)
    got = session.run(images)
    parity.check_outputs(logits, got, precision)
    assert got.dtype == np.float32
    told = session.effective()
    assert (told["device"], told["precision"]) == ("cuda", precision)
    assert (session.device_latency_s() or 0) > 0
    session.close()
