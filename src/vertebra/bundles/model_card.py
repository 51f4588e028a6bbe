"""README.md of a Bundle, for people: its network, weights, licence, preprocessing and proof."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vertebra.bundles.manifest import NATIVE, NETWORKS, READERS


def text(manifest: Mapping[str, Any]) -> str:
    """README.md of the Bundle with this manifest; the same manifest gives the same text."""
    parts = [
        f"# {_plain(manifest['model'])}",
        _table(_facts(manifest)),
        "## Preprocessing",
        preprocessing(manifest["preprocess"]),
        *_picture(manifest.get("picture")),
        *_head(manifest.get("fitted"), manifest["licence"], manifest["precision"]),
        "## Proof",
        _proof(manifest),
        "## Before you load it",
        warning(manifest["format"]),
        "## Use",
        "    vertebra show .\n    vertebra predict photo.jpg -m .",
    ]
    return "\n\n".join(parts) + "\n"


def warning(format: str) -> str:
    """What loading a file of this format means for whoever doesn't know its maker."""
    if format in NATIVE:
        return (
            f"`{NETWORKS[format]}` is native code: loading it runs it, with the rights of whoever loads it. "
            "vertebra does so only on the machine that made it, or with --trust-code. The digests in "
            "vertebra.json don't show who made it."
        )
    return (
        f"`{NETWORKS[format]}` is data, not a program. It is read by {READERS[format]}, which isn't made to "
        "withstand hostile files. The digests in vertebra.json don't show who made it."
    )


#: one of `manifest.OUTPUTS` -> what that means
OUTPUTS = {
    "logits": "logits: a softmax makes probabilities of them",
    "probabilities": "probabilities, which sum to 1",
    "sigmoids": "a share for each class on its own",
    "independent-logits": "a logit for each class on its own: a sigmoid makes a share of it",
}


