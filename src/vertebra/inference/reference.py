"""The float32 form of a network that runs in another precision: the same weights, by their digest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vertebra import bundles, engines
from vertebra.errors import InvalidInputError
from vertebra.inference import loading, resolving
from vertebra.inference.loading import Loaded
from vertebra.measurements.subjects import is_published_name

#: The precision of the form that others are compared with.
PRECISION = "float32"


def load(subject: str | Path, loaded: Loaded, against: str | Path = PRECISION, **options: Any) -> Loaded:
    """`loaded` in float32, with the same batch size: `subject`, which it was loaded from, on the same engine,
    or the Bundle `against`. `options` are those that it was loaded with.

    Raises InvalidInputError if `loaded` computes in float32 itself, is untrained, or if its weights aren't
    those of the other form, and what `loading.load` raises.
    """
    if loaded.session.effective().get("precision", loaded.settings.precision) == PRECISION:
        raise InvalidInputError(
            f"{loaded.model} runs in float32 itself, so it has no disagreement with it.",
            "name another precision, such as --precision bfloat16, or pass a Bundle in int8",
        )
    if loaded.weights is None:
        raise InvalidInputError(
            f"{loaded.model} is untrained: what its answers agree with means nothing.", "name its weights"
        )
    passed = ("threads", "device", "trust_code", "progress")
    common: dict[str, Any] = {name: options[name] for name in passed if name in options}
    common["batch_size"] = loaded.settings.batch_size
    if str(against) != PRECISION:
        other = _of_bundle(against, loaded, common)
    elif resolving.is_bundle(subject) and bundles.read(subject, verify=False).precision != PRECISION:
        other = _of_name(subject, loaded, common)
    else:
        again = {name: value for name, value in options.items() if name not in ("precision", "engine")}
        other = loading.load(subject, engine=loaded.engine, **{**again, **common})
    try:
        _check_same(loaded, other)
    except InvalidInputError:
        other.close()
        raise
    return other


def _of_bundle(folder: str | Path, loaded: Loaded, common: dict[str, Any]) -> Loaded:
    """The Bundle in `folder`, on the same engine if that opens it."""
    if not resolving.is_bundle(folder):
        raise InvalidInputError(
            f"{folder} is not a Bundle's folder.",
            f'compare with "{PRECISION}", or with a Bundle in it of the same weights',
        )
    opens = bundles.read(folder, verify=False).format in engines.find(loaded.engine).formats
    return loading.load(folder, engine=loaded.engine if opens else None, **common)


def _of_name(folder: str | Path, loaded: Loaded, common: dict[str, Any]) -> Loaded:
    """The network that the Bundle was rounded from, by its name and that of its published weights."""
    model, weights = loaded.model, str(loaded.weights)
    library, _, _ = model.rpartition(":")
    if not is_published_name(model, weights):
        raise InvalidInputError(
            f"{folder} is in {loaded.settings.precision}, and its weights {weights} can't be found by their "
            "name.",
            "export the network with the same weights in float32, and pass that Bundle: --against FOLDER",
        )
    if library:
        return loading.load(f"{library}:{weights}", engine=loaded.engine, **common)
    return loading.load(model, weights=weights, engine=loaded.engine, **common)


def _check_same(loaded: Loaded, other: Loaded) -> None:
    """Raise InvalidInputError unless both are one network with the same weights, `other` in float32."""
    precision = other.session.effective().get("precision", other.settings.precision)
    if precision != PRECISION:
        raise InvalidInputError(
            f"What {loaded.model} would be compared with is in {precision}, not in float32.",
            "pass a Bundle in float32: --against FOLDER",
        )
    digests = (loaded.weights_sha256, other.weights_sha256)
    same = digests[0] == digests[1] if None not in digests else loaded.weights == other.weights
    if (loaded.model, loaded.num_classes) != (other.model, other.num_classes) or not same:
        raise InvalidInputError(
            f"{loaded.model} ({loaded.weights}) would be compared with {other.model} ({other.weights}): "
            "their weights are not the same.",
            "export the network with the same weights in float32, and pass that Bundle: --against FOLDER",
        )
