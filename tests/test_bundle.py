"""The Bundle: written whole or not at all, and read only as it was written."""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vertebra import bundle
from vertebra.bundle import Bundle, Card
from vertebra.errors import BundleError, InvalidInputError
from vertebra.labels import LabelSet
from vertebra.preprocess import Preprocess

LOGITS = np.arange(20, dtype=np.float32).reshape(2, 10)


def put_network(draft: Path) -> None:
    (draft / "model.onnx").write_bytes(b"graph")
    (draft / "model.onnx.data").write_bytes(b"parameters")


def write(folder: Path, put: Callable[[Path], None] = put_network, model: str = "small") -> Bundle:
    return bundle.write(
        folder,
        put,
        model=model,
        logits=LOGITS,
        reference_seed=5,
        input_size=8,
        in_channels=3,
        seed=1,
        versions={"torch": "2.9"},
    )


def change(folder: Path, **values: Any) -> None:
    """Put `values` into the manifest; the value None of a key takes the key away."""
    path = folder / bundle.MANIFEST
    manifest = json.loads(path.read_text()) | values
    path.write_text(json.dumps({key: value for key, value in manifest.items() if value != "gone"}))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "small")
    return tmp_path / "small"


def test_what_was_written_is_read(folder: Path) -> None:
    kept = bundle.read(folder)
    assert (kept.model, kept.weights, kept.seed, kept.format) == ("small", None, 1, "onnx")
    assert (kept.num_classes, kept.in_channels, kept.input_size, kept.precision) == (10, 3, 8, "float32")
    assert kept.versions == {"torch": "2.9"}
    assert kept.network.read_bytes() == b"graph"
    assert kept.file_bytes == len(b"graph") + len(b"parameters")
    assert kept.files["model.onnx"]["sha256"] == hashlib.sha256(b"graph").hexdigest()


CARD = Card(
    weights="small.pth",
    weights_sha256="0" * 64,
    licence="MIT",
    preprocess=Preprocess((8, 8), 9, "bicubic"),
    # Two classes of one name and a line break: nothing that a label may be gets lost.
    labels=LabelSet(
        "ten", ("crane", "crane", *"abcdefg", "ü\nü"), tuple(f"n{number}" for number in range(10))
    ),
)


def write_with(card: Card, folder: Path) -> Bundle:
    return bundle.write(
        folder, put_network, model="small", logits=LOGITS, reference_seed=5, input_size=8, in_channels=3,
        versions={}, card=card,
    )  # fmt: skip


def test_a_bundle_keeps_its_card(tmp_path: Path) -> None:
    write_with(CARD, tmp_path / "small")
    kept = bundle.read(tmp_path / "small")
    told = (kept.weights, kept.weights_sha256, kept.licence, kept.preprocess)
    assert told == (CARD.weights, CARD.weights_sha256, CARD.licence, CARD.preprocess)
    assert (kept.labels, kept.label_set()) == ("ten", CARD.labels)
    assert kept.file_bytes == len(b"graph") + len(b"parameters")


def test_labels_without_identifiers_are_kept_too(tmp_path: Path) -> None:
    names = LabelSet("ten", tuple("abcdefghij"))
    assert write_with(Card(labels=names), tmp_path / "small").label_set() == names
    assert write_with(Card(), tmp_path / "small").label_set() is None
    assert not (tmp_path / "small" / "labels.json").exists()


def test_a_card_crosses_as_json() -> None:
    for card in (CARD, Card(), Card(labels=LabelSet("two", ("a", "b")))):
        assert Card.from_dict(json.loads(json.dumps(card.to_dict()))) == card
    for broken in ({}, {"labels": None}, CARD.to_dict() | {"colour": 3}, CARD.to_dict() | {"labels": {}}):
        with pytest.raises(InvalidInputError, match="no card"):
            Card.from_dict(broken)


def test_a_card_of_another_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="2 labels; the network has 10"):
        write_with(Card(labels=LabelSet("two", ("a", "b"))), tmp_path / "small")
    with pytest.raises(InvalidInputError, match="9x9 pixels"):
        write_with(Card(preprocess=Preprocess((9, 9), 9, "bicubic")), tmp_path / "small")
    assert list(tmp_path.iterdir()) == []


def test_damaged_labels_or_preprocessing_are_named(tmp_path: Path) -> None:
    write_with(CARD, tmp_path / "small")
    change(tmp_path / "small", preprocess={"input_size": [8, 8]})
    with pytest.raises(BundleError, match="lacks resize"):
        bundle.read(tmp_path / "small")
    kept = write_with(CARD, tmp_path / "small")
    (kept.folder / "labels.json").write_text('["one"]')
    with pytest.raises(BundleError, match=r"labels\.json was changed"):
        bundle.read(kept.folder)
    with pytest.raises(BundleError, match="1 labels; the network has 10"):
        kept.label_set()


def test_the_reference_is_repeated_or_cut_to_the_batch(folder: Path) -> None:
    images, logits = bundle.read(folder).reference_pair(5)
    assert images.shape == (5, 3, 8, 8)
    np.testing.assert_array_equal(logits, LOGITS[[0, 1, 0, 1, 0]])
    np.testing.assert_array_equal(images[0], images[4])
    assert not np.array_equal(images[0], images[1])
    first, _ = bundle.read(folder).reference_pair(1)
    np.testing.assert_array_equal(first[0], images[0])


