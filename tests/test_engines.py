"""The engines' contract: what holds for each one that can run here, and what each one refuses."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from vertebra import bundles, engines, parity
from vertebra.bundles import Bundle
from vertebra.bundles.manifest import NETWORKS
from vertebra.engines import Session, Settings, Subject, eager
from vertebra.errors import (
    BundleError,
    InvalidInputError,
    MeasurementError,
    MissingRuntimeError,
    UnknownNameError,
)
from vertebra.exporting import conversion, export

SIZE = 40
BUILDER = Subject("small", builder="small_networks:small_net", arguments={"num_classes": 10, "seed": 3})
#: What the extra "test" installs; the others are tested where they happen to be installed.
TEST_EXTRA = (
    "null", "eager", "compile", "aotinductor", "onnxruntime", "openvino", "ncnn", "mnn", "litert",
    "executorch",
)  # fmt: skip
#: Each load or export of these compiles C++.
COMPILED = ("compile", "aotinductor")
HERE = [
    pytest.param(name, marks=pytest.mark.slow) if name in COMPILED else name
    for name in engines.ENGINES
    if conversion.missing(name) is None
]
REAL = [name for name in HERE if name != "null"]
READ_BUNDLES = [name for name in engines.ENGINES if engines.find(name).reads == "bundle"]
READ_HERE = [name for name in READ_BUNDLES if name not in COMPILED and engines.missing(name) is None]
#: Whose Bundles take one batch size only.
ONE_BATCH = ("litert", "executorch")


@pytest.fixture(scope="module", autouse=True)
def _networks_importable() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent))
        yield


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, _networks_importable: None) -> Bundle:
    return export(BUILDER, tmp_path_factory.mktemp("bundles") / "small", input_size=SIZE)


#: What these runtimes don't tell of themselves.
SILENT = {"mnn": {"precision"}, "aotinductor": {"precision"}, "litert": {"threads"}}


def settings(**changes: Any) -> Settings:
    return Settings(**{"input_size": SIZE, "num_classes": 10, "threads": 1} | changes)


def load(name: str, small: Bundle, **changes: Any) -> Session:
    asked = settings(**changes)
    if engines.find(name).reads != "bundle":
        return engines.load(name, BUILDER, asked)
    kept = small if "onnx" in engines.find(name).formats else own_bundle(name, small, asked.batch_size)
    return engines.load(name, Subject("small", bundle=str(kept.folder)), asked)


def own_bundle(name: str, small: Bundle, batch_size: int) -> Bundle:
    """The small network in the engine's own format, made once."""
    only = batch_size if name in ONE_BATCH else None
    folder = small.folder.parent / f"{name}-{only}"
    if not folder.exists():
        export(BUILDER, folder, input_size=SIZE, engine=name, batch_size=only)
    return bundles.read(folder)


@pytest.mark.parametrize("name", TEST_EXTRA)
def test_every_engine_of_the_tests_extra_can_run_here(name: str) -> None:
    assert engines.missing(name) is None


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_an_engine_agrees_with_eager_at_any_batch_size(name: str, batch_size: int, small: Bundle) -> None:
    images, logits = small.reference_pair(batch_size)
    got = load(name, small, batch_size=batch_size).run(images)
    assert got.dtype == np.float32
    assert parity.check_outputs(logits, got) < 1e-4


@pytest.mark.parametrize("spins", [True, False])
def test_onnxruntime_s_threads_sleep_where_they_shouldn_t_spin(spins: bool, small: Bundle) -> None:
    session = load("onnxruntime", small, threads=2, spins=spins)
    options = session._session.get_session_options()  # type: ignore[attr-defined]
    key = "session.intra_op.allow_spinning"
    if spins:
        with pytest.raises(RuntimeError, match=key):  # as ONNX Runtime has it: they do
            options.get_session_config_entry(key)
    else:
        assert options.get_session_config_entry(key) == "0"


