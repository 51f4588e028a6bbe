"""From a name to a network that answers: its weights, preprocessing and labels, in an engine.

A subject is a Bundle's folder, or a name as `zoo.find` takes it. No Bundle and no ONNX file needs torch.
A network that is to run in an engine which reads Bundles is exported once, in a process of its own, into the
user's cache.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from vertebra import bundle, engines, files, proof
from vertebra.bundle import Card
from vertebra.engines import Session, Settings, Subject
from vertebra.errors import BundleError, InvalidInputError, WeightsError
from vertebra.labels import LabelSet
from vertebra.preprocess import Preprocess

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from vertebra.downloads import Progress
    from vertebra.zoo import Model
    from vertebra.zoo.adapters import NetworkFile

#: What an untrained network's parameters are drawn from.
SEED = 0

#: What goes into an exported file beside the network: another version of one of these, another export.
_MAKERS = ("vertebra", "torch", "onnx", "onnxscript", "timm", "torchvision")

Tell = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Resolved:
    """A network with its weights, found but not loaded: the subject to run, and what to know of it.

    `file` is the one that the network is, in ONNX, and `batch_size` the only one that it takes, if so. It
    computes in `precision`.
    """

    subject: Subject
    input_size: int
    num_classes: int
    card: Card
    file: NetworkFile | None = None
    batch_size: int | None = None
    precision: str = "float32"


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A network that is ready to answer, with all that is needed to ask it and to read its answer.

    `weights` is None where it is untrained, `labels` where its classes have no names. Of a network that
    `gives_probabilities`, as many ONNX files do, `logits` are their logarithms.
    """

    session: Session
    preprocess: Preprocess
    labels: LabelSet | None
    model: str
    weights: str | None
    engine: str
    settings: Settings
    num_classes: int
    gives_probabilities: bool = False

    def logits(self, images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Logits (N, num_classes) of `images` (N, 3, H, W), float32, N at most the settings' batch_size: what
        is missing to a whole batch is filled with zeros. Raises InvalidInputError for another shape."""
        import numpy as np

        answers = self.session.run(self._batch(images))[: len(images)]
        return np.log(np.maximum(answers, np.float32(1e-37))) if self.gives_probabilities else answers

    def features(self, images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """What the classifier sees of `images`: (N, D). Raises InvalidInputError unless the engine is eager,
        the only one whose network is open."""
        from vertebra import zoo

        network = getattr(self.session, "network", None)
        if network is None:
            raise InvalidInputError(
                f'Features are taken from the engine "eager"; {self.model} runs on "{self.engine}".',
                "name the network and not a Bundle, and leave the engine out",
            )
        prepared = self.session.prepare(self._batch(images))
        return self.session.outputs(zoo.features(network, prepared))[: len(images)]

    def _batch(self, images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        import numpy as np

        spare = self.settings.batch_size - len(images)
        if spare < 0 or images.shape[1:] != self.settings.input_shape[1:]:
            raise InvalidInputError(
                f"The images are {images.shape}; at most {self.settings.batch_size} of "
                f"{self.settings.input_shape[1:]} were expected.",
                "give smaller batches, or load the network with a larger batch_size",
            )
        if spare == 0:
            return images
        return np.concatenate([images, np.zeros((spare, *images.shape[1:]), images.dtype)])

    def close(self) -> None:
        """Let go of the network and its memory."""
        self.session.close()

    def __enter__(self) -> Loaded:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def load(
    subject: str | Path,
    *,
    weights: str | Path | None = None,
    engine: str | None = None,
    batch_size: int | None = None,
    usual_batch_size: int = 1,
    threads: int | None = None,
    device: str = "cpu",
    untrained: bool = False,
    labels: str | Path | None = None,
    preprocess: str | Path | Preprocess | None = None,
    sha256: str | None = None,
    accept_unverified: bool = False,
    progress: Progress | None = None,
    tell: Tell | None = None,
) -> Loaded:
    """The network `subject`, a Bundle's folder or a name, ready in `engine`.

    A Bundle runs in an engine that it was made for and a name in `eager`, where none is named. `weights` is a
    source as `zoo.build` takes it; without one the network's published set is meant, and an untrained network
    is only loaded where `untrained` says so. `labels` (a set's name or a file) and `preprocess` (a record, a
    protocol's name or a JSON file) stand in for what the weights or the Bundle tell. `sha256` and
    `accept_unverified` are those of `zoo.weights`; `progress` hears of downloads, `tell` of what takes long.
    Without a `batch_size` it is the only one that the network takes, or else `usual_batch_size`.
    Raises UnknownNameError, InvalidInputError, MissingRuntimeError, WeightsError, DownloadError, BundleError,
    and MeasurementError where the network can't be exported.
    """
    engine = engines.require(engine) if engine else None
    if is_bundle(subject):
        if weights is not None or untrained:
            raise InvalidInputError(f"{subject} is a Bundle and has its weights.", "leave weights out")
        resolved = from_bundle(subject, labels=labels, preprocess=preprocess)
    else:
        resolved = resolve(
            str(subject), weights=weights, untrained=untrained, labels=labels, preprocess=preprocess,
            sha256=sha256, accept_unverified=accept_unverified, progress=progress,
        )  # fmt: skip
    if tell is not None and resolved.card.weights is None:
        tell(f"{resolved.subject.model} is untrained: its answers mean nothing")
    batch_size = batch_size or resolved.batch_size or usual_batch_size
    if resolved.batch_size not in (None, batch_size):
        raise InvalidInputError(
            f"{resolved.subject.model} takes batches of {resolved.batch_size} only, not of {batch_size}.",
            f"ask for batch size {resolved.batch_size}, or for none",
        )
    runs_in_torch = resolved.subject.bundle is None and resolved.file is None
    chosen = engine or ("eager" if runs_in_torch else _engine_of(resolved.subject.bundle))
    if engines.find(engines.require(chosen)).reads == "bundle" and resolved.subject.bundle is None:
        resolved = _exported(resolved, chosen, batch_size, tell)
    return _start(resolved, chosen, batch_size, threads, device)


def _start(resolved: Resolved, engine: str, batch_size: int, threads: int | None, device: str) -> Loaded:
    from vertebra import system

    card = resolved.card
    assert card.preprocess is not None
    settings = Settings(
        batch_size=batch_size,
        input_size=resolved.input_size,
        num_classes=resolved.num_classes,
        precision=resolved.precision,
        threads=threads or system.default_threads(),
        device=device,
    )
    session = engines.load(engine, resolved.subject, settings)
    return Loaded(
        session=session,
        preprocess=card.preprocess,
        labels=card.labels,
        model=resolved.subject.model,
        weights=card.weights,
        engine=engine,
        settings=settings,
        num_classes=resolved.num_classes,
        gives_probabilities=_gives_probabilities(resolved),
    )


# ------------------------------------------------------------------ Bundles


def is_bundle(subject: str | Path) -> bool:
    """Whether `subject` means a folder: a bare name is a network's, even where a folder has that name."""
    if isinstance(subject, Path):
        return True
    if ":" in subject and not Path(subject).exists():
        return False
    if "/" in subject or "\\" in subject or subject in (".", ".."):
        return True
    from vertebra.errors import UnknownNameError
    from vertebra.zoo import names

    if bundle.is_zipped(subject):
        return True
    if not Path(subject).is_dir():
        return False
    try:
        names.find(subject)
    except UnknownNameError:
        return True
    return False


def from_bundle(
    folder: str | Path,
    *,
    labels: str | Path | None = None,
    preprocess: str | Path | Preprocess | None = None,
) -> Resolved:
    """The network of a Bundle, once its files are found to be those of its manifest. Raises BundleError, and
    InvalidInputError where nobody tells how a colour picture becomes its input."""
    kept = bundle.read(folder)
    if kept.in_channels != 3:
        raise InvalidInputError(
            f"The network in {folder} takes {kept.in_channels} channels; pictures have 3."
        )
    if preprocess is None and labels is None:
        proof.check(kept)
    card = Card(
        weights=kept.weights,
        weights_sha256=kept.weights_sha256,
        licence=kept.licence,
        preprocess=kept.preprocess if preprocess is None else _record(preprocess),
        labels=kept.label_set() if labels is None else _labels(labels, kept.num_classes),
    )
    if card.preprocess is None:
        raise InvalidInputError(
            f"The Bundle {folder} doesn't tell how a picture becomes the network's input.",
            "name the preprocessing, a protocol or a JSON file, or export the network again with its weights",
        )
    _check_size(kept.model, card.preprocess, kept.input_size)
    return Resolved(
        subject=Subject(kept.model, bundle=str(folder)),
        input_size=kept.input_size,
        num_classes=kept.num_classes,
        card=card,
        batch_size=kept.batch_size,
        precision=kept.precision,
    )


def _engine_of(folder: str | None) -> str:
    """The engine that a Bundle runs in where nobody names one: the first that opens its format."""
    if folder is None:
        return "onnxruntime"
    kept = bundle.read(folder, verify=False)
    return next(info.name for info in engines.known() if kept.format in info.formats)


# ------------------------------------------------------------------ names


def resolve(
    name: str,
    *,
    weights: str | Path | None = None,
    untrained: bool = False,
    labels: str | Path | None = None,
    preprocess: str | Path | Preprocess | None = None,
    sha256: str | None = None,
    accept_unverified: bool = False,
    progress: Progress | None = None,
) -> Resolved:
    """The network called `name` with its weights, which are fetched if need be. Raises what `load` raises."""
    from vertebra import zoo

    model = zoo.find(name)
    if model.is_file:
        if weights is not None or untrained:
            raise InvalidInputError(f"{name} holds its weights.", "leave weights out")
        return _file(model, labels, preprocess)
    if untrained and weights is not None:
        raise InvalidInputError(
            "Weights were named, and an untrained network was asked for.", "leave one out"
        )
    source = None if untrained else weights or _published(model)
    checks = {"sha256": sha256, "accept_unverified": accept_unverified}
    digest = None if source is None else _fetched(model, source, checks, progress)
    facts = zoo.facts(name, source)
    record = facts.preprocess if preprocess is None else _record(preprocess)
    _check_record(model, record)
    chosen = facts.labels if labels is None else labels
    card = Card(
        weights=_weights_name(facts.weights),
        weights_sha256=digest,
        licence=facts.licence,
        preprocess=record,
        labels=None if chosen is None else _labels(chosen, facts.num_classes),
    )
    arguments: dict[str, Any] = {"name": name, "num_classes": facts.num_classes}
    arguments |= {"seed": SEED} if source is None else _told(source, checks)
    subject = Subject(model.name, builder="vertebra.zoo:build", arguments=arguments)
    return Resolved(
        subject=subject, input_size=record.input_size[0], num_classes=facts.num_classes, card=card
    )


def _file(model: Model, labels: str | Path | None, preprocess: str | Path | Preprocess | None) -> Resolved:
    from vertebra import downloads, zoo
    from vertebra.zoo import adapters
    from vertebra.zoo.adapters import onnx

    file = adapters.network_file(model.name)
    facts = zoo.facts(model.name)
    record = facts.preprocess if preprocess is None else _record(preprocess)
    _check_record(model, record)
    chosen = facts.labels if labels is None else labels
    card = Card(
        weights=facts.weights,
        weights_sha256=downloads.digest(file.weights),
        preprocess=record,
        labels=None if chosen is None else _labels(chosen, facts.num_classes),
    )
    return Resolved(
        # by the file that it is now, which another content gives another name
        subject=Subject(
            f"{model.source}:{facts.weights}", builder=model.builder, arguments={"name": f"onnx:{file.path}"}
        ),
        input_size=record.input_size[0],
        num_classes=facts.num_classes,
        card=card,
        file=file,
        batch_size=onnx.signature(file.path).batch_size,
    )


def _published(model: Model) -> str:
    """The source of the network's preferred published weights."""
    from vertebra.zoo import weights

    if model.source != "vertebra":
        return "pretrained"
    published = weights.records(model.name)
    if not published:
        raise WeightsError(
            f"No weights are published for {model.name}, and an untrained network only guesses.",
            "name a file of weights, or say that you want the untrained network: --untrained",
        )
    return published[0].name


def _fetched(
    model: Model, source: str | Path, checks: dict[str, Any], progress: Progress | None
) -> str | None:
    """The digest of the file that `source` means, fetched if need be; None where building will fetch it."""
    from vertebra import downloads
    from vertebra.zoo import weights

    if model.source == "vertebra":
        path, _ = weights.locate(model.name, source, progress=progress, **checks)
        return downloads.digest(path)
    if source == "pretrained":
        from vertebra.zoo import adapters

        address, known = adapters.load(model.source).published(model)
        sha256 = checks["sha256"] or known
        return downloads.digest(weights.file_of(address, sha256=sha256, progress=progress))
    path = Path(source).expanduser()
    return downloads.digest(path) if path.is_file() else None


def _told(source: str | Path, checks: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `zoo.build` for these weights; a file by its whole path, which any process finds."""
    path = Path(source).expanduser()
    known = {name: value for name, value in checks.items() if value}
    return {"weights": str(path.resolve()) if path.is_file() else str(source), **known}


def _weights_name(told: str | None) -> str | None:
    """A file's name without the folders on this machine, which mean nothing elsewhere."""
    return told if told is None or told.startswith("hf:") else told.rsplit("/", 1)[-1]


# ------------------------------------------------------------------ what stands in


def _record(given: str | Path | Preprocess) -> Preprocess:
    if isinstance(given, Preprocess):
        return given
    path = Path(given)
    if path.suffix.lower() != ".json":
        from vertebra.preprocess import protocols

        return protocols.find(str(given))
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(
            f"The Preprocess record {path} can't be read: {error}.", "write it with Preprocess.to_json()"
        ) from error
    return Preprocess.from_json(text)


def _labels(given: str | Path, num_classes: int) -> LabelSet:
    from vertebra import labels

    found = labels.resolve(given, num_classes=num_classes)
    return replace(found, name=Path(found.name).name)


def _check_record(model: Model, record: Preprocess) -> None:
    height, width = record.input_size
    if height != width:
        raise InvalidInputError(
            f"The preprocessing gives {height}x{width} pixels; networks here take squares."
        )
    if model.fixed_size:
        _check_size(model.name, record, model.input_size)


def _check_size(model: str, record: Preprocess, input_size: int) -> None:
    height, width = record.input_size
    if (height, width) != (input_size, input_size):
        raise InvalidInputError(
            f"The preprocessing gives {height}x{width} pixels; {model} takes {input_size}x{input_size}.",
            "give a preprocessing of that size",
        )


# ------------------------------------------------------------------ exporting into the cache


def _exported(resolved: Resolved, engine: str, batch_size: int, tell: Tell | None) -> Resolved:
    """The same network as a Bundle in the user's cache: the one that is there, or exported now."""
    from vertebra import downloads

    # Engines that open ONNX share one Bundle of any batch size; the others have their own.
    own = None if "onnx" in engines.find(engine).formats else (engine, batch_size)
    folder = downloads.cache_folder() / "bundles" / _key(resolved, own)
    if not _is_whole(folder):
        with files.sole_use(folder, hint="name another folder with VERTEBRA_CACHE"):
            if not _is_whole(folder):  # another process may have made it meanwhile
                _export(resolved, folder, own, tell)
    return replace(resolved, subject=Subject(resolved.subject.model, bundle=str(folder)))


def _key(resolved: Resolved, own: tuple[str, int] | None) -> str:
    from vertebra import system
    from vertebra._version import __version__

    content = {
        "schema": bundle.SCHEMA,
        "subject": resolved.subject.to_json(),
        "input_size": resolved.input_size,
        "card": resolved.card.to_dict(),
        "engine": None if own is None else [*own, engines.version(own[0])],
        "versions": {**system.library_versions(_MAKERS), "vertebra": __version__},
    }
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return f"{re.sub(r'[^A-Za-z0-9._-]', '_', resolved.subject.model)[:80]}-{digest[:16]}"


def _is_whole(folder: Path) -> bool:
    try:
        bundle.read(folder, verify=False)
    except BundleError:
        return False
    return True


def _export(resolved: Resolved, folder: Path, own: tuple[str, int] | None, tell: Tell | None) -> None:
    from vertebra.exporting.process import Exporter

    if tell is not None:
        tell(f"exporting {resolved.subject.model} into {folder}")
    shutil.rmtree(folder, ignore_errors=True)
    engine, batch_size = own or ("onnxruntime", None)
    if resolved.file is not None:
        export(resolved, folder, engine=engine)
        return
    with Exporter() as exporter:
        exporter.export(
            resolved.subject, folder, input_size=resolved.input_size, card=resolved.card,
            engine=engine, batch_size=batch_size,
        )  # fmt: skip


def export(
    resolved: Resolved, folder: str | Path, *, engine: str = "onnxruntime", **made: Any
) -> bundle.Bundle:
    """Write a Bundle of the network for `engine`; `made` are those of `exporting.process.export`. Raises what
    that raises."""
    if resolved.file is not None:
        _check_file_engine(resolved, engine)
        if made.get("calibration") is not None:
            raise InvalidInputError(
                f"{resolved.subject.model} is a file, which is kept as it is.", "leave int8 out"
            )
        from vertebra.exporting.adoption import adopt

        model, size = resolved.subject.model, resolved.input_size
        return adopt(resolved.file, folder, model=model, input_size=size, card=resolved.card)
    from vertebra.exporting import process

    return process.export(
        resolved.subject, folder, input_size=resolved.input_size, card=resolved.card, engine=engine, **made
    )


def _check_file_engine(resolved: Resolved, engine: str) -> None:
    if "onnx" not in engines.find(engine).formats:
        raise InvalidInputError(
            f'{resolved.subject.model} is kept as ONNX, and "{engine}" opens '
            f"{', '.join(engines.find(engine).formats)}.",
            "leave the engine out: the Bundle keeps the file as it is",
        )


def _gives_probabilities(resolved: Resolved) -> bool:
    if resolved.subject.bundle is None:  # the null engine reads nothing
        return False
    return bundle.read(resolved.subject.bundle, verify=False).gives_probabilities()
