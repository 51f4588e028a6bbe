"""Photographs and checkpoints out of installed packages, and what `fit` makes of them, once for all tests of
a run. Packages are read as files and never imported."""

from __future__ import annotations

import importlib.util
import random
import struct
import tempfile
import zlib
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

GCOMPRIS = Path("/usr/share/gcompris-qt/rcc")
KINDS = {"animal": "explore_farm_animals", "monument": "explore_monuments", "music": "explore_world_music"}
NETWORK, PACKAGE, WEIGHTS = (
    "torchvision:squeezenet1_1", "ndf", "example_models/weights/squeezenet_weights.pkl"
)  # fmt: skip


def packaged(module: str, path: str) -> Path:
    """The file of a package; skips where that isn't installed."""
    found = importlib.util.find_spec(module)
    if found is None or not found.submodule_search_locations:
        pytest.skip(f"{module} isn't installed")
    return Path(found.submodule_search_locations[0]) / path


def resources(data: bytes) -> dict[str, bytes]:
    """Name -> content of the files in a Qt resource container, version 2 or 3 (its nodes have 22 bytes)."""
    assert data[:4] == b"qres"
    version, tree, contents, names = struct.unpack_from(">4I", data, 4)
    assert version in (2, 3)
    files: dict[str, bytes] = {}
    waiting = [0]
    while waiting:
        at = tree + 22 * waiting.pop()
        name, flags = struct.unpack_from(">IH", data, at)
        if flags & 2:  # a folder
            count, first = struct.unpack_from(">2I", data, at + 6)
            waiting += range(first, first + count)
            continue
        (offset,) = struct.unpack_from(">I", data, at + 10)
        (size,) = struct.unpack_from(">I", data, contents + offset)
        content = data[contents + offset + 4 : contents + offset + 4 + size]
        (length,) = struct.unpack_from(">H", data, names + name)
        told = data[names + name + 6 : names + name + 6 + 2 * length].decode("utf-16-be")
        files[told] = zlib.decompress(content[4:]) if flags & 1 else content
    return files


def kinds(folder: Path, most: int = 24) -> Path:
    """Photographs of animals, monuments and music in class folders; skips where there are none."""
    sources = {kind: GCOMPRIS / f"{name}.rcc" for kind, name in KINDS.items()}
    if not all(path.is_file() for path in sources.values()):
        pytest.skip("no photographs of GCompris: apt-get install gcompris-qt-data")
    for kind, source in sources.items():
        (folder / kind).mkdir(parents=True)
        found = {name: content for name, content in resources(source.read_bytes()).items()
                 if name.endswith(".webp")}  # fmt: skip
        for name in sorted(found)[:most]:
            (folder / kind / name).write_bytes(found[name])
    return folder


class Shipped(NamedTuple):
    """What `fit` made of photographs with a real checkpoint: the Bundle's folder, its head, which the Bundle
    has no part in, and the photographs."""

    bundle: Path
    head: Any
    photographs: list[Path]

    def sample(self, count: int, seed: int) -> list[Path]:
        return random.Random(seed).sample(self.photographs, count)

    def expected(self, paths: list[Path]) -> np.ndarray:
        """The head's logits for pictures, on features that the whole network gives."""
        from vertebra.data.preprocess import preprocess_many
        from vertebra.inference import loading
        from vertebra.measuring.evaluation import heads

        with loading.load(
            NETWORK, weights=packaged(PACKAGE, WEIGHTS), engine="onnxruntime", features=True
        ) as loaded:
            ready = preprocess_many(paths, loaded.preprocess)
            return heads.logits(self.head, np.concatenate([loaded.features(image[None]) for image in ready]))


@cache
def _scratch() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="vertebra-test-")  # removed when Python ends


@cache
def shipped() -> Shipped:
    """Not to be changed."""
    import vertebra
    from vertebra.verbs import contenders, shipping

    place = Path(_scratch().name)
    weights, folder = packaged(PACKAGE, WEIGHTS), kinds(place / "kinds")
    with pytest.MonkeyPatch.context() as patch:
        for module in (contenders, shipping):
            patch.setattr(module, "_CASE_S", 0.5)
        done = vertebra.fit(
            folder, weights={NETWORK: weights}, latency="60s", folds=3, engine="onnxruntime",
            output=place / "bundle", table=place / "table.sqlite",
        )  # fmt: skip
    return Shipped(done.bundle.folder, done.race.head, sorted(folder.rglob("*.webp")))


def as_jpeg(path: Path, to: Path) -> Path:
    with Image.open(path) as image:
        image.convert("RGB").save(to / f"{path.stem}.jpg", quality=92)
    return to / f"{path.stem}.jpg"