@pytest.mark.parametrize("name", REAL)
def test_wrong_answers_are_caught(name: str, small: Bundle) -> None:
    _, logits = small.reference_pair(2)
    images = bundles.reference_images(batch_size=2, in_channels=3, input_size=SIZE, seed=99)
    got = load(name, small, batch_size=2).run(images)
    with pytest.raises(MeasurementError, match="Wrong outputs"):
        parity.check_outputs(logits, got)


@pytest.mark.parametrize("name", HERE)
def test_two_prepared_batches_keep_their_own_answers(name: str, small: Bundle) -> None:
    session = load(name, small, batch_size=1)
    images, _ = small.reference_pair(2)
    first, second = session.prepare(images[:1]), session.prepare(images[1:])
    before = session.outputs(session.infer(first))
    other = session.outputs(session.infer(second))
    again = session.outputs(session.infer(first))
    np.testing.assert_array_equal(before, again)
    assert name == "null" or not np.array_equal(before, other)


@pytest.mark.parametrize("name", HERE)
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
    assert set(effective) >= {"precision", "threads", "streams", "provider", "device", "layout", "version"}
    asked = {"precision": "float32", "threads": threads, "device": "cpu"}
    silent = {condition for condition in asked if effective[condition] is None}
    assert silent <= SILENT.get(name, set())
    assert {condition: effective[condition] for condition in asked if condition not in silent}.items() <= (
        asked.items()
    )
    json.dumps(effective)


@pytest.mark.parametrize("name", REAL)
def test_an_engine_tells_its_version_as_the_installed_package_does(name: str, small: Bundle) -> None:
    told = load(name, small).effective()["version"]
    assert engines.version(name) in told.replace("-", "+").split("+") or engines.version(name) == told


@pytest.mark.parametrize("name", HERE)
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


@pytest.mark.parametrize("name", [name for name in READ_HERE if name != "ncnn"])  # its graph is text
def test_a_broken_network_file_is_named(name: str, small: Bundle, tmp_path: Path) -> None:
    format_ = engines.find(name).formats[-1]
    network = NETWORKS[format_]
    broken = bundles.write(
        tmp_path / "broken",
        lambda draft: (draft / network).write_bytes(b"no network" * 50) and None,
        model="small",
        logits=np.zeros((2, 10), np.float32),
        reference_seed=0,
        input_size=SIZE,
        in_channels=3,
        versions={},
        format=format_,
    )
    with pytest.raises(BundleError, match=network):
        engines.load(name, Subject("small", bundle=str(broken.folder)), settings())


@pytest.mark.parametrize("name", [name for name in READ_BUNDLES if engines.missing(name) is None])
def test_an_engine_that_reads_bundles_refuses_a_builder(name: str) -> None:
    with pytest.raises(InvalidInputError, match="is a builder"):
        engines.load(name, BUILDER, settings())


@pytest.mark.parametrize("name", HERE)
def test_a_precision_or_device_that_an_engine_lacks_is_refused(name: str, small: Bundle) -> None:
    with pytest.raises(InvalidInputError, match='no precision "int4"'):
        load(name, small, precision="int4")
    with pytest.raises(InvalidInputError, match='no device "abacus"'):
        load(name, small, device="abacus")


@pytest.mark.parametrize("name", ["ncnn"] if "ncnn" in READ_HERE else [])
def test_a_damaged_graph_of_ncnn_is_named(name: str, small: Bundle, tmp_path: Path) -> None:
    kept = own_bundle(name, small, 1)
    broken = bundles.copy(kept, tmp_path / "broken")
    text = broken.network.read_text().replace("Convolution", "Konvolution")
    broken.network.write_text(text)
    with pytest.raises(BundleError, match=broken.network.name):
        engines.load(name, Subject("small", bundle=str(broken.folder)), settings())


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
    subject = BUILDER if info.reads == "builder" else Subject("small", bundle=str(small.folder))
    with pytest.raises(MissingRuntimeError, match=info.imports[0]) as caught:
        engines.load(name, subject, settings())
    assert caught.value.hint is not None
    assert line in caught.value.hint


