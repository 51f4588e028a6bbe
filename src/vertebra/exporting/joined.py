"""A network with a head in place of its classifier, as an ordinary Bundle: without torch, and without onnx.

What proves it: ONNX Runtime gives the network's features without optimising, from a file that still has the
old classifier; `features @ weights + bias` is the reference, and the joined file must answer so on the
reference images, the reference pictures and the photographs, in the engine that it is for.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from vertebra import bundles, engines, parity
from vertebra.bundles import Bundle, Card, fitted, proof
from vertebra.bundles.fitted import Fitted
from vertebra.bundles.manifest import NETWORK, NOTICES, SPLIT
from vertebra.data.batches import in_batches
from vertebra.data.labels import LabelSet
from vertebra.data.preprocess import Source
from vertebra.engines import Settings, Subject
from vertebra.errors import InvalidInputError, MeasurementError
from vertebra.exporting import comparison, converted, filled
from vertebra.machine import leftovers, onnx_files, onnx_heads
from vertebra.machine.onnx_heads import FEATURES, LOGITS, Headed
from vertebra.machine.system import library_versions
from vertebra.measurements.shipped import licences
from vertebra.progress import Listener, Progress, silent
from vertebra.zoo.graphs import filling, store
from vertebra.zoo.graphs.filling import Slot
from vertebra.zoo.graphs.store import Graph

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from vertebra.exporting.quantisation import Calibration

    Array = npt.NDArray[np.float32]

#: How far the Bundle's answers may be from the head's, in float32, as a share of the spread of the logits.
LIMIT = 1e-4
_REFERENCE_SEED = 0
_REFERENCE_BATCH = 2


class Head(Protocol):
    """A linear classifier on features: the logits are `features @ weights + bias`."""

    @property
    def weights(self) -> Array:
        """(D, C), float32."""

    @property
    def bias(self) -> Array:
        """(C,), float32."""


# ------------------------------------------------------------------ the Bundle


def join(
    source: Graph | Bundle,
    folder: Path | str,
    *,
    head: Head,
    made: Fitted,
    model: str,
    card: Card,
    arrays: Mapping[str, Any] | None = None,
    split: Sequence[tuple[str, int]] = (),
    engine: str = "onnxruntime",
    precision: str = "float32",
    calibration: Calibration | None = None,
    batch_size: int | None = None,
    features: bool = False,
) -> Bundle:
    """Write the network of `source`, called `model`, with `head` in place of its classifier.

    A `source` that is a graph that ships is filled with `arrays`, by their names in the state dict, or drawn
    without any. One that is a Bundle in ONNX has its own weights. `card` has the network's weights, their
    digest and licence, and the preprocessing; the labels are the classes of `made`, which says what the head
    was fitted on. `split` lists these pictures: the digest of each one's content and its fold. With
    `features` the network keeps the head's input as its second output.

    The Bundle is for `engine` in `precision`: int8 needs a `calibration`. Raises InvalidInputError if head,
    classes, network and engine don't fit each other, WeightsError if the arrays don't fit,
    MissingRuntimeError, BundleError if the folder can't be written, and MeasurementError if
    the answers aren't the head's.
    """
    made = _described(made, card)
    weights, bias = _arrays(head)
    _check_classes(made, len(bias))
    if card.preprocess is None:
        raise InvalidInputError(
            f"No preprocessing is known for {model}, and its pictures need one.", "pass a card with one"
        )
    converted.check(engine, precision, calibration)
    size = card.preprocess.input_size[0]
    network = _Shipped(source, arrays, size) if isinstance(source, Graph) else _InBundle(source)
    network.check(len(weights), size)
    own = replace(
        card,
        weights=made.name,
        weights_sha256=_content(network, weights, bias),
        labels=LabelSet(made.pictures, tuple(name for name, _ in made.classes)),
        outputs="logits",
        assumed=tuple(one for one in card.assumed if one != "labels"),
    )
    with (
        bundles.draft(Path(folder)) as draft,
        tempfile.TemporaryDirectory(prefix=leftovers.prefix()) as scratch,
    ):
        is_onnx = engine == "onnxruntime" and precision == "float32"
        place = draft if is_onnx else Path(scratch) / "joined"
        kept = _written(
            network, place, weights, bias, made=made, model=model, card=own, split=split,
            batch_size=batch_size, features=features,
        )  # fmt: skip
        if not is_onnx:
            converted.convert(kept, draft, engine=engine, precision=precision, calibration=calibration)
    return bundles.read(folder, verify=False)


def _described(made: Fitted, card: Card) -> Fitted:
    """The record with what is known of the network below the head."""
    licence = None if card.licence is None else card.licence.lower()
    permits = licences.TOLD.get(licences.terms(licence), "any use, also in what is sold")
    return replace(
        made,
        classes=tuple((name.strip(), count) for name, count in made.classes),
        network_weights=card.weights,
        network_sha256=card.weights_sha256,
        permits=None if card.weights is None else made.permits or permits,
    )


def _arrays(head: Head) -> tuple[Array, Array]:
    import numpy as np

    weights, bias = np.asarray(head.weights, np.float32), np.asarray(head.bias, np.float32)
    if weights.ndim != 2 or bias.shape != weights.shape[1:]:
        raise InvalidInputError(
            f"The head has weights of shape {weights.shape} and a bias of {bias.shape}; (D, C) and (C,) were "
            "expected."
        )
    if weights.shape[1] < 2:
        raise InvalidInputError("The head has one class; at least two were expected.")
    if not (np.isfinite(weights).all() and np.isfinite(bias).all()):
        raise InvalidInputError(
            "The head has values that are not finite.", "scale the features, and fit again"
        )
    return weights, bias


def _check_classes(made: Fitted, count: int) -> None:
    fitted.check(made)
    names = [name for name, _ in made.classes]
    if len(names) != count:
        raise InvalidInputError(
            f"The head has {count} classes, and {len(names)} are named.", "pass one name for each class"
        )
    fitted.check_names(names)


def _content(network: _Shipped | _InBundle, weights: Array, bias: Array) -> str:
    """The digest of everything that was learned, whatever format it is written in."""
    digest = hashlib.sha256(network.digest().encode())
    for array in (weights, bias):
        digest.update(str(array.shape).encode())
        digest.update(array.astype("<f4").tobytes())
    return digest.hexdigest()


def _written(
    network: _Shipped | _InBundle,
    folder: Path,
    weights: Array,
    bias: Array,
    *,
    made: Fitted,
    model: str,
    card: Card,
    split: Sequence[tuple[str, int]],
    batch_size: int | None,
    features: bool,
) -> Bundle:
    """The Bundle in ONNX and float32."""
    record, batch = card.preprocess, network.batch_size or batch_size
    assert record is not None
    size = record.input_size[0]
    seen: dict[str, Any] = {}

    def write_network(draft: Path) -> dict[str, Any]:
        with tempfile.TemporaryDirectory(prefix=leftovers.prefix()) as scratch:
            extract = network.features(Path(scratch))
            answer = _answer(extract, weights, bias, batch)
            images = filled._images(max(_REFERENCE_BATCH, batch or 0), size)
            shape = extract(images[: batch or len(images)]).shape
            network.write(draft / NETWORK, weights, bias, flattened=len(shape) == 4, features=features)
            seen["logits"] = answer(images)
            inputs, photographs = proof.inputs(record), proof.photographs(record)
            added: dict[str, Any] = {"graph": network.record(), "fitted": made.record()}
            added["proof"] = proof.write(draft, record, card.labels, answer(inputs))
            if photographs is not None:
                seen["photographs"] = (photographs, answer(photographs))
        _check_file(draft / NETWORK, images, seen["logits"], batch)
        notices = network.notices()
        if notices is not None:
            (draft / NOTICES).write_text(notices, encoding="utf-8")
        if split:
            (draft / SPLIT).write_text(fitted.split_text(split), encoding="ascii")
        return added

    return bundles.write(
        folder,
        write_network,
        model=model,
        logits=lambda: seen["logits"],
        reference_seed=_REFERENCE_SEED,
        input_size=size,
        in_channels=3,
        versions=library_versions(("onnxruntime", "scikit-learn")),
        card=card,
        batch_size=batch,
        engines=[info.name for info in engines.known() if "onnx" in info.formats],
        check=lambda draft: comparison.compare(draft, "onnxruntime", seen.get("photographs")),
    )


def _answer(extract: Any, weights: Array, bias: Array, batch_size: int | None) -> Any:
    """What gives the logits that the head gives for images: its products are float64."""
    import numpy as np

    def answer(images: Array) -> Array:
        found = proof.answers(extract, images, batch_size).reshape(len(images), -1).astype(np.float64)
        logits: Array = (found @ weights.astype(np.float64) + bias).astype(np.float32)
        return logits

    return answer


def _check_file(path: Path, images: Array, logits: Array, batch_size: int | None) -> None:
    """Raise MeasurementError unless the file answers as the head does, before anything optimises it."""
    session = filled._Filled(path).session
    got = proof.answers(lambda some: session.run([LOGITS], {_input(session): some})[0], images, batch_size)
    error = parity.output_error(logits, got)
    if not error <= LIMIT:
        raise MeasurementError(
            f"The joined network doesn't answer as its head: its logits are off by {error:.2g} of their "
            f"spread, and {LIMIT:.2g} is allowed.",
            "report it, with the version of ONNX Runtime: vertebra doctor",
        )


def _input(session: Any) -> str:
    return str(session.get_inputs()[0].name)


# ------------------------------------------------------------------ the network under the head


class _Shipped:
    """A graph that ships, with given or drawn parameters."""

    batch_size: int | None = None

    def __init__(self, graph: Graph, arrays: Mapping[str, Any] | None, input_size: int) -> None:
        store.find(graph.name, input_size)
        self._graph, self._given = graph, arrays
        self._skeleton = filling.with_size(store.skeleton(graph, features=True), input_size)
        self._slots = tuple(Slot(*one) for one in graph.parameters())
        self._error: float | None = None

    def check(self, width: int, input_size: int) -> None:
        """Raise InvalidInputError unless it gives features of this width for pictures of this size."""
        _check_width(self._graph.name, onnx_heads.width(self._skeleton, FEATURES), width)

    def digest(self) -> str:
        if self._given is None:
            return f"drawn {self._graph.name}"
        digest = hashlib.sha256()
        for key in sorted(self._given):
            array = self._given[key]
            digest.update(f"{key} {array.dtype.str} {array.shape}\n".encode())
            digest.update(array.tobytes())
        return digest.hexdigest()

    def features(self, scratch: Path) -> Any:
        """What gives the features of images, from the whole graph, unoptimised."""
        graph, plain = self._graph, store.skeleton(self._graph)
        path = scratch / "drawn.onnx"
        self._error = filled._proved(filled._fill(graph, plain, self._slots, None, path), graph)
        path = scratch / "whole.onnx"
        session = filled._fill(
            graph, self._skeleton, self._slots, self._given, path, folded=self._given is None
        ).session
        return lambda images: session.run([FEATURES], {"images": images})[0]

    def write(self, path: Path, weights: Array, bias: Array, *, flattened: bool, features: bool) -> None:
        found = onnx_heads.headed(
            self._skeleton, FEATURES, classes=len(bias), flattened=flattened, keeps_features=features
        )
        slots = [slot for slot in self._slots if slot.key in found.taken]
        if self._given is None:
            values = filling.drawn(self._graph.name, slots)
        else:
            wanted = {slot.key for slot in slots}
            kept = {key: array for key, array in self._given.items() if key in wanted}
            values = filling.given(self._graph.name, slots, kept)
        _fill(found, slots, lambda slot: values[slot.key], path, weights, bias, folded=True)

    def record(self) -> dict[str, Any]:
        return filled._record(self._graph, self._error)

    def notices(self) -> str | None:
        return store.notices(self._graph)


class _InBundle:
    """The network of a Bundle in ONNX, with its weights."""

    def __init__(self, kept: Bundle) -> None:
        if (kept.format, kept.precision) != ("onnx", "float32"):
            raise InvalidInputError(
                f"{kept.folder} is in {kept.format} and {kept.precision}; onnx and float32 were expected.",
                "export the network for onnxruntime: vertebra export",
            )
        self._kept, self.batch_size = kept, kept.batch_size
        self._model = kept.network.read_bytes()
        self._tensor = self._found()

    def _found(self) -> str:
        try:
            if FEATURES in onnx_heads.outputs(self._model):
                return FEATURES
            constants = [one.name for one in onnx_files.read(self._kept.network).constants]
            found = onnx_heads.classifier_input(self._model, constants)
        except ValueError as error:
            raise InvalidInputError(f"{self._kept.network} can't be read as a network: {error}.") from error
        if found is None:
            raise InvalidInputError(
                f"{self._kept.model} has no classifier that a head could take the place of: it doesn't end "
                "in one product with a matrix.",
                f"use one of the {len(store.names())} networks whose graph ships: vertebra list",
            )
        return found

    def check(self, width: int, input_size: int) -> None:
        if self._kept.input_size != input_size:
            raise InvalidInputError(
                f"{self._kept.folder} takes pictures of {self._kept.input_size} pixels, and the "
                f"preprocessing gives {input_size}."
            )
        known = onnx_heads.width(self._model, FEATURES) if self._tensor == FEATURES else self._width()
        _check_width(self._kept.model, known, width)

    def _width(self) -> int:
        with tempfile.TemporaryDirectory(prefix=leftovers.prefix()) as scratch:
            images = filled._images(self.batch_size or 1, self._kept.input_size)
            shape = self.features(Path(scratch))(images).shape
        if len(shape) not in (2, 4) or shape[2:] not in ((), (1, 1)):
            raise InvalidInputError(
                f"{self._kept.model} gives its classifier {shape[1:]} numbers a picture; a row was expected.",
                f"use one of the {len(store.names())} networks whose graph ships: vertebra list",
            )
        return int(shape[1])

    def digest(self) -> str:
        names = sorted({NETWORK, *onnx_files.read(self._kept.network).locations})
        return "\n".join(f"{name} {self._kept.files[name]['sha256']}" for name in names)

    def features(self, scratch: Path) -> Any:
        (scratch / NETWORK).write_bytes(onnx_heads.with_output(self._model, self._tensor))
        for path in onnx_files.data_files(onnx_files.read(self._kept.network)):
            shutil.copyfile(path, scratch / path.name)
        session = filled._Filled(scratch / NETWORK).session
        return lambda images: session.run(None, {_input(session): images})[0]

    def write(self, path: Path, weights: Array, bias: Array, *, flattened: bool, features: bool) -> None:
        skeleton, outside = onnx_heads.lifted(self._model)
        try:
            found = onnx_heads.headed(
                skeleton, self._tensor, classes=len(bias), flattened=flattened, keeps_features=features
            )
        except ValueError as error:
            raise InvalidInputError(f"No head can be joined to {self._kept.network}: {error}.") from error
        wanted = {one.name: one for one in outside if one.name in found.taken}
        slots = [Slot(one.name, onnx_files.KINDS.get(one.kind, ""), one.shape) for one in wanted.values()]
        _fill(found, slots, lambda slot: self._values(wanted[slot.key]), path, weights, bias, folded=False)

    def _values(self, one: onnx_heads.Outside) -> Any:
        import numpy as np

        kind = onnx_files.KINDS.get(one.kind, "")
        try:
            stored = np.dtype(kind).newbyteorder("<")
        except TypeError as error:
            raise InvalidInputError(f"{one.name} of {self._kept.folder} holds {kind or one.kind}.") from error
        path = self._kept.folder / one.location
        return np.memmap(path, stored, "r", offset=one.offset, shape=one.shape or (1,)).reshape(one.shape)

    def record(self) -> dict[str, Any] | None:
        return None if self._kept.graph is None else dict(self._kept.graph)

    def notices(self) -> str | None:
        path = self._kept.folder / NOTICES
        return path.read_text(encoding="utf-8") if path.is_file() else None


def _check_width(model: str, known: int | None, width: int) -> None:
    if known != width:
        raise InvalidInputError(
            f"The head takes {width} features a picture; {model} gives {known}.",
            "fit the head on the features of this network",
        )


def _fill(
    found: Headed,
    slots: Sequence[Slot],
    value_of: Callable[[Slot], Any],
    path: Path,
    weights: Array,
    bias: Array,
    *,
    folded: bool,
) -> None:
    """The network at `path` with the values of its `slots`, and the head's."""
    import numpy as np

    rows = np.ascontiguousarray(weights.T)
    own = {Slot(found.weight, "float32", rows.shape): rows, Slot(found.bias, "float32", bias.shape): bias}
    every = (*slots, *own)
    values = filling.Values(every, lambda slot: own[slot] if slot in own else value_of(slot))
    filling.write(found.model, every, values, path, folded=folded)


