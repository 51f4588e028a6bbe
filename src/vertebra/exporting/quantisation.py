"""Eight-bit integers instead of float32: by ONNX Runtime's own static quantisation, calibrated on pictures of
the user's and guarded on others of them. What loses most goes back to float32 until the guard holds."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vertebra import bundle, parity
from vertebra.data.dataset import is_picture
from vertebra.errors import InvalidInputError, MeasurementError
from vertebra.preprocess import Preprocess, preprocess_many

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Images = npt.NDArray[np.float32]

#: Fewer pictures tell neither the range of the activations nor whether the answers stay.
LEAST_PICTURES = 16
#: More would take time and memory, and change little.
_MOST_PICTURES = 256

#: What must hold on the pictures that were held out, where nobody says otherwise: of trained networks the
#: share of pictures whose first class stays, of untrained ones the signal-to-noise of the logits in dB.
TRAINED_GUARD = 0.99
UNTRAINED_GUARD_DB = 10.0

#: operators with parameters: those that eight bits make faster, and that may go back to float32
_WEIGHTED = ("Conv", "Gemm", "MatMul", "ConvTranspose")

#: Pictures that the error of each layer is told from.
_LAYER_PICTURES = 4


@dataclass(frozen=True)
class Calibration:
    """The `folder` of pictures to calibrate with, and the `guard` that must hold: None for the usual one."""

    folder: Path
    guard: float | None = None


@dataclass(frozen=True)
class Split:
    """The pictures as the network sees them, (N, 3, H, W): to `calibrate` with, and `held_out` for the guard.
    `broken` ones couldn't be read."""

    calibrate: Images
    held_out: Images
    broken: int


def read(folder: Path, record: Preprocess) -> Split:
    """The pictures in `folder` and its folders, every other one held out. Raises InvalidInputError where too
    few can be read."""
    import numpy as np

    paths = sorted(path for path in folder.rglob("*") if is_picture(path.name) and path.is_file())
    step = max(1, len(paths) / _MOST_PICTURES)
    chosen = [paths[int(number * step)] for number in range(min(len(paths), _MOST_PICTURES))]
    made = list(preprocess_many(chosen, record))
    good = [image for image in made if isinstance(image, np.ndarray)]
    if len(good) < LEAST_PICTURES:
        broken = f", and {len(made) - len(good)} can't be read" if len(good) < len(made) else ""
        raise InvalidInputError(
            f"{folder} holds {len(made)} pictures{broken}: too few to calibrate with.",
            f"give a folder with at least {LEAST_PICTURES} that can be read, 100 or more for good ranges",
        )
    return Split(np.stack(good[::2]), np.stack(good[1::2]), len(made) - len(good))


def answers(draft: Path, images: Images, batch_size: int | None) -> Images:
    """The logits of `images` that the network in a Bundle's folder gives in ONNX Runtime."""
    return _run(draft / bundle.NETWORK, images, batch_size or len(images))


def quantise(
    draft: Path, card: bundle.Card, calibration: Calibration, batch_size: int | None
) -> dict[str, Any]:
    """Put the eight-bit network in place of the float32 one in a Bundle's folder `draft`; the report for its
    manifest. Raises InvalidInputError for the folder of pictures or the guard, and MeasurementError where the
    guard doesn't hold."""
    assert card.preprocess is not None
    trained = card.weights is not None
    guard = _guard(calibration.guard, trained)
    split = read(calibration.folder, card.preprocess)
    with tempfile.TemporaryDirectory(prefix="vertebra-") as scratch:
        search = _Search(draft / bundle.NETWORK, Path(scratch), split, trained, batch_size or 1)
        found = search.until(guard)
        _put(found.path, draft)
    return {
        "by": "onnxruntime.quantization",
        "calibrated_on": len(split.calibrate),
        "held_out": len(split.held_out),
        "broken": split.broken,
        "measure": "top1_agreement" if trained else "signal_to_noise_db",
        "value": round(found.value, 4),
        "guard": guard,
        "layers": len(search.layers),
        "float32_layers": list(found.kept),
    }


def _guard(given: float | None, trained: bool) -> float:
    if given is None:
        return TRAINED_GUARD if trained else UNTRAINED_GUARD_DB
    if trained and not 0 < given <= 1:
        raise InvalidInputError(
            f"The guard is {given:g}; of a trained network it is the share of pictures whose first class "
            "stays, above 0 and at most 1."
        )
    if not (given > 0 and math.isfinite(given)):
        raise InvalidInputError(f"The guard is {given:g} dB, but must be above 0.")
    return given


@dataclass(frozen=True)
class _Found:
    path: Path
    value: float
    kept: tuple[str, ...]


