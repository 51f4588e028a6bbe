"""What decides the accuracy of a head on frozen features, apart from the network and the pictures.

    python benchmarks/frozen_features.py PICTURES --weights MODEL=FILE

PICTURES has class folders. Each line changes one thing against the first, which is what `vertebra eval
--probe` does: what stands behind transparent pixels, how the picture is cut and resized, what of the network
is taken as features, the penalty, and whether near-duplicates may be in different folds. Printed are the
shares of pictures answered right out of fold, in 5 folds dealt with 5 seeds: the first and the least and the
greatest of the seeds. The last column chooses the penalty inside the folds, as `vertebra fit` does. Needs
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

SEEDS, FOLDS, BATCH = range(5), 5, 32


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
    print(f"{'':44}    fixed penalty            chosen inside the folds")
    features = dict(_features(asked.weights, files))
    usual = next(iter(features.values()))
    grouped = [folds.split(labels.tolist(), groups, FOLDS, seed) for seed in SEEDS]
    apart = [folds.split(labels.tolist(), list(range(len(labels))), FOLDS, seed) for seed in SEEDS]
    for name, vectors in features.items():
        _print(name, vectors, labels, grouped, groups)
    _print("near-duplicates in any fold", usual, labels, apart, None)
    for penalty in (0.1, 1.0):
        _print(f"penalty C = {penalty:g}", usual, labels, grouped, None, penalty)
    _print("not standardised, C = 1", usual, labels, grouped, None, 1.0, standardised=False)
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
            "white behind transparent pixels": (behind["white"], record),
            "black behind transparent pixels": (behind["black"], record),
            "the whole picture, squeezed": (files, whole),
            "white, and the whole picture squeezed": (behind["white"], whole),
            "bilinear": (files, replace(record, interpolation="bilinear")),
        }
        for name, (sources, how) in ways.items():
            yield name, _computed(loaded.features, sources, how)
        yield "the network's 1,000 logits", _computed(loaded.session.run, files, record)


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
    penalty: float = probing.PENALTY, *, standardised: bool = True,
) -> None:  # fmt: skip
    fixed = [_fixed(vectors, labels, np.array(places), penalty, standardised) for places in dealt]
    line = f"{name:44}{fixed[0]:7.1%} ({min(fixed):.1%} to {max(fixed):.1%})"
    if penalty == probing.PENALTY:
        first = crossing.held(
            vectors, labels.tolist(), dealt[0], classes=int(labels.max()) + 1, groups=groups
        )
        line += f"      {first.accuracy:.1%} (first seed)"
    print(line, flush=True)


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