# ------------------------------------------------------------------ its answers


@dataclass(frozen=True)
class Agreement:
    """How far a Bundle's answers to `pictures` were from the head's, as a share of the spread of the logits,
    and the place of the picture where most; `limit` is allowed. `agreed` is the number of pictures with the
    same first class."""

    error: float
    limit: float
    pictures: int
    agreed: int
    worst: int


def agreement(
    kept: Bundle,
    sources: Iterable[Source],
    expected: Array,
    *,
    engine: str | None = None,
    batch_size: int = 32,
    progress: Listener | None = None,
) -> Agreement:
    """How far the Bundle is from the logits `expected` (N, C), which its head gave for the features of the
    pictures `sources`, in `engine`, by default the first that opens it.

    Raises ImageError for a picture that can't be read, InvalidInputError for another number of them, and
    MeasurementError where the answers differ by more than `limit`.
    """
    if kept.preprocess is None or expected.shape[1:] != (kept.num_classes,):
        raise InvalidInputError(
            f"{kept.folder} has {kept.num_classes} classes; the logits have the shape {expected.shape}."
        )
    event = Progress("comparing the Bundle with its head", 0, len(expected), "images")
    got = answers(
        kept, sources, len(expected), engine=engine, batch_size=batch_size,
        seen=lambda done: (progress or silent)(replace(event, done=done)),
    )  # fmt: skip
    return _compared(kept, expected, got)