def _facts(manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    weights = manifest["weights"]
    drawn = "drawn by rule" if manifest.get("graph") else f"seed {manifest['seed']}"
    trained = f"`{_plain(weights)}`" if weights else f"none: untrained, {drawn}; it only guesses"
    size = manifest["input_size"]
    made = ", ".join(f"{name} {version}" for name, version in sorted(manifest["versions"].items()))
    return [
        ("weights", trained),
        ("sha256 of weights and head" if manifest.get("fitted") else "sha256 of their file",
         manifest["weights_sha256"] or "-"),
        ("licence of the weights", _plain(manifest["licence"] or "not stated by their source")),
        ("input", f"(N, {manifest['in_channels']}, {size}, {size})"),
        ("classes", f"{manifest['num_classes']}, named in labels.json ({_plain(manifest['labels'])})"
         if manifest["labels"] else f"{manifest['num_classes']}, without names"),
        *([("outputs", OUTPUTS[manifest["outputs"]])] if manifest.get("outputs") else []),
        *([("assumed, not stated by their source", _plain(", ".join(manifest["assumed"])))]
          if manifest.get("assumed") else []),
        ("format, precision", f"{manifest['format']}, {manifest['precision']}"),
        ("made with", _plain(made) or "-"),
    ]  # fmt: skip


def _table(rows: list[tuple[str, str]]) -> str:
    return "\n".join(["| | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in rows)])


def preprocessing(record: Mapping[str, Any] | None, holder: str = "vertebra.json") -> str:
    """How a picture becomes the network's input, in a sentence; `holder` is the file with the record."""
    if record is None:
        return "This Bundle doesn't record how a picture becomes the network's input."
    resize, (height, width) = record["resize"], record["input_size"]
    target = (
        f"{resize[0]}x{resize[1]}" if isinstance(resize, list | tuple) else f"{resize} on the shorter side"
    )
    turned = (
        "turned upright by its EXIF orientation"
        if record["apply_orientation"]
        else "its EXIF orientation ignored"
    )
    crop = f"crop {height}x{width} from the middle"
    if target == f"{height}x{width}":
        crop = "the whole picture, nothing cropped"
    return (
        f"Decode to RGB, {turned}; resize to {target} ({record['interpolation']}); {crop}; "
        f"(pixel / 255 - {_numbers(record['mean'])}) / {_numbers(record['std'])}. "
        f"{holder} holds the full record."
    )


def _picture(picture: Mapping[str, Any] | None) -> list[str]:
    if picture is None:
        return []
    proof = picture["proof"]
    return [
        f"`{picture['file']}` includes these steps, from the resize on. Input: `image` (height, width, 3), "
        f"uint8, RGB. Output: `probabilities` (1, classes). Its largest differences from Python over "
        f"{len(proof['pictures'])} pictures: {proof['grey_levels_most']} grey levels "
        f"({proof['grey_levels_mean']:g} on average) and {proof['probability_most']:g} in a probability."
    ]


def _head(fitted: Mapping[str, Any] | None, licence: str | None, precision: str) -> list[str]:
    """What the head was fitted on, and how well it does."""
    if fitted is None:
        return []
    classes = fitted["classes"]
    counts = "\n".join(["| class | pictures |", "| --- | --- |",
                        *(f"| {_plain(name)} | {count:,} |" for name, count in classes)])  # fmt: skip
    under = fitted["network_weights"]
    weights = f"`{_plain(under)}`" if under else "drawn, untrained"
    permits = ""
    if fitted["permits"]:
        permits = (
            f" Their licence permits: {_plain(fitted['permits'])}."
            if licence
            else (f" {_sentence(fitted['permits'])}")
        )
    own = fitted.get("precision", "float32")
    other = (
        ""
        if own == precision
        else (f" That is of the network in {own}; how accurate this one in {precision} is wasn't measured.")
    )
    total = sum(count for _, count in classes)
    lines = [
        "## Head",
        f"The last layer is a head for {len(classes)} classes, fitted on {total:,} pictures: "
        f"`{_plain(fitted['pictures'])}`, sha256 {fitted['pictures_sha256']}. {_sentence(fitted['how'])} "
        f"Everything below it is the network with the weights {weights}, unchanged.{permits}",
        f"Top-1 accuracy, cross-validated over {fitted['folds']} folds: {100 * fitted['accuracy']:.1f} % "
        f"(95 % interval {100 * fitted['low']:.1f} to {100 * fitted['high']:.1f} %). The largest class has "
        f"{100 * max(count for _, count in classes) / total:.1f} % of the pictures.{other}",
        counts,
    ]
    if fitted["remarks"]:
        lines.append("\n".join(f"- {_plain(one)}" for one in fitted["remarks"]))
    return lines


def _sentence(text: str) -> str:
    plain = _plain(text).strip().rstrip(".")
    return f"{plain[:1].upper()}{plain[1:]}."


def _proof(manifest: Mapping[str, Any]) -> str:
    reference = manifest["reference"]
    if manifest.get("fitted"):
        return _proof_of_head(manifest)
    if manifest.get("graph"):
        return _proof_of_graph(manifest)
    return (
        f"reference.npz holds the logits that the network gave before the export for "
        f"{reference['batch_size']} images drawn from seed {reference['seed']}. Every engine is compared "
        "with them before it is timed." + _parity(manifest.get("parity"))
    )


def _proof_of_head(manifest: Mapping[str, Any]) -> str:
    reference = manifest["reference"]
    graph = f" {_origin(manifest['graph'])}" if manifest.get("graph") else ""
    return (
        "reference.npz holds the logits that the head gives for features that ONNX Runtime computed, without "
        "optimising, from the network with its old classifier, for "
        f"{reference['batch_size']} images drawn from seed {reference['seed']}. Every engine is compared "
        f"with them before it is timed.{_parity(manifest.get('parity'))}{graph}"
    )


def _origin(graph: Mapping[str, Any]) -> str:
    eager = _against_eager(graph)
    return (
        "The network was made without PyTorch, from a graph that ships with vertebra: that of "
        f"{_plain(graph['file'])} in {_plain(graph['library'])} {_plain(graph['version'])}, under "
        f"{_plain(graph['licence'])} (NOTICES.txt). {eager}"
    )


def _against_eager(graph: Mapping[str, Any]) -> str:
    return (
        "The graph was too large to be compared with PyTorch."
        if graph["against_eager"] is None
        else "With drawn parameters the graph gave PyTorch's logits, which ship with vertebra, within "
        f"{graph['against_eager']:.1g} of their spread."
    )


def _proof_of_graph(manifest: Mapping[str, Any]) -> str:
    graph, reference = manifest["graph"], manifest["reference"]
    theirs = " The names and shapes of the weights were exactly the graph's." if manifest["weights"] else ""
    return (
        f"{_origin(graph)}{theirs} With these parameters it was not "
        "compared with PyTorch. reference.npz holds the logits that ONNX Runtime gave, without optimising, "
        f"for {reference['batch_size']} images drawn from seed {reference['seed']}. Every engine is compared "
        "with them before it is timed." + _parity(manifest.get("parity"))
    )


def _parity(parity: Mapping[str, Any] | None) -> str:
    """The single values that the export recorded for its comparison with the reference."""
    plain = {name: value for name, value in (parity or {}).items() if isinstance(value, int | float | str)}
    if not plain:
        return ""
    listed = ", ".join(
        f"{_plain(name.replace('_', ' '))} {_plain(_shown(value))}" for name, value in plain.items()
    )
    return f" The export was compared with them: {listed}."


def _shown(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.2g}" if isinstance(value, float) else str(value)


def _numbers(values: Any) -> str:
    return "[" + ", ".join(f"{value:g}" for value in values) + "]"


def _plain(value: str) -> str:
    """Text that can't change the page's markup."""
    return "".join(sign if sign.isprintable() and sign not in "|`<>[]" else " " for sign in value)