def test_the_reference_images_are_the_same_for_ever_and_look_like_normalised_ones() -> None:
    images = bundle.reference_images(batch_size=2, in_channels=3, input_size=64, seed=0)
    assert images.dtype == np.float32
    assert abs(images.mean()) < 0.02
    assert abs(images.std() - 1) < 0.02
    # numpy's manual prints 0.6369616873214543 as default_rng(0).random(): the same raw number, 53 bits of it.
    assert images[0, 0, 0, 0] == pytest.approx((0.6369616873214543 * 2 - 1) * 3**0.5, abs=1e-6)


@pytest.mark.parametrize("name", ["model.onnx", "model.onnx.data", "reference.npz"])
def test_a_file_changed_after_writing_is_named(folder: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    content[-1] ^= 1
    (folder / name).write_bytes(content)
    bundle.read(folder, verify=False)
    with pytest.raises(BundleError, match=f"{name} was changed"):
        bundle.read(folder)


@pytest.mark.parametrize("name", ["model.onnx", "model.onnx.data", "reference.npz"])
def test_a_truncated_or_missing_file_is_named_even_without_hashing(folder: Path, name: str) -> None:
    (folder / name).write_bytes((folder / name).read_bytes()[:-1])
    with pytest.raises(BundleError, match=f"{name} was changed"):
        bundle.read(folder, verify=False)
    (folder / name).unlink()
    with pytest.raises(BundleError, match=f"{name} is missing"):
        bundle.read(folder, verify=False)


@pytest.mark.parametrize(
    "name", ["../secret", "/etc/passwd", "sub/file", "..", "C:\\file", "vertebra.json", ""]
)
def test_a_file_name_that_leads_out_of_the_folder_is_refused(folder: Path, name: str) -> None:
    secret = folder.parent / "secret"
    secret.write_bytes(b"graph")
    record = {"sha256": hashlib.sha256(b"graph").hexdigest(), "bytes": 5}
    change(folder, files={name: record})
    with pytest.raises(BundleError, match="not a file of this folder"):
        bundle.read(folder)


def test_a_link_out_of_the_folder_is_refused(folder: Path) -> None:
    (folder.parent / "secret").write_bytes(b"graph")
    (folder / "model.onnx").unlink()
    (folder / "model.onnx").symlink_to(folder.parent / "secret")
    with pytest.raises(BundleError, match="is missing"):
        bundle.read(folder)


def test_a_newer_schema_asks_for_an_upgrade(folder: Path) -> None:
    change(folder, schema=bundle.SCHEMA + 1, anything="new")
    with pytest.raises(BundleError, match=f"schema {bundle.SCHEMA + 1}") as caught:
        bundle.read(folder)
    assert "upgrade vertebra" in str(caught.value.hint)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"schema": "1"}', '{"schema": true}', "\0"])
def test_a_foreign_manifest_is_refused(folder: Path, text: str) -> None:
    (folder / bundle.MANIFEST).write_text(text)
    with pytest.raises(BundleError, match=bundle.MANIFEST):
        bundle.read(folder)


@pytest.mark.parametrize(
    "values",
    [
        {"model": 3}, {"num_classes": "10"}, {"input_size": True}, {"files": []}, {"reference": "gone"},
        {"colour": "red"}, {"files": {"model.onnx": 5}}, {"files": {"model.onnx": {"bytes": 5}}},
        {"files": {}}, {"reference": {}}, {"reference": {"seed": "0", "batch_size": 2}},
    ],
)  # fmt: skip
def test_a_manifest_with_wrong_keys_or_types_is_refused(folder: Path, values: dict[str, Any]) -> None:
    change(folder, **values)
    with pytest.raises(BundleError):
        bundle.read(folder)


@pytest.mark.parametrize("there", ["nothing", "an empty folder", "a file"])
def test_what_is_no_bundle_is_told_so(tmp_path: Path, there: str) -> None:
    path = tmp_path / "x"
    if there == "an empty folder":
        path.mkdir()
    if there == "a file":
        path.write_text("x")
    with pytest.raises(BundleError, match=r"vertebra\.json"):
        bundle.read(path)


def test_reference_logits_that_do_not_fit_are_refused(folder: Path) -> None:
    change(folder, num_classes=11)
    with pytest.raises(BundleError, match="logits"):
        bundle.read(folder).reference_pair(1)


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt(), ValueError("torch")]
)
def test_a_failed_write_leaves_nothing_behind(tmp_path: Path, error: BaseException) -> None:
    def fail(draft: Path) -> None:
        put_network(draft)
        raise error

    with pytest.raises(BundleError if isinstance(error, OSError) else type(error)):
        write(tmp_path / "small", fail)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_bundle_that_was_there(folder: Path) -> None:
    def fail(draft: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(BundleError, match="No space left"):
        write(folder, fail, model="other")
    assert bundle.read(folder).model == "small"
    assert [path.name for path in folder.parent.iterdir()] == ["small"]


def test_a_new_bundle_takes_the_place_of_an_old_one(folder: Path) -> None:
    write(folder, model="other")
    assert bundle.read(folder).model == "other"
    assert [path.name for path in folder.parent.iterdir()] == ["small"]


def test_a_folder_of_someone_elses_is_left_untouched(tmp_path: Path) -> None:
    theirs = tmp_path / "holiday"
    theirs.mkdir()
    (theirs / "photo.jpg").write_bytes(b"sea")
    with pytest.raises(BundleError, match="is no Bundle"):
        write(theirs)
    assert [path.name for path in theirs.iterdir()] == ["photo.jpg"]
    assert [path.name for path in tmp_path.iterdir()] == ["holiday"]


def test_a_place_that_can_not_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(BundleError, match="can't be written"):
        write(tmp_path / "file" / "small")


def test_a_bundle_may_be_moved(folder: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere" / "name"
    shutil.copytree(folder, moved)
    assert bundle.read(moved).network == moved / "model.onnx"