def answers(
    kept: Bundle,
    sources: Iterable[Source],
    count: int,
    *,
    engine: str | None = None,
    batch_size: int = 32,
    seen: Callable[[int], None] = lambda done: None,
) -> Array:
    """The logits (N, C) that the Bundle gives for the `count` pictures `sources` in `engine`, by default the
    first that opens it; `seen` is told how many are there.

    Raises ImageError for a picture that can't be read, and InvalidInputError for another number of them, or
    if no preprocessing is known.
    """
    import numpy as np

    if kept.preprocess is None:
        raise InvalidInputError(f"The Bundle {kept.folder} doesn't record a preprocessing.")
    engine = engine or next(info.name for info in engines.known() if kept.format in info.formats)
    size = kept.batch_size or min(batch_size, max(1, count))
    settings = Settings(
        batch_size=size, input_size=kept.input_size, num_classes=kept.num_classes, precision=kept.precision
    )
    session = engines.load(engine, Subject(kept.model, bundle=str(kept.folder)), settings)
    rows: list[Array] = []
    try:
        with closing(in_batches(sources, lambda source: source, kept.preprocess, size)) as ready:
            for batch in ready:
                for _, error in batch.unreadable:
                    raise error
                rows.append(proof.answers(session.run, batch.images, size))
                seen(sum(map(len, rows)))
    finally:
        session.close()
    got = np.concatenate(rows) if rows else np.empty((0, kept.num_classes), np.float32)
    if len(got) != count or not count:
        raise InvalidInputError(f"There are {len(got)} pictures and logits of {count}.")
    return got


def _compared(kept: Bundle, expected: Array, got: Array) -> Agreement:
    import numpy as np

    limit = LIMIT if kept.precision == "float32" else parity.LIMITS[kept.precision]
    error = parity.output_error(expected, got)
    apart = np.abs(got.astype(np.float64) - expected).max(axis=1)
    agreed = int((got.argmax(axis=1) == expected.argmax(axis=1)).sum())
    found = Agreement(error, limit, len(got), agreed, int(apart.argmax()))
    if not error <= limit:
        raise MeasurementError(
            f"{kept.folder} doesn't answer as the head that was fitted: its logits are off by {error:.2g} of "
            f"their spread, and {limit:.2g} is allowed; most for picture {found.worst}.",
            "report it, with the versions of the engines: vertebra doctor",
        )
    return found
