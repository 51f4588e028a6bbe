"""`vertebra.export`: a network as a Bundle, or as a web page with one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vertebra import zoo
from vertebra.errors import InvalidInputError
from vertebra.machine import leftovers
from vertebra.progress import Progress
from vertebra.verbs import notebook

if TYPE_CHECKING:
    from vertebra.bundles import Bundle
    from vertebra.progress import Listener


def export(
    model: str | Path,
    output: str | Path,
    *,
    embed_preprocess: bool = False,
    web: bool = False,
    runtime: str | Path | None = None,
    engine: str | None = None,
    precision: str | None = None,
    batch_size: int | None = None,
    calibrate: str | Path | None = None,
    guard: float | None = None,
    quantiser: str | None = None,
    labelled: str | Path | None = None,
    format: str | None = None,
    split: str | None = None,
    most_lost: str | float | None = None,
    progress: Listener | None = None,
    **options: Any,
) -> Bundle:
    """Write the network called `model` with its weights, preprocessing and labels as a Bundle in `output`.

    `options` are those of `resolving.resolve`: weights, untrained, labels, preprocess, ... A Bundle that is
    already there is replaced. With `embed_preprocess` the Bundle also has a graph that starts from pixels.
    With `web` the folder is a page that runs the network in the browser, with the Bundle inside; `runtime` is
    the npm package onnxruntime-web, as npm's archive or unpacked; by default npm fetches the tested version
    once. With either, `model` may be a Bundle too.

    The Bundle is for `engine` (by default onnxruntime and others that open ONNX) in `precision`. It takes any
    batch size if the engine allows that and no `batch_size` is given. Precision int8 is calibrated by a
    `quantiser` with half of the pictures in the folder `calibrate`; on the other half `guard` is the least
    share whose first class is the same (0.99), or for an untrained network the least signal-to-noise ratio of
    its logits in dB (10). Precision int8-weights quantises only the parameters and needs no pictures. On
    `labelled` pictures, which `data.open` opens with `format` and `split`, the lost accuracy is measured; it
    may be at most `most_lost` ("0.5%").
    """
    progress = notebook.listener(progress)
    if runtime is not None and not web:
        raise InvalidInputError("A runtime is only for a web page.", "add --web")
    if web or embed_preprocess:
        _check_holds_onnx(engine)
    quantising: dict[str, Any] = {
        "calibrate": calibrate, "guard": guard, "quantiser": quantiser, "labelled": labelled,
        "format": format, "split": split, "most_lost": most_lost,
    }  # fmt: skip
    is_file = _is_file(model)
    if is_file:
        _refuse_quantising(model, quantising)
    made = {"engine": engine, "precision": precision, "batch_size": batch_size}
    made["calibration"] = None if is_file else _calibration(precision, **quantising)
    options |= {name: value for name, value in made.items() if value is not None}
    if not web:
        return _packed(model, Path(output), embed_preprocess, progress, options)
    import tempfile

    from vertebra import bundles
    from vertebra.exporting import web as page

    with page.draft(Path(output)) as draft, tempfile.TemporaryDirectory(prefix=leftovers.prefix()) as scratch:
        kept = _packed(model, Path(scratch) / "bundle", embed_preprocess, progress, options)
        page.publish(draft, kept, runtime=runtime, progress=progress)
    return bundles.read(Path(output) / page.INNER, verify=False)


def _is_file(model: str | Path) -> bool:
    """Whether `model` names a network's own file, which is kept as it is."""
    from vertebra.inference import resolving
    from vertebra.zoo import adapters

    return not resolving.is_bundle(model) and adapters.is_file(str(model))


def _refuse_quantising(model: str | Path, asked: dict[str, Any]) -> None:
    given = [name.replace("_", "-") for name, value in asked.items() if value is not None]
    if given:
        raise InvalidInputError(
            f"{model} is a file that is kept as it is, and not quantised.",
            f"leave out --{', --'.join(given)}",
        )


def _calibration(precision: str | None, **asked: Any) -> Any:
    """How to quantise, checked before anything else; None if nothing was asked for."""
    if precision is None and not any(value is not None for value in asked.values()):
        return None
    from vertebra.exporting import quantisation

    return quantisation.asked(precision, **asked)


def _check_holds_onnx(engine: str | None) -> None:
    """Refuse an engine whose Bundles aren't ONNX before anything is exported."""
    from vertebra import engines

    if engine is not None and engines.find(engine).formats[:1] != ("onnx",):
        raise InvalidInputError(
            f"--web and --embed-preprocess need ONNX; Bundles of {engine} have another format.",
            "leave --engine out",
        )


#: options of which both values are a choice
_EITHER = ("ema", "transform_input")
#: options of `exporting.export`; the others are those of `resolving.resolve`
_MADE = ("engine", "precision", "batch_size", "calibration")
#: those that make another Bundle of one in ONNX
_CONVERTED = ("engine", "precision", "calibration")


def _packed(
    model: str | Path, folder: Path, embed: bool, progress: Listener | None, options: dict[str, Any]
) -> Bundle:
    """The Bundle of `model` in `folder`; with the graph that starts from pixels if `embed`."""
    from vertebra import bundles
    from vertebra.bundles import runs
    from vertebra.exporting import conversion, converted, picture
    from vertebra.inference import kept_exports, resolving
    from vertebra.progress import beating, silent

    if resolving.is_bundle(model):
        made = {name: options.pop(name) for name in _CONVERTED if name in options}
        given = sorted(
            name for name, value in options.items() if value or (value is False and name in _EITHER)
        )
        if given:
            raise InvalidInputError(
                f"{model} is a Bundle and already has its {', '.join(given)}.", "leave them out"
            )
        kept = bundles.read(model)
        if not embed and not made:
            return bundles.copy(kept, folder)
        if embed:
            picture.check(kept.preprocess)
        if made:
            converted.check(**made)
        with bundles.draft(folder) as draft:
            copied = converted.convert(kept, draft, **made) if made else bundles.copy(kept, draft)
            if embed:
                picture.embed(copied)
        return bundles.read(folder, verify=False)
    made = {name: options.pop(name) for name in _MADE if name in options}
    found = zoo.find(str(model))
    if not found.is_file:
        conversion.check_order(**made, model=found.name)
    with bundles.draft(folder) as draft:  # first: no weights are fetched if the folder can't be written
        resolved = resolving.resolve(str(model), progress=progress, **options)
        assumed = resolving.assumptions(resolved.subject.model, resolved.card)
        if assumed is not None and progress is not None:
            progress(Progress(assumed))
        if embed:
            picture.check(resolved.card.preprocess)
        with beating(progress or silent, Progress(f"exporting {resolved.subject.model}")):
            kept = kept_exports.export(resolved, draft, **made)
        trained = runs.trained_on(options.get("weights"))
        if trained:
            kept = bundles.add_trained(kept, trained)
        if embed:
            picture.embed(kept)
    return bundles.read(folder, verify=False)