@pytest.mark.parametrize("name", HERE)
def test_a_session_on_the_processor_has_no_device_events_and_no_allocator(name: str, small: Bundle) -> None:
    session = load(name, small)
    session.run(small.reference_pair(1)[0])
    assert (session.device_latency_s(), session.memory()) == (None, {})
    assert session.compile_s is None or session.compile_s >= 0


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_eager_in_half_precision_stays_within_its_limit_and_says_so(precision: str, small: Bundle) -> None:
    images, logits = small.reference_pair(2)
    session = load("eager", small, batch_size=2, precision=precision)
    got = session.run(images)
    assert session.effective()["precision"] == precision
    assert got.dtype == np.float32
    assert parity.LIMITS["float32"] < parity.check_outputs(logits, got, precision)


def test_eager_with_channels_last_answers_alike_and_says_so(small: Bundle) -> None:
    images, logits = small.reference_pair(2)
    session = load("eager", small, batch_size=2, layout="NHWC")
    assert session.effective()["layout"] == "NHWC"
    assert session.prepare(images).is_contiguous(memory_format=torch.channels_last)
    parity.check_outputs(logits, session.run(images))
    assert load("eager", small).effective()["layout"] == "NCHW"


@pytest.mark.parametrize("streams", [1, 2])
def test_openvino_runs_as_many_streams_as_asked(streams: int, small: Bundle) -> None:
    session = load("openvino", small, threads=2, streams=streams)
    assert session.effective()["streams"] == streams
    assert (session.compile_s or 0) > 0


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_openvino_computes_in_half_precision_or_refuses(precision: str, small: Bundle) -> None:
    import openvino

    images, logits = small.reference_pair(2)
    offered = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if {"bfloat16": "BF16", "float16": "FP16"}[precision] not in offered:
        # Instead of float16 it takes float32, or bfloat16 where the processor has that.
        other = rf"precision (?!{precision})\w+, though {precision} was asked for"
        with pytest.raises(MeasurementError, match=other):
            load("openvino", small, batch_size=2, precision=precision)
        return
    session = load("openvino", small, batch_size=2, precision=precision)
    assert session.effective()["precision"] == precision
    assert parity.check_outputs(logits, session.run(images), precision) > 1e-5


def test_a_provider_that_this_onnx_runtime_lacks_is_told_with_the_line_that_installs_it(
    small: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    for provider in (None, "TensorrtExecutionProvider"):
        with pytest.raises(MissingRuntimeError, match="ExecutionProvider") as caught:
            load("onnxruntime", small, device="cuda", provider=provider)
        assert "pip install onnxruntime-gpu" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("device", "provider"), [("cpu", "CUDAExecutionProvider"), ("cuda", "CPUExecutionProvider")]
)
def test_a_provider_of_another_device_is_refused(device: str, provider: str, small: Bundle) -> None:
    with pytest.raises(InvalidInputError, match=f"{provider} runs on"):
        load("onnxruntime", small, device=device, provider=provider)


ON_A_CARD = [
    ("CUDAExecutionProvider", "float32", {"use_tf32": "0"}),
    ("CUDAExecutionProvider", "tf32", {"use_tf32": "1"}),
    ("TensorrtExecutionProvider", "float32", {"trt_fp16_enable": "0"}),
    ("TensorrtExecutionProvider", "float16", {"trt_fp16_enable": "1"}),
]


class CardSession:
    """ONNX Runtime's session as it is on a card: of the provider asked for, with the options it was given."""

    def __init__(self, real: Any, providers: list[tuple[str, dict[str, str]]], obeys: bool) -> None:
        self._real, (self._given,), self._obeys = real, providers, obeys

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def get_providers(self) -> list[str]:
        return [self._given[0], "CPUExecutionProvider"]

    def get_provider_options(self) -> dict[str, dict[str, str]]:
        option = {"CUDAExecutionProvider": "use_tf32", "TensorrtExecutionProvider": "trt_fp16_enable"}
        return {self._given[0]: {option[self._given[0]]: "1"} | (self._given[1] if self._obeys else {})}