class _Search:
    """Quantised networks with ever more layers left in float32."""

    def __init__(self, path: Path, scratch: Path, split: Split, trained: bool, batch_size: int) -> None:
        import onnx

        self._path = path
        self._scratch = scratch
        self._split = split
        self._trained = trained
        self._batch_size = batch_size
        graph = onnx.load(str(path), load_external_data=False).graph
        self.layers = [node.name for node in graph.node if node.op_type in _WEIGHTED]
        self._expected = _run(path, split.held_out, batch_size)

    def until(self, guard: float) -> _Found:
        """The first network that the guard holds for: none, one, two, four ..., at most half of the
        layers in float32, those first that add most error."""
        found = self._attempt(())
        order = [] if found.value >= guard else self._by_error(found.path)
        half = len(order) // 2
        for count in sorted({*(2**power for power in range(half.bit_length())), half} - {0}):
            if found.value < guard:
                found = self._attempt(tuple(order[:count]))
        if found.value < guard:
            unit = "of the first classes stay" if self._trained else "dB of signal to noise"
            raise MeasurementError(
                f"Eight bits change the answers too much: {found.value:.3g} {unit}, {guard:g} was asked for, "
                f"with {len(found.kept)} of {len(self.layers)} layers in float32.",
                "calibrate with more pictures like those it will see, ask for less with --guard, or stay "
                "with float32",
            )
        return found

    def _attempt(self, kept: tuple[str, ...]) -> _Found:
        path = self._scratch / f"{len(kept)}" / bundle.NETWORK
        path.parent.mkdir()
        _quantise_file(self._path, path, self._scratch / "ranges.json", self._batches(), kept)
        got = _run(path, self._split.held_out, self._batch_size)
        if self._trained:
            value = float((got.argmax(axis=1) == self._expected.argmax(axis=1)).mean())
        else:
            error = parity.content_error(self._expected, got)
            value = -20 * math.log10(max(error, 1e-9))
        return _Found(path, value, kept)

    def _batches(self) -> Iterator[Images]:
        images = self._split.calibrate
        return (_filled(images, start, self._batch_size) for start in range(0, len(images), self._batch_size))

    def _by_error(self, path: Path) -> list[str]:
        """The layers, the one first whose answer is furthest from float32's beyond what reached it."""
        images = self._split.calibrate[: max(_LAYER_PICTURES, self._batch_size)]
        expected, nodes = _tensors(self._path, images, self._batch_size, self._scratch)
        got, _ = _tensors(path, images, self._batch_size, self._scratch)
        errors = {name: _relative(expected[name], got[name]) for name in expected.keys() & got.keys()}

        def added(node: Any) -> float:
            reached = max((errors.get(name, 0.0) for name in node.input), default=0.0)
            return errors.get(node.output[0], 0.0) - reached

        weighted = [node for node in nodes if node.op_type in _WEIGHTED]
        return [node.name for node in sorted(weighted, key=added, reverse=True)]


def _relative(expected: Images, got: Images) -> float:
    import numpy as np

    size = float(np.sqrt(np.mean(expected.astype(np.float64) ** 2)))
    return float(np.sqrt(np.mean((got.astype(np.float64) - expected) ** 2))) / size if size else 0.0


def _quantise_file(
    source: Path, to: Path, ranges: Path, batches: Iterator[Images], kept: Sequence[str]
) -> None:
    """The network with every layer but `kept` between quantising operators. The `ranges` of the activations
    are calibrated once and read from their file after."""
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        def get_next(self) -> dict[str, Images] | None:
            images = next(batches, None)
            return None if images is None else {"images": images}

    prepared = to.with_name("prepared.onnx")
    quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True, skip_optimization=True)
    quantization.quantize_static(
        str(prepared),
        str(to),
        Reader(),
        per_channel=True,
        # Without VNNI a processor adds two products in 16 bits, which eight-bit weights overflow.
        reduce_range=True,
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
        nodes_to_exclude=list(kept),
        use_external_data_format=True,
        calibration_cache_path=ranges,
    )


def _run(path: Path, images: Images, batch_size: int) -> Images:
    return _outputs(str(path), images, batch_size)[0]


def _outputs(path: str, images: Images, batch_size: int) -> list[Images]:
    """Every output of the graph for `images`, run in batches of `batch_size`."""
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    starts = range(0, len(images), batch_size)
    rows = [session.run(None, {"images": _filled(images, start, batch_size)}) for start in starts]
    return [np.concatenate(parts)[: len(images)] for parts in zip(*rows, strict=True)]


def _filled(images: Images, start: int, batch_size: int) -> Images:
    """A batch from `start` on, filled up from the first image on where too few are left."""
    import numpy as np

    filled: Images = images[np.arange(start, start + batch_size) % len(images)]
    return filled


def _tensors(
    path: Path, images: Images, batch_size: int, scratch: Path
) -> tuple[dict[str, Images], list[Any]]:
    """What every layer with parameters gets and gives, by the tensor's name; and the graph's nodes."""
    import onnx

    network = onnx.load(str(path))
    nodes = list(network.graph.node)
    made = {name for node in nodes for name in node.output}
    wanted = {name for node in nodes for name in (*node.input, *node.output) if node.op_type in _WEIGHTED}
    there = {output.name for output in network.graph.output}
    names = sorted((wanted & made) - there)
    network.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    opened = scratch / "opened.onnx"
    onnx.save(network, str(opened))
    results = _outputs(str(opened), images, batch_size)
    return dict(zip([*(output.name for output in network.graph.output)], results, strict=True)), nodes


def _put(path: Path, draft: Path) -> None:
    """The quantised network's two files in place of the Bundle's."""
    import onnx

    from vertebra.exporting.onnx import _strip

    network = onnx.load(str(path))
    _strip(network)
    for name in (bundle.NETWORK, f"{bundle.NETWORK}.data"):
        (draft / name).unlink(missing_ok=True)
    onnx.save(
        network,
        str(draft / bundle.NETWORK),
        save_as_external_data=True,
        location=f"{bundle.NETWORK}.data",
        size_threshold=1024,
    )
