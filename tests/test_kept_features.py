"""Features kept in the cache: each is computed once, none is of another network or picture, and a killed run
goes on."""

from __future__ import annotations

import dataclasses
import hashlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vertebra.data.datasets import Dataset, Sample
from vertebra.data.preprocess import Preprocess
from vertebra.engines import Settings
from vertebra.errors import ImageError, InvalidInputError, MeasurementError
from vertebra.inference import kept_features, loading
from vertebra.inference.kept_features import Features
from vertebra.machine import kept_records
from vertebra.progress import Progress
from vertebra.zoo.graphs import drawing, store

TINY = Preprocess(input_size=(2, 2), resize=(2, 2), interpolation="bilinear", mean=(0, 0, 0), std=(1, 1, 1))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("VERTEBRA_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("VERTEBRA_FEATURES_LIMIT", raising=False)
    return tmp_path / "cache" / "features"


@dataclass(frozen=True)
class Kept:
    place: int
    sha256: str


class Runtime:
    def __init__(self, **effective: Any) -> None:
        self.told = {"precision": "float32", "version": "1", "threads": 1, **effective}

    def effective(self) -> dict[str, Any]:
        return self.told


class Made:
    """Stands for a network that is loaded: its features are a picture's grey and its square, in levels.
    `seen` has the greys that it was asked for."""

    def __init__(self, **other: Any) -> None:
        self.model, self.content, self.engine, self.preprocess = "greys", "1", "null", TINY
        self.settings, self.session = Settings(batch_size=4), Runtime()
        self.seen: list[int] = []
        for name, value in other.items():
            setattr(self, name, value)

    def features(self, images: np.ndarray) -> np.ndarray:
        grey = np.rint(images[:, 0, 0, :1] * 255)
        self.seen += [int(one) for one in grey[:, 0]]
        return np.concatenate([grey, grey**2], axis=1)


def dataset(*greys: int) -> tuple[Dataset, list[Kept]]:
    """Pictures of one grey each, as pixels; of a negative one as bytes that are no picture."""
    sources: list[Any] = [
        np.full((2, 2, 3), grey, np.uint8) if grey >= 0 else b"broken %d" % grey for grey in greys
    ]

    def read() -> Iterator[Sample]:
        for number, source in enumerate(sources):
            yield Sample(source, 0, f"picture {number}")

    kept = [Kept(place, hashlib.sha256(bytes(source)).hexdigest()) for place, source in enumerate(sources)]
    return Dataset("greys", None, "made up", ("all",), 1, len(greys), "", read), kept


def rows(*greys: int) -> list[list[float]]:
    return [[grey, grey**2] if grey >= 0 else [0, 0] for grey in greys]


def computed(loaded: Any, *greys: int, **options: Any) -> Features:
    return kept_features.features(loaded, *dataset(*greys), **options)


def test_features_are_computed_once_and_found_again_bit_by_bit(cache):
    first, second = Made(), Made()
    found = computed(first, *range(10))
    assert (found.vectors.tolist(), found.computed, found.found) == (rows(*range(10)), 10, 0)
    again = computed(second, *range(10))
    assert (again.computed, again.found, second.seen) == (0, 10, [])
    assert again.vectors.tobytes() == found.vectors.tobytes()
    assert [path.suffix for path in cache.iterdir()] == [".records"]


def test_only_missing_pictures_are_computed_and_rows_are_in_the_order_asked_for():
    computed(Made(), 3, 1, 2)
    loaded = Made()
    data, kept = dataset(5, 1, 4, 2, 3)
    found = kept_features.features(loaded, data, kept[::-1])
    assert (found.vectors.tolist(), loaded.seen) == (rows(3, 2, 4, 1, 5), [5, 4])
    assert (found.computed, found.found) == (2, 3)


def test_a_part_of_a_set_is_read_no_further_than_its_last_picture():
    data, kept = dataset(*range(100))
    read: list[str] = []

    def counted() -> Iterator[Sample]:
        for sample in data.read():
            read.append(sample.name)
            yield sample

    part = [kept[7], kept[2]]
    found = kept_features.features(Made(), dataclasses.replace(data, read=counted), part)
    assert (found.vectors.tolist(), read[-1]) == (rows(7, 2), "picture 7")
    read.clear()
    kept_features.features(Made(), dataclasses.replace(data, read=counted), part)
    assert read == []


def test_copies_of_a_picture_are_computed_once():
    loaded = Made()
    found = computed(loaded, 7, 8, 7, -1, 7, -1)
    assert (found.vectors.tolist(), loaded.seen) == (rows(7, 8, 7, -1, 7, -1), [7, 8])
    assert (found.computed, sorted(found.unreadable)) == (4, [3, 5])


def test_unreadable_pictures_are_named_have_zeros_and_are_not_kept():
    for before in (0, 2):
        found = computed(Made(), 1, -1, 2)
        assert found.vectors.tolist() == rows(1, -1, 2)
        assert (found.found, found.computed) == (before, 2 - before)
        assert {row: text.split(":")[0] for row, text in found.unreadable.items()} == {
            1: "not a JPEG, PNG, WebP, BMP, GIF or TIFF file"
        }
    with pytest.raises(ImageError, match="picture 1: "):
        computed(Made(), 1, -1, 2, strict=True)
    nothing = computed(Made(), -1, -2)
    assert (nothing.vectors.shape, len(nothing.unreadable)) == ((2, 0), 2)


@pytest.mark.parametrize(
    ("other", "is_found"),
    [
        ({"content": "2"}, False),
        ({"model": "others"}, False),
        ({"engine": "eager"}, False),
        ({"session": Runtime(version="2")}, False),
        ({"session": Runtime(precision="bfloat16")}, False),
        ({"settings": Settings(batch_size=4, precision="bfloat16")}, False),
        ({"preprocess": dataclasses.replace(TINY, std=(2, 2, 2))}, False),
        ({"session": Runtime(threads=2)}, True),
        ({"settings": Settings(batch_size=2, threads=2)}, True),
    ],
)
def test_features_are_of_one_network_preprocess_engine_and_precision(other, is_found):
    computed(Made(), 1, 2)
    found = computed(Made(**other), 1, 2)
    assert (found.found, found.computed) == ((2, 0) if is_found else (0, 2))


@pytest.mark.parametrize(
    ("limit", "other", "told"),
    [("0", {}, ""), ("10MB", {"content": None}, "aren't kept: it isn't known which weights it has")],
)
def test_where_nothing_can_be_kept_all_is_computed(cache, monkeypatch, caplog, limit, other, told):
    monkeypatch.setenv("VERTEBRA_FEATURES_LIMIT", limit)
    for _ in range(2):
        found = computed(Made(**other), 1, 2)
        assert (found.vectors.tolist(), found.computed) == (rows(1, 2), 2)
    assert told in caplog.text
    assert not list(cache.glob("*"))


def test_what_passes_the_limit_is_computed_and_told_once(monkeypatch, caplog):
    monkeypatch.setenv("VERTEBRA_FEATURES_LIMIT", "300B")  # the header and five records
    found = computed(Made(), *range(20))
    assert (found.vectors.tolist(), found.computed) == (rows(*range(20)), 20)
    assert caplog.text.count("no longer kept") == 1
    assert computed(Made(), *range(20)).found == 4


def test_a_cache_that_cannot_be_written_is_told_and_all_is_computed(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("VERTEBRA_CACHE", str(tmp_path / "file"))
    assert computed(Made(), 1, 2).vectors.tolist() == rows(1, 2)
    assert "The features of greys aren't kept: " in caplog.text


def test_damaged_records_are_told_and_computed_again(cache, caplog):
    computed(Made(), 1, 2, 3)
    [path] = cache.iterdir()
    content = bytearray(path.read_bytes())
    content[64 + 44 + 40] ^= 8
    path.write_bytes(content)
    loaded = Made()
    found = computed(loaded, 1, 2, 3)
    assert (found.vectors.tolist(), loaded.seen) == (rows(1, 2, 3), [2])
    assert ".records has damaged records, 1 in all: what they held is computed again" in caplog.text
    assert computed(Made(), 1, 2, 3).found == 3


def test_features_that_are_no_numbers_are_an_error_and_not_kept(cache):
    loaded = Made(features=lambda images: images[:, 0, 0, :1] / np.float32(0))
    with (
        np.errstate(all="ignore"),
        pytest.raises(MeasurementError, match="greys in float32 on null gives features that aren't finite"),
    ):
        computed(loaded, 1, 2)
    assert computed(Made(), 1, 2).found == 0


def test_a_picture_that_was_changed_meanwhile_is_not_taken_for_the_old_one(tmp_path):
    paths = [tmp_path / f"{number}.png" for number in range(2)]
    for number, path in enumerate(paths):
        Image.new("RGB", (2, 2), (number, number, number)).save(path)
    kept = [Kept(place, hashlib.sha256(path.read_bytes()).hexdigest()) for place, path in enumerate(paths)]

    def read() -> Iterator[Sample]:
        return (Sample(path, 0, path.name) for path in paths)

    data = Dataset("greys", None, "made up", ("all",), 1, 2, "", read)
    whole = paths[1].read_bytes()
    Image.new("RGB", (2, 2), (9, 9, 9)).save(paths[1])
    found = kept_features.features(Made(), data, kept)
    assert found.vectors.tolist() == [[0, 0], [0, 0]]
    assert found.unreadable == {1: "1.png: it was changed after it was looked at."}
    paths[1].write_bytes(whole)
    found = kept_features.features(Made(), data, kept)
    assert (found.vectors.tolist(), found.found) == (rows(0, 1), 1)


def test_a_picture_that_the_set_does_not_have_is_an_error():
    data, kept = dataset(1, 2)
    with pytest.raises(InvalidInputError, match="greys has 2 pictures; number 5 was asked for"):
        kept_features.features(Made(), data, [*kept, Kept(5, "0" * 64)])


def test_two_digests_for_one_place_are_an_error():
    data, [one, two] = dataset(1, 2)
    with pytest.raises(InvalidInputError, match="1 of the pictures asked for have the place of another"):
        kept_features.features(Made(), data, [one, two, Kept(0, "0" * 64)])


def test_a_picture_without_a_digest_is_computed_each_time():
    data, _ = dataset(1)
    for _ in range(2):
        found = kept_features.features(Made(), data, [Kept(0, "unreadable picture 0")])
        assert (found.vectors.tolist(), found.computed) == (rows(1), 1)


def test_many_vectors_are_in_a_file_that_is_mapped(monkeypatch):
    monkeypatch.setattr(kept_features, "_MOST_IN_MEMORY_BYTES", 0)
    for is_found in (False, True):
        found = computed(Made(), 3, -1, 200)
        assert isinstance(found.vectors, np.memmap)
        assert found.vectors.tolist() == rows(3, -1, 200)
        assert found.found == 2 * is_found
    assert sorted(path.suffix for path in kept_records.folder().iterdir()) == [".records"]


def test_progress_counts_what_was_found_as_done_and_has_the_time_left():
    computed(Made(), *range(4))
    seen: list[Progress] = []
    computed(Made(), *range(12), progress=seen.append)
    assert [event.done for event in seen] == [4, 8, 12]
    assert {(event.text, event.total, event.unit) for event in seen} == {
        ("computing features on greys", 12, "images")
    }
    assert [event.left_s is None for event in seen] == [True, False, True]


# ------------------------------------------------------------------ interrupted and killed


def test_an_interrupted_run_goes_on():
    class Stopped(Made):
        def features(self, images: np.ndarray) -> np.ndarray:
            if len(self.seen) == 8:
                raise KeyboardInterrupt
            return super().features(images)

    with pytest.raises(KeyboardInterrupt):
        computed(Stopped(), *range(20))
    loaded = Made()
    found = computed(loaded, *range(20))
    assert (found.vectors.tolist(), found.found, loaded.seen) == (rows(*range(20)), 8, list(range(8, 20)))


SLOW = """
import sys, time
sys.path.insert(0, sys.argv[1])
from test_kept_features import Made, computed

class Slow(Made):
    def features(self, images):
        print(len(self.seen), flush=True)
        time.sleep(0.05)
        return super().features(images)

computed(Slow(), *range(200))
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no permissions of this kind")
def test_a_killed_run_goes_on_with_the_rest():
    command = [sys.executable, "-c", SLOW, str(Path(__file__).parent)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    before = [int(child.stdout.readline()) for _ in range(6)][-1]
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    child.stdout.close()
    loaded = Made()
    found = computed(loaded, *range(200))
    assert before <= found.found < 200
    assert loaded.seen == list(range(found.found, 200))
    assert found.vectors.tolist() == rows(*range(200))


def test_two_runs_at_once_share_what_they_compute():
    inner = Made()

    class Outer(Made):
        def features(self, images: np.ndarray) -> np.ndarray:
            if not self.seen:
                assert computed(inner, *range(8)).found == 0
            return super().features(images)

    assert computed(Outer(), *range(8)).vectors.tolist() == rows(*range(8))
    assert computed(Made(), *range(8)).found == 8


# ------------------------------------------------------------------ real engines

MODEL = "squeezenet1_1"


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    from safetensors.numpy import save_file

    path = tmp_path_factory.mktemp("weights") / "own.safetensors"
    arrays = {key: drawing.draw(MODEL, key, shape) for key, _, shape in store.find(MODEL).parameters()}
    save_file(arrays, path)
    return path


def test_engines_that_take_the_graph_give_eager_s_features_with_torch_installed(weights):
    pytest.importorskip("torch")
    pytest.importorskip("openvino")
    data, kept = dataset(10, 100, 250)
    given = {"weights": weights, "batch_size": 2, "features": True}
    found = {}
    for engine in ("eager", "onnxruntime", "openvino"):
        for computed_now in (3, 0):  # kept apart for each
            with loading.load(MODEL, engine=engine, **given) as loaded:
                vectors = kept_features.features(loaded, data, kept)
            assert vectors.computed == computed_now
        found[engine] = vectors.vectors
    assert found["eager"].shape == (3, 512)
    for engine in ("onnxruntime", "openvino"):
        apart = np.abs(found[engine] - found["eager"]).max() / np.abs(found["eager"]).max()
        assert apart < 1e-5


def test_a_bundle_with_an_output_for_features_gives_them_and_another_says_what_does(weights, tmp_path):
    from vertebra.exporting import filled
    from vertebra.inference import resolving

    resolved = resolving.resolve(MODEL, weights=weights)
    data, kept = dataset(10, 100)
    found = []
    for name, features in (("with", True), ("without", False)):
        filled.of_subject(
            resolved.subject, tmp_path / name, input_size=resolved.input_size, card=resolved.card,
            features=features,
        )  # fmt: skip
        with loading.load(tmp_path / name, batch_size=2) as loaded:
            if features:
                found.append(kept_features.features(loaded, data, kept).vectors)
            else:
                with pytest.raises(InvalidInputError, match=f'{MODEL} gives no features on "onnxruntime"'):
                    kept_features.features(loaded, data, kept)
    assert found[0].shape == (2, 512)
    assert not np.array_equal(found[0][0], found[0][1])
