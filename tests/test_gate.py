"""The parity gate: faults that people make, each put in on purpose, and each refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

from vertebra import bundles  # noqa: E402
from vertebra.bundles import manifest, proof  # noqa: E402
from vertebra.bundles.manifest import MANIFEST, PROOF  # noqa: E402
from vertebra.data.labels import LabelSet  # noqa: E402
from vertebra.data.preprocess import Preprocess  # noqa: E402
from vertebra.engines import Subject  # noqa: E402
from vertebra.errors import BundleError, MeasurementError  # noqa: E402
from vertebra.exporting import export, folding, onnx, openvino  # noqa: E402
from vertebra.inference import loading  # noqa: E402

RECORD = Preprocess(input_size=(34, 34), resize=38, interpolation="bilinear")
LABELS = LabelSet("ten", tuple(f"class {number}" for number in range(10)))
CARD = bundles.Card(preprocess=RECORD, labels=LABELS)
#: Engines that Bundles are written for here, each with what converts for it.
CONVERTERS: dict[str, Any] = {"onnxruntime": onnx, "openvino": openvino}


@pytest.fixture(scope="module", autouse=True)
def _networks_importable() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent))
        yield


def written(
    folder: Path, *, card: bundles.Card = CARD, engine: str = "onnxruntime", **arguments: Any
) -> bundles.Bundle:
    subject = Subject("pooled", builder="small_networks:pooled_net", arguments=arguments)
    return export(subject, folder, input_size=34, card=card, engine=engine)


@pytest.fixture(scope="module", params=CONVERTERS)
def faultless(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> bundles.Bundle:
    return written(tmp_path_factory.mktemp("bundles") / "net", engine=request.param)


@pytest.fixture
def kept(faultless: bundles.Bundle, tmp_path: Path) -> bundles.Bundle:
    """A copy, to put faults into."""
    return bundles.copy(faultless, tmp_path / "net")


# ------------------------------------------------------------------ faults of the network


def bgr(network: Any) -> Any:
    network[0].weight.copy_(network[0].weight.flip(1))
    return network


def ceil_pooling(network: Any) -> Any:
    network[3].ceil_mode = True
    return network


class Half(torch.nn.Module):
    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network.half()

    def forward(self, images: Any) -> Any:
        return self.network(images.half()).float()


def half_weights(network: Any) -> Any:
    for parameter in network.parameters():
        parameter.copy_(parameter.half().float())
    return network


def double_softmax(network: Any) -> Any:
    return torch.nn.Sequential(network, torch.nn.Softmax(dim=1))


FAULTS: dict[str, tuple[Callable[[Any], Any], bool]] = {
    "BGR order": (bgr, False),
    "ceil pooling": (ceil_pooling, False),
    "float16 passed off as float32": (Half, False),
    "float16 parameters passed off as float32": (half_weights, False),
    "double softmax": (double_softmax, True),
}


@pytest.mark.parametrize("engine", CONVERTERS)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_converter_that_changes_the_network_writes_no_bundle(
    fault: str, engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change, softmax = FAULTS[fault]
    converted = CONVERTERS[engine].write

    def faulty(network: Any, *rest: Any) -> None:
        with torch.no_grad():
            converted(change(network).eval(), *rest)

    monkeypatch.setattr(CONVERTERS[engine], "write", faulty)
    with pytest.raises(MeasurementError, match=r"Wrong outputs|runs with precision float16"):
        written(tmp_path / "net", softmax=softmax, engine=engine)
    assert not (tmp_path / "net").exists()


@pytest.mark.parametrize("engine", CONVERTERS)
def test_an_epsilon_of_another_library_writes_no_bundle(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folded = folding.fold_batch_norms

    def faulty(network: Any) -> None:
        network[1].eps = 1e-3
        folded(network)

    monkeypatch.setattr(folding, "fold_batch_norms", faulty)
    with pytest.raises(MeasurementError, match="Wrong outputs"):
        written(tmp_path / "net", engine=engine)


# ------------------------------------------------------------------ faults around it


def edit(folder: Path, **values: Any) -> None:
    path = folder / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def relist(folder: Path, name: str) -> None:
    """The true size and hash of a changed file, so that only its content can tell."""
    data = (folder / name).read_bytes()
    files = json.loads((folder / MANIFEST).read_text())["files"]
    record = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    edit(folder, files={**files, name: record})


def test_a_bundle_without_a_fault_is_loaded_and_answers_as_it_must(kept: bundles.Bundle) -> None:
    with loading.load(kept.folder, batch_size=2, threads=1) as network:
        seen = proof.check(kept, network.session.run)
    assert seen is not None
    assert seen.output_error < 1e-4
    assert (seen.pictures, seen.top1_agreement) == (2, None)
    assert kept.parity is not None
    assert (kept.parity["pictures"], kept.parity["top1_agreement"]) == (4, None)


@pytest.mark.parametrize(
    "values",
    [
        {"mean": [0.0, 0.0, 0.0]},
        {"std": [1.0, 1.0, 1.0]},
        {"resize": 39},
        {"interpolation": "opencv-bilinear"},
    ],
    ids=["mean omitted", "deviation omitted", "another resize", "another kernel"],
)
def test_another_preprocessing_is_refused(values: dict[str, Any], kept: bundles.Bundle) -> None:
    edit(kept.folder, preprocess=json.loads(RECORD.to_json()) | values)
    with pytest.raises(MeasurementError, match="Wrong preprocessing"):
        loading.load(kept.folder)


def test_a_picture_in_bgr_order_is_refused(kept: bundles.Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = proof.preprocess
    monkeypatch.setattr(proof, "preprocess", lambda picture, record: ours(picture[..., ::-1].copy(), record))
    with pytest.raises(MeasurementError, match="Wrong preprocessing"):
        loading.load(kept.folder)


@pytest.mark.parametrize("step", [(0, 1), (1, 0)])
def test_a_crop_one_pixel_off_is_refused(
    step: tuple[int, int], kept: bundles.Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    corner = Preprocess.corner

    def off(record: Preprocess, height: int, width: int) -> tuple[int, int]:
        top, left = corner(record, height, width)
        return top + step[0], left + step[1]

    monkeypatch.setattr(Preprocess, "corner", off)
    with pytest.raises(MeasurementError, match="Wrong preprocessing"):
        loading.load(kept.folder)


@pytest.mark.parametrize("first", [0, 8])
def test_shuffled_labels_are_refused(first: int, kept: bundles.Bundle) -> None:
    names = list(LABELS.names)
    names[first], names[first + 1] = names[first + 1], names[first]
    told = {str(number): name for number, name in enumerate(names)}
    (kept.folder / manifest.LABELS).write_text(json.dumps(told))
    relist(kept.folder, manifest.LABELS)
    with pytest.raises(MeasurementError, match="Wrong labels"):
        loading.load(kept.folder)


def test_labels_of_ones_own_still_stand_in(kept: bundles.Bundle, tmp_path: Path) -> None:
    own = tmp_path / "own.txt"
    own.write_text("\n".join(f"Klasse {number}" for number in range(10)) + "\n", encoding="utf-8")
    with loading.load(kept.folder, labels=own, threads=1) as network:
        assert network.labels is not None
        assert network.labels.names[3] == "Klasse 3"


def test_a_network_of_other_parameters_in_the_bundle_is_told(kept: bundles.Bundle, tmp_path: Path) -> None:
    other = written(tmp_path / "other", seed=1)
    with (
        loading.load(other.folder, batch_size=2, threads=1) as network,
        pytest.raises(MeasurementError, match="Wrong outputs"),
    ):
        proof.check(kept, network.session.run)


# ------------------------------------------------------------------ trained weights


def test_of_trained_weights_the_share_that_stays_first_is_kept(tmp_path: Path) -> None:
    trained = replace(CARD, weights="pooled.own")
    kept = written(tmp_path / "net", card=trained)
    assert kept.parity is not None
    assert (kept.parity["pictures"], kept.parity["top1_agreement"]) == (4, 1.0)
    assert "top1 agreement 1" in (kept.folder / manifest.CARD).read_text()


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_of_trained_weights_a_tie_that_turns_is_refused_in_float32_and_told_in_less(
    precision: str, kept: bundles.Bundle
) -> None:
    """Two classes so close that their order changes within the limit: only the first class tells."""
    logits = np.random.default_rng(0).normal(size=(2, 10)).astype(np.float32)
    logits[:, 3], logits[:, 7] = 5, 5 + 1e-5
    turned = logits.copy()
    turned[0, [3, 7]] = turned[0, [7, 3]]
    with np.load(kept.folder / PROOF) as archive:
        tensors = archive["tensors"]
    np.savez(kept.folder / PROOF, tensors=tensors, logits=logits)
    trained = replace(kept, weights="pooled.own", precision=precision, batch_size=2)
    if precision == "float32":
        with pytest.raises(MeasurementError, match="another class is first"):
            proof.check(trained, lambda images: turned)
    else:
        seen = proof.check(trained, lambda images: turned)
        assert seen is not None
        assert seen.top1_agreement == 0.5
    assert proof.check(replace(trained, weights=None), lambda images: turned) is not None


# ------------------------------------------------------------------ the reference itself


def test_photographs_are_asked_where_a_package_carries_some(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = proof.photographs(RECORD)
    assert asked is not None
    assert asked.shape == (2, 3, 34, 34)
    assert asked[0].std() > 0.1
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert proof.photographs(RECORD) is None


def test_a_fault_that_photographs_alone_show_is_refused(kept: bundles.Bundle) -> None:
    asked = proof.photographs(RECORD)
    with loading.load(kept.folder, batch_size=4, threads=1) as network:
        logits = network.session.run(np.concatenate([asked, asked]))[:2]

        def run(images: Any) -> Any:
            answers = network.session.run(images)
            answers[2:] = answers[2:, ::-1]
            return answers

        told = proof.check(replace(kept, batch_size=4), network.session.run, (asked, logits))
        assert told is not None
        assert told.pictures == 4
        with pytest.raises(MeasurementError, match=r"Wrong outputs.*Worst: image [23]"):
            proof.check(replace(kept, batch_size=4), run, (asked, logits))


@pytest.mark.parametrize("sizes", [[], [[300, 400]], [[300, 400], [420, 320], [1, 1]], 7])
def test_reference_pictures_that_nobody_can_draw_are_told(sizes: Any, kept: bundles.Bundle) -> None:
    assert kept.proof is not None
    edit(kept.folder, proof={**kept.proof, "sizes": sizes})
    with pytest.raises(BundleError, match="can't draw"):
        loading.load(kept.folder)


def test_a_bundle_without_reference_pictures_is_still_loaded(tmp_path: Path) -> None:
    kept = written(tmp_path / "net", card=bundles.Card())
    assert kept.proof is None
    assert proof.check(kept) is None


@pytest.mark.parametrize(
    "arrays",
    [{}, {"tensors": np.zeros((2, 3, 34, 34)), "logits": np.zeros((2, 10))}, {"logits": np.zeros(10**6)}],
    ids=["nothing", "other shapes", "far too much"],
)
def test_a_reference_that_is_none_is_a_bundle_error(arrays: dict[str, Any], kept: bundles.Bundle) -> None:
    np.savez_compressed(kept.folder / PROOF, **arrays)
    relist(kept.folder, PROOF)
    with pytest.raises(BundleError, match=r"proof\.npz"):
        loading.load(kept.folder)


def test_the_batch_size_changes_no_answer(kept: bundles.Bundle) -> None:
    for batch_size in (1, 3):
        with loading.load(kept.folder, batch_size=batch_size, threads=1) as network:
            seen = proof.check(replace(kept, batch_size=batch_size), network.session.run)
        assert seen is not None
        assert seen.output_error < 1e-4


def test_reference_pictures_are_the_same_for_ever() -> None:
    digest = hashlib.sha256(b"".join(picture.tobytes() for picture in proof.pictures())).hexdigest()
    assert digest.startswith("34a89906fd28aa4c")
