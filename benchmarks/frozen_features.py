"""What decides the accuracy of a head on frozen features, apart from the network and the pictures.

    python benchmarks/frozen_features.py PICTURES --weights MODEL=FILE

PICTURES has class folders. Each line changes one thing against the first: what is under transparent
pixels, how the picture is cut and resized, what of the network is taken as features, whether features are
standardised, and whether near-duplicates may be in different folds. Printed is the share of pictures answered
right out of fold, in 5 folds: with the penalty of `vertebra eval --probe` (C = 0.01), with scikit-learn's own
(C = 1), each dealt with 3 seeds, and with the penalty chosen inside the folds, as `vertebra fit` does. Needs
scikit-learn.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vertebra.data import datasets, folds, inspection
from vertebra.data.preprocess import Preprocess, decode, preprocess_many
from vertebra.inference import loading
from vertebra.measuring.evaluation import crossing, probing

SEEDS, FOLDS, BATCH = range(3), 5, 32


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--weights", required=True, metavar="MODEL=FILE")
    asked = parser.parse_args()
    found = inspection.inspect(datasets.open(asked.pictures))
    files = [asked.pictures / one.name for one in found.kept]
    labels, groups = np.array(found.labels), list(found.groups)
    print(
        f"{len(files):,} pictures of {len(found.classes)} classes in {len(set(groups)):,} groups; "
        f"largest class {np.bincount(labels).max() / len(labels):.1%}"
    )
    print(f"{'':40}{'C = 0.01':24}{'C = 1':24}chosen inside the folds")
    grouped = [folds.split(labels.tolist(), groups, FOLDS, seed) for seed in SEEDS]
    apart = [folds.split(labels.tolist(), list(range(len(labels))), FOLDS, seed) for seed in SEEDS]
    usual = None
    for name, vectors in _features(asked.weights, files):
        usual = vectors if usual is None else usual
        _print(name, vectors, labels, grouped, groups)
    _print("near-duplicates in any fold", usual, labels, apart, None)
    _print("not standardised", usual, labels, grouped, None, standardised=False)
    return 0


def _features(asked: str, files: Sequence[Path]) -> Iterator[tuple[str, Any]]:
    """The features of the pictures, in each way of making them."""
    model, file = asked.split("=", 1)
    behind = {
        colour: [_on(path, value) for path in files] for colour, value in (("white", 255), ("black", 0))
    }
    with loading.load(
        model, weights=file, engine="onnxruntime", features=True, usual_batch_size=BATCH
    ) as loaded:
        record = loaded.preprocess
        height, width = record.input_size
        whole = replace(record, resize=(height, width))
        ways: dict[str, tuple[Sequence[Any], Preprocess]] = {
            "as the probe": (files, record),
            "white under transparent pixels": (behind["white"], record),
            "black under transparent pixels": (behind["black"], record),
            "the whole picture, squeezed": (files, whole),
            "white, and the whole picture squeezed": (behind["white"], whole),
            "bilinear": (files, replace(record, interpolation="bilinear")),
        }
        for name, (sources, how) in ways.items():
            yield name, _computed(loaded.features, sources, how)
        yield "the network's 1,000 logits", _computed(loaded.logits, files, record)


def _computed(run: Callable[[Any], Any], sources: Sequence[Any], record: Preprocess) -> Any:
    parts = []
    for start in range(0, len(sources), BATCH):
        images = np.stack(list(preprocess_many(sources[start : start + BATCH], record)))
        parts.append(run(images))
    return np.concatenate(parts)


def _on(path: Path, value: int) -> Any:
    """The picture on a plain ground, where it is transparent."""
    with Image.open(path) as image:
        if "A" not in image.getbands() and "transparency" not in image.info:
            return decode(path)
        ground = Image.new("RGBA", image.size, (value, value, value, 255))
        return np.asarray(Image.alpha_composite(ground, image.convert("RGBA")).convert("RGB"))


def _print(
    name: str, vectors: Any, labels: Any, dealt: Sequence[Sequence[int]], groups: Sequence[int] | None,
    *, standardised: bool = True,
) -> None:  # fmt: skip
    cells = []
    for penalty in (probing.PENALTY, 1.0):
        found = [_fixed(vectors, labels, np.array(places), penalty, standardised) for places in dealt]
        cells.append(f"{found[0]:.1%} ({min(found):.1%} to {max(found):.1%})")
    if standardised:
        classes = int(labels.max()) + 1
        nested = crossing.held(vectors, labels.tolist(), dealt[0], classes=classes, groups=groups)
        cells.append(f"{nested.accuracy:.1%}")
    print(f"{name:40}{''.join(f'{cell:24}' for cell in cells)}".rstrip(), flush=True)


def _fixed(vectors: Any, labels: Any, places: Any, penalty: float, standardised: bool) -> float:
    """The share answered right with this penalty: standardised features, or those as they are."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    right = 0
    for fold in range(FOLDS):
        regression = LogisticRegression(C=penalty, max_iter=5000)
        model = make_pipeline(StandardScaler(), regression) if standardised else regression
        model.fit(vectors[places != fold], labels[places != fold])
        right += int((model.predict(vectors[places == fold]) == labels[places == fold]).sum())
    return right / len(labels)


if __name__ == "__main__":
    raise SystemExit(main())
