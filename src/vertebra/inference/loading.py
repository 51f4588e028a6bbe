"""From a name or a Bundle's folder to a network that is loaded in an engine.

For an engine that reads Bundles, a network is exported once, in a separate process, into the user's cache.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from vertebra import bundles, engines
from vertebra.bundles.manifest import INDEPENDENT, LOGITS, PROBABILITIES, SIGMOIDS
from vertebra.data.labels import LabelSet
from vertebra.data.preprocess import Preprocess
from vertebra.engines import Session, Settings
from vertebra.errors import InvalidInputError, MeasurementError, VertebraError
from vertebra.inference import kept_exports, resolving
from vertebra.inference.resolving import Resolved
from vertebra.progress import Listener, Progress, silent

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


#: engines that give a network's second output
_GIVE_FEATURES = ("onnxruntime", "openvino")


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A network that is ready to run, with its preprocessing and labels.

    `weights` is None if it is untrained, `network_sha256` if its names say which it is, `weights_sha256`
    (of the file of the weights) if it isn't known, `labels` if its classes have no names. `outputs` is
    what the network gives, one of `manifest.OUTPUTS`: of probabilities and shares, as many ONNX files
    give them, `logits` returns the logits. `assumed` names what nobody stated: "preprocess", "labels",
    "input_size". `content` says which network this is, down to its bits; None if nobody knows its weights.
    """

    session: Session
    preprocess: Preprocess
    labels: LabelSet | None
    model: str
    weights: str | None
    network_sha256: str | None = None
    weights_sha256: str | None = None
    engine: str
    settings: Settings
    num_classes: int
    outputs: str = LOGITS
    assumed: tuple[str, ...] = ()
    content: str | None = None

    @property
    def independent(self) -> bool:
        """Whether every class stands on its own: its share is a sigmoid of its logit, and no softmax."""
        return self.outputs in INDEPENDENT

    def logits(self, images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Logits (N, num_classes) of `images` (N, 3, H, W), float32, N at most the settings' batch_size; a
        smaller batch is filled with zeros. Raises InvalidInputError for another shape."""
        import numpy as np

        answers = self.given(images)
        if self.outputs not in (PROBABILITIES, SIGMOIDS):
            return answers
        logits = np.log(np.maximum(answers, np.float32(1e-37)))
        if self.outputs == SIGMOIDS:
            logits -= np.log(np.maximum(1 - answers, np.float32(1e-8)))
        return logits

    def given(self, images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """What the network itself gives for `images`: logits, or probabilities or shares if it ends in them
        (see `outputs`). Takes what `logits` takes."""
        return self._run(self._batch(images))[: len(images)]

    def resized(self, batch_size: int) -> Loaded | None:
        """The same network for batches of another size, not loaded again; None where the engine can't. It
        ends with this one."""
        session = self.session.resized(batch_size)
        if session is None:
            return None
        return replace(self, session=session, settings=replace(self.settings, batch_size=batch_size))

    def _run(self, images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        return self._told(self.session.run, images)

    def _told(
        self, run: Callable[[Any], npt.NDArray[np.float32]], images: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.float32]:
        """What `run` gives, with the runtime's errors as MeasurementError."""
        try:
            return run(images)
        except (VertebraError, MemoryError):
            raise
        except Exception as error:  # the runtimes' errors share no other base
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise MeasurementError(f"{self.engine} can't run {self.model}: {reason}") from error

    def features(self, images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The classifier's inputs for `images`: (N, D). Raises InvalidInputError unless the engine is eager,
        with access to the network's layers, or the network has them as its output `features`."""
        return self._told(self._features, images)

    def _features(self, images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        import numpy as np

        from vertebra import zoo

        self.check_features()
        network = getattr(self.session, "network", None)
        if network is None:
            given: Callable[..., Any] = self.session.features  # type: ignore[attr-defined]
            return np.asarray(given(self._batch(images))[: len(images)], np.float32)
        prepared = self.session.prepare(self._batch(images))
        return self.session.outputs(zoo.features(network, prepared))[: len(images)]

    def check_features(self) -> None:
        """Raise InvalidInputError unless `features` gives any here."""
        if getattr(self.session, "network", None) is None and not getattr(
            self.session, "has_features", False
        ):
            raise _no_features(self.model, self.engine)

    def _batch(self, images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        import numpy as np

        spare = self.settings.batch_size - len(images)
        if spare < 0 or images.shape[1:] != self.settings.input_shape[1:]:
            raise InvalidInputError(
                f"The images have the shape {images.shape}; at most {self.settings.batch_size} of "
                f"{self.settings.input_shape[1:]} were expected.",
                "pass smaller batches, or load the network with a larger batch_size",
            )
        if spare == 0:
            return images
        return np.concatenate([images, np.zeros((spare, *images.shape[1:]), images.dtype)])

    def close(self) -> None:
        """Release the network and its memory."""
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
    precision: str | None = None,
    untrained: bool = False,
    labels: str | Path | None = None,
    preprocess: str | Path | Preprocess | None = None,
    outputs: str | None = None,
    sha256: str | None = None,
    accept_unverified: bool = False,
    trust_code: bool = False,
    ema: bool | None = None,
    transform_input: bool | None = None,
    features: bool = False,
    spins: bool = True,
    progress: Listener | None = None,
) -> Loaded:
    """The network `subject`, a Bundle's folder or a name, ready in `engine`.

    Without an `engine`, a Bundle runs in the first that opens its format, a name in `eager`, or without torch
    in `onnxruntime`, made from the graph that ships. With `features` a network that an engine can have from
    such a graph also gives these. `weights` is a source as `zoo.build` takes it; without one the network's
    published set is used, and an untrained network is only loaded if `untrained` is true. `labels` (a set's
    name or a file) and `preprocess` (a record, a protocol's name, a JSON file; or "whole", the network's own
    but for its crop) replace those of the weights or the Bundle; `outputs` says what the network's outputs
    are, one of `manifest.OUTPUTS`, where it can't be seen or is seen wrongly. `sha256` and
    `accept_unverified` are those of `zoo.weights`, `ema` and `transform_input` those of `zoo.build`. A Bundle
    of native code that this machine didn't make is loaded only with `trust_code`, and never from an archive.
    The `precision` is float32, or that of the Bundle or the file, unless another is named. `spins` is that of
    `engines.Settings`. `progress` gets downloads and exports, what was taken out of a file of weights, that a
    network is untrained, and what is assumed of it.
    Without a `batch_size` it is the only one that the network takes, or else `usual_batch_size`. Raises
    UnknownNameError, InvalidInputError, MissingRuntimeError, WeightsError, DownloadError, BundleError, and
    MeasurementError if the network can't be exported.
    """
    engine = engines.require(engine) if engine else None
    if resolving.is_bundle(subject):
        if weights is not None or untrained or ema is not None or transform_input is not None:
            raise InvalidInputError(f"{subject} is a Bundle and has its own weights.", "leave weights out")
        resolved = resolving.from_bundle(
            subject, labels=labels, preprocess=preprocess, outputs=outputs, trust_code=trust_code
        )
    else:
        resolved = resolving.resolve(
            str(subject), weights=weights, untrained=untrained, labels=labels, preprocess=preprocess,
            outputs=outputs, sha256=sha256, accept_unverified=accept_unverified, ema=ema,
            transform_input=transform_input, progress=progress,
        )  # fmt: skip
    if resolved.card.weights is None:
        (progress or silent)(Progress(f"{resolved.subject.model} is untrained: its answers mean nothing"))
    assumed = resolving.assumptions(
        resolved.subject.model, resolved.card, has_fitted_head=resolved.has_fitted_head
    )
    if assumed is not None:
        (progress or silent)(Progress(assumed))
    runs_in_torch = resolved.subject.bundle is None and resolved.file is None
    chosen = engine or ("eager" if runs_in_torch and has_torch() else _engine_of(resolved.subject.bundle))
    is_exported = engines.find(engines.require(chosen)).reads == "bundle" and resolved.subject.bundle is None
    if is_exported and resolved.file is not None:  # first: only its Bundle shows which batches it takes
        resolved = kept_exports.as_bundle(resolved, chosen, batch_size or usual_batch_size, progress)
    resolved = _in_precision(resolved, precision)
    batch_size = batch_size or resolved.batch_size or usual_batch_size
    if resolved.batch_size not in (None, batch_size):
        raise InvalidInputError(
            f"{resolved.subject.model} takes batches of {resolved.batch_size} only, not of {batch_size}.",
            f"use batch size {resolved.batch_size}, or leave it out",
        )
    if is_exported and resolved.subject.bundle is None:
        filled = features and _gives_features(resolved, chosen)
        if features and not filled:
            raise _no_features(resolved.subject.model, chosen)
        resolved = kept_exports.as_bundle(resolved, chosen, batch_size, progress, features=filled)
    return _start(resolved, chosen, batch_size, threads, device, spins)


def _no_features(model: str, engine: str) -> InvalidInputError:
    return InvalidInputError(
        f'{model} gives no features on "{engine}": the engine "eager" does, and so does a network that has '
        f"them as an output, on {' or '.join(_GIVE_FEATURES)}.",
        "pass the network's name instead of a Bundle, and leave the engine out",
    )


def _gives_features(resolved: Resolved, engine: str) -> bool:
    """Whether the engine can have the network from a graph with features. Without torch nothing else could
    run it, and what is missing is said there."""
    from vertebra.exporting import filled

    if engine not in _GIVE_FEATURES:
        return False
    if not has_torch():
        return True
    graph = filled.found(resolved.subject.model, resolved.input_size)
    return graph is not None and graph.has_features and filled.suits(resolved.subject, resolved.input_size)


def _in_precision(resolved: Resolved, asked: str | None) -> Resolved:
    """The network as it computes in the precision `asked`. Raises InvalidInputError for a network that was
    made for one and is asked for another, and for one that would have to be rounded first."""
    if asked in (None, resolved.precision):
        return resolved
    if resolved.precision != "float32":
        raise InvalidInputError(
            f"{resolved.subject.model} is in {resolved.precision}; {asked} was asked for.",
            "leave the precision out",
        )
    if asked.startswith("int8"):
        raise InvalidInputError(
            f"{resolved.subject.model} isn't rounded to {asked}.",
            f"export a Bundle first, and pass its folder: vertebra export MODEL --precision {asked} "
            "--calibrate PICTURES -o FOLDER",
        )
    return replace(resolved, precision=asked)


def _start(
    resolved: Resolved, engine: str, batch_size: int, threads: int | None, device: str, spins: bool
) -> Loaded:
    from vertebra.machine import system

    card = resolved.card
    assert card.preprocess is not None
    settings = Settings(
        batch_size=batch_size,
        input_size=resolved.input_size,
        num_classes=resolved.num_classes,
        precision=resolved.precision,
        threads=threads or system.default_threads(),
        device=device,
        spins=spins,
    )
    session = engines.load(engine, resolved.subject, settings)
    return Loaded(
        session=session,
        preprocess=card.preprocess,
        labels=card.labels,
        model=resolved.subject.model,
        weights=card.weights,
        network_sha256=resolved.network_sha256,
        weights_sha256=card.weights_sha256,
        engine=engine,
        settings=settings,
        num_classes=resolved.num_classes,
        outputs=card.outputs or LOGITS,
        assumed=card.assumed,
        content=_content(resolved),
    )


def _content(resolved: Resolved) -> str | None:
    """A Bundle's files, or what builds the network, its arguments and the digest of its weights; None where
    that isn't known."""
    subject = resolved.subject
    if subject.bundle is not None:
        loaded = bundles.read(subject.bundle, verify=False).loaded_files()
        return json.dumps(loaded, sort_keys=True)
    arguments = dict(subject.arguments)
    if "weights" in arguments:
        arguments["weights"] = resolved.card.weights_sha256
        if arguments["weights"] is None:
            return None
    from vertebra._version import __version__
    from vertebra.machine import system

    versions = {**system.library_versions(("torch", "timm", "torchvision")), "vertebra": __version__}
    return json.dumps([subject.builder, arguments, versions], sort_keys=True)


def has_torch() -> bool:
    """Whether names run in eager."""
    return importlib.util.find_spec("torch") is not None


def _engine_of(folder: str | None) -> str:
    """A Bundle's default engine: the first that opens its format."""
    if folder is None:
        return "onnxruntime"
    kept = bundles.read(folder, verify=False)
    return next(info.name for info in engines.known() if kept.format in info.formats)