def put_in_a_card(monkeypatch: pytest.MonkeyPatch, *, obeys: bool = True) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    real = onnxruntime.InferenceSession
    everything = [*engines.find("onnxruntime").providers]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: everything)
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")

    def session(path: str, options: Any, providers: list[tuple[str, dict[str, str]]]) -> CardSession:
        assert options.get_session_config_entry("session.disable_cpu_ep_fallback") == "1"
        plain = onnxruntime.SessionOptions()
        plain.intra_op_num_threads = options.intra_op_num_threads
        return CardSession(real(path, plain, providers=["CPUExecutionProvider"]), providers, obeys)

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)


@pytest.mark.parametrize(("provider", "precision", "options"), ON_A_CARD)
def test_a_provider_on_a_card_gets_its_precision_by_name_and_tells_it(
    provider: str, precision: str, options: dict[str, str], small: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_in_a_card(monkeypatch)
    session = load("onnxruntime", small, device="cuda", provider=provider, precision=precision)
    told = session.effective()
    assert (told["provider"], told["device"], told["precision"]) == (provider, "cuda", precision)
    given = session._session.get_provider_options()[provider]  # type: ignore[attr-defined]
    assert options.items() <= given.items()
    if provider == "TensorrtExecutionProvider":
        assert os.environ["NVIDIA_TF32_OVERRIDE"] == "0"


def test_a_provider_that_rounds_to_tf32_unasked_is_refused(
    small: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_in_a_card(monkeypatch, obeys=False)
    with pytest.raises(MeasurementError, match="precision tf32, though float32 was asked for"):
        load("onnxruntime", small, device="cuda")


@pytest.mark.parametrize(
    ("provider", "precision"),
    [
        ("CPUExecutionProvider", "float16"),
        ("CUDAExecutionProvider", "float16"),
        ("TensorrtExecutionProvider", "tf32"),
    ],
)
def test_a_precision_that_a_provider_lacks_is_refused(provider: str, precision: str, small: Bundle) -> None:
    device = "cpu" if provider.startswith("CPU") else "cuda"
    with pytest.raises(InvalidInputError, match=f'{provider} has no precision "{precision}"') as caught:
        load("onnxruntime", small, device=device, provider=provider, precision=precision)
    assert "float32" in str(caught.value.hint)


@pytest.mark.gpu
@pytest.mark.parametrize(("provider", "precision"), [entry[:2] for entry in ON_A_CARD])
def test_onnx_runtime_on_a_card_agrees_with_eager(provider: str, precision: str, small: Bundle) -> None:
    images, logits = small.reference_pair(5)
    session = load("onnxruntime", small, batch_size=5, device="cuda", provider=provider, precision=precision)
    parity.check_outputs(logits, session.run(images), precision)
    told = session.effective()
    assert (told["device"], told["provider"], told["precision"]) == ("cuda", provider, precision)


def test_tf32_is_no_precision_of_a_processor(small: Bundle) -> None:
    with pytest.raises(MeasurementError, match="precision float32, though tf32 was asked for"):
        load("eager", small, precision="tf32")


def test_a_layout_provider_or_streams_that_an_engine_lacks_are_refused(small: Bundle) -> None:
    with pytest.raises(InvalidInputError, match='no layout "NHWC"'):
        load("null", small, layout="NHWC")
    with pytest.raises(InvalidInputError, match='no provider "Abacus"'):
        load("onnxruntime", small, provider="Abacus")
    with pytest.raises(InvalidInputError, match="one stream; 2 were asked for"):
        load("eager", small, streams=2)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card")
def test_a_card_that_is_not_there_is_told(small: Bundle) -> None:
    with pytest.raises(MissingRuntimeError, match="no CUDA device"):
        load("eager", small, device="cuda")


class Card:
    """What torch tells and is told of a card, without one."""

    class Event:
        now_ms = 0.0

        def __init__(self, *, enable_timing: bool) -> None:
            assert enable_timing
            self.at_ms: float | None = None

        def record(self) -> None:
            Card.Event.now_ms += 2.0
            self.at_ms = Card.Event.now_ms

        def synchronize(self) -> None:
            assert self.at_ms is not None

        def elapsed_time(self, last: Card.Event) -> float:
            assert self.at_ms is not None
            assert last.at_ms is not None
            return last.at_ms - self.at_ms


@pytest.fixture
def _switches_restored() -> Iterator[None]:
    matmul, convolution = torch.backends.cuda.matmul, torch.backends.cudnn.conv
    before = matmul.fp32_precision, convolution.fp32_precision, torch.backends.cudnn.benchmark
    yield
    matmul.fp32_precision, convolution.fp32_precision, torch.backends.cudnn.benchmark = before


@pytest.mark.usefixtures("_switches_restored")
@pytest.mark.parametrize(("precision", "rounding"), [("float32", "ieee"), ("tf32", "tf32")])
def test_a_card_is_timed_by_its_own_events_and_rounds_only_where_asked(
    precision: str, rounding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    synchronised = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: None)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: synchronised.append(True))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 30)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda: 70)
    monkeypatch.setattr(torch.cuda, "Event", Card.Event)
    monkeypatch.setattr(torch.nn.Module, "to", lambda module, *_, **__: module)
    monkeypatch.setattr(torch.Tensor, "to", lambda tensor, *_, **__: tensor)
    asked = settings(device="cuda", precision=precision)
    session = eager.load(BUILDER, asked)
    told = session.effective()
    assert (told["precision"], told["tf32"], told["cudnn_benchmark"]) == (precision, rounding == "tf32", True)
    assert torch.backends.cudnn.conv.fp32_precision == rounding
    session.infer(session.prepare(np.zeros(asked.input_shape, np.float32)))
    assert synchronised == [True]
    assert session.device_latency_s() == 0.002
    assert session.memory() == {"allocated": 30, "reserved": 70}


class Graph:
    """A CUDA graph as torch has it: what runs under `capturing` is in it, and only `replay` runs it again."""

    def __init__(self) -> None:
        self.captured, self.replays = False, 0

    @contextlib.contextmanager
    def capturing(self) -> Iterator[None]:
        yield
        self.captured = True

    def replay(self) -> None:
        assert self.captured
        self.replays += 1


class Stream:
    def wait_stream(self, other: Stream) -> None:
        assert isinstance(other, Stream)


def test_eager_as_a_cuda_graph_launches_the_graph_and_not_the_network(
    small: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "Event", Card.Event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", Graph.capturing)
    monkeypatch.setattr(torch.Tensor, "to", lambda tensor, *_, **__: tensor)
    network = eager.build(BUILDER)
    calls = []
    network.register_forward_hook(lambda *_: calls.append(True))
    asked = settings(device="cuda", batch_size=2, provider="cuda-graph")
    session = eager.EagerSession(network, asked)
    images, logits = small.reference_pair(2)
    prepared = session.prepare(images)
    before = len(calls)
    parity.check_outputs(logits, session.outputs(session.infer(prepared)))
    assert (prepared.graph.replays, len(calls)) == (1, before)
    assert before > 1, "what PyTorch makes at the first call must not be in the graph"


def test_a_cuda_graph_on_a_processor_is_refused(small: Bundle) -> None:
    with pytest.raises(InvalidInputError, match="cuda-graph runs on cuda, not on cpu"):
        load("eager", small, provider="cuda-graph")


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16", "float16"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("provider", [None, "cuda-graph"])
def test_eager_on_a_card_agrees_with_eager_on_the_processor(
    precision: str, layout: str, provider: str | None, small: Bundle
) -> None:
    images, logits = small.reference_pair(5)
    asked = {"precision": precision, "layout": layout, "provider": provider}
    session = load("eager", small, batch_size=5, device="cuda", **asked)
    got = session.run(images)
    parity.check_outputs(logits, got, precision)
    told = session.effective()
    assert (told["device"], told["precision"], told["layout"]) == ("cuda", precision, layout)
    assert (session.device_latency_s() or 0) > 0
    assert 0 < session.memory()["allocated"] <= session.memory()["reserved"]


def test_an_engine_that_compiles_needs_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert "apt install g++" in str(engines.missing("compile"))
    with pytest.raises(MissingRuntimeError, match=r"needs a C\+\+ compiler"):
        engines.load("aotinductor", Subject("small", bundle="nowhere"), settings())
    assert engines.missing("eager") is None


def test_a_bundle_of_another_engine_is_refused_with_those_that_open_it(small: Bundle) -> None:
    with pytest.raises(InvalidInputError, match='format "onnx", but "mnn" opens mnn') as caught:
        engines.load("mnn", Subject("small", bundle=str(small.folder)), settings())
    assert "onnxruntime or openvino" in str(caught.value.hint)


def test_a_bundle_of_one_batch_size_refuses_others(tmp_path: Path) -> None:
    kept = export(BUILDER, tmp_path / "three", input_size=SIZE, engine="onnxruntime", batch_size=3)
    subject = Subject("small", bundle=str(kept.folder))
    images, logits = kept.reference_pair(3)
    parity.check_outputs(logits, engines.load("onnxruntime", subject, settings(batch_size=3)).run(images))
    with pytest.raises(InvalidInputError, match="only batches of 3, not of 2"):
        engines.load("onnxruntime", subject, settings(batch_size=2))


TORCH_FREE = [
    name
    for name in READ_HERE
    if conversion.missing(name) is None and "torch" not in engines.find(name).imports
]


@pytest.fixture
def alone(tmp_path: Path) -> dict[str, str]:
    """The environment of a user whose home is `tmp_path`, so far empty, and who opted out of nothing."""
    kept = {key: value for key, value in os.environ.items() if key not in OPT_OUTS}
    return {**kept, "HOME": str(tmp_path), "USERPROFILE": str(tmp_path), "TMPDIR": str(tmp_path)}


#: What keeps a runtime from telling its makers, and where it would keep what it tells.
OPT_OUTS = ("CI", "TF_BUILD", "JENKINS_URL", "ORT_DISABLE_TELEMETRY", "NNCF_CI", "XDG_CACHE_HOME")


@pytest.mark.parametrize("name", ["onnxruntime", "openvino", "nncf"])
def test_a_library_that_would_tell_its_makers_is_kept_from_it(
    name: str, alone: dict[str, str], tmp_path: Path
) -> None:
    # Each would write the number by which it knows this machine when it is imported.
    subprocess.run([sys.executable, "-c", f"import vertebra, {name}"], check=True, env=alone)
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.parametrize("name", TORCH_FREE)
def test_a_bundle_runs_in_a_process_without_torch_and_leaves_nothing(
    name: str, small: Bundle, alone: dict[str, str], tmp_path: Path
) -> None:
    kept = small if "onnx" in engines.find(name).formats else own_bundle(name, small, 1)
    code = (
        "import sys; from vertebra import bundles, engines, parity\n"
        f"kept = bundles.read({str(kept.folder)!r}); images, logits = kept.reference_pair(1)\n"
        f"asked = engines.Settings.from_json({settings().to_json()!r})\n"
        f"session = engines.load({name!r}, engines.Subject('small', bundle=str(kept.folder)), asked)\n"
        "print(parity.check_outputs(logits, session.run(images)) < 1e-4, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=alone)
    assert done.stdout.strip() == "True False"
    assert list(tmp_path.rglob("*")) == []


def test_torchs_compiler_agrees_with_eager_and_tells_its_time(small: Bundle) -> None:
    images, logits = small.reference_pair(2)
    session = load("compile", small, batch_size=2)
    parity.check_outputs(logits, session.run(images))
    assert (session.compile_s or 0) > 0
    assert session.effective()["precision"] == "float32"


def test_a_network_that_torch_cannot_compile_is_named() -> None:
    tangled = Subject("tangled", builder="small_networks:tangled_net")
    with pytest.raises(MeasurementError, match="can't compile tangled"):
        engines.load("compile", tangled, settings())


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
        ("small_networks:no_net", "returned int, not a torch module"),
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


@pytest.mark.parametrize(
    "name", ["batch_size", "input_size", "in_channels", "num_classes", "threads", "streams"]
)
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
