"""The Bundle: written whole or not at all, and read only as it was written."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import pickle
import shutil
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vertebra import bundles
from vertebra.bundles import Bundle, Card
from vertebra.bundles.manifest import _ADDED, MANIFEST, SCHEMA
from vertebra.data.labels import LabelSet
from vertebra.data.preprocess import Preprocess
from vertebra.errors import BundleError, InvalidInputError
from vertebra.measurements import Measurement

LOGITS = np.arange(20, dtype=np.float32).reshape(2, 10)


def put_network(draft: Path) -> None:
    (draft / "model.onnx").write_bytes(b"graph")
    (draft / "model.onnx.data").write_bytes(b"parameters")


def write(folder: Path, put: Callable[[Path], None] = put_network, model: str = "small") -> Bundle:
    return bundles.write(
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
    path = folder / MANIFEST
    manifest = json.loads(path.read_text()) | values
    path.write_text(json.dumps({key: value for key, value in manifest.items() if value != "gone"}))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "small")
    return tmp_path / "small"


def test_what_was_written_is_read(folder: Path) -> None:
    kept = bundles.read(folder)
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
    return bundles.write(
        folder, put_network, model="small", logits=LOGITS, reference_seed=5, input_size=8, in_channels=3,
        versions={}, card=card,
    )  # fmt: skip


def test_a_bundle_keeps_its_card(tmp_path: Path) -> None:
    write_with(CARD, tmp_path / "small")
    kept = bundles.read(tmp_path / "small")
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
        with pytest.raises(InvalidInputError, match="card can't be read"):
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
        bundles.read(tmp_path / "small")
    kept = write_with(CARD, tmp_path / "small")
    (kept.folder / "labels.json").write_text('["one"]')
    with pytest.raises(BundleError, match=r"labels\.json was changed"):
        bundles.read(kept.folder)
    with pytest.raises(BundleError, match="1 labels; the network has 10"):
        kept.label_set()


def test_the_reference_is_repeated_or_cut_to_the_batch(folder: Path) -> None:
    images, logits = bundles.read(folder).reference_pair(5)
    assert images.shape == (5, 3, 8, 8)
    np.testing.assert_array_equal(logits, LOGITS[[0, 1, 0, 1, 0]])
    np.testing.assert_array_equal(images[0], images[4])
    assert not np.array_equal(images[0], images[1])
    first, _ = bundles.read(folder).reference_pair(1)
    np.testing.assert_array_equal(first[0], images[0])


def test_the_reference_images_are_the_same_for_ever_and_look_like_normalised_ones() -> None:
    images = bundles.reference_images(batch_size=2, in_channels=3, input_size=64, seed=0)
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
    bundles.read(folder, verify=False)
    with pytest.raises(BundleError, match=f"{name} was changed"):
        bundles.read(folder)


@pytest.mark.parametrize("name", ["model.onnx", "model.onnx.data", "reference.npz"])
def test_a_truncated_or_missing_file_is_named_even_without_hashing(folder: Path, name: str) -> None:
    (folder / name).write_bytes((folder / name).read_bytes()[:-1])
    with pytest.raises(BundleError, match=f"{name} was changed"):
        bundles.read(folder, verify=False)
    (folder / name).unlink()
    with pytest.raises(BundleError, match=f"{name} is missing"):
        bundles.read(folder, verify=False)


@pytest.mark.parametrize(
    "name", ["../secret", "/etc/passwd", "sub/file", "..", "C:\\file", "vertebra.json", ""]
)
def test_a_file_name_that_leads_out_of_the_folder_is_refused(folder: Path, name: str) -> None:
    secret = folder.parent / "secret"
    secret.write_bytes(b"graph")
    record = {"sha256": hashlib.sha256(b"graph").hexdigest(), "bytes": 5}
    change(folder, files={name: record})
    with pytest.raises(BundleError, match="not a file of this folder"):
        bundles.read(folder)


def test_a_link_out_of_the_folder_is_refused(folder: Path) -> None:
    (folder.parent / "secret").write_bytes(b"graph")
    (folder / "model.onnx").unlink()
    (folder / "model.onnx").symlink_to(folder.parent / "secret")
    with pytest.raises(BundleError, match="is a symbolic link"):
        bundles.read(folder)


def test_a_newer_schema_asks_for_an_upgrade(folder: Path) -> None:
    change(folder, schema=SCHEMA + 1, anything="new")
    with pytest.raises(BundleError, match=f"schema {SCHEMA + 1}") as caught:
        bundles.read(folder)
    assert "upgrade vertebra" in str(caught.value.hint)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "{}", '{"schema": "1"}', '{"schema": 0}', '{"schema": true}', "\0"]
)
def test_a_foreign_manifest_is_refused(folder: Path, text: str) -> None:
    (folder / MANIFEST).write_text(text)
    with pytest.raises(BundleError, match=MANIFEST):
        bundles.read(folder)


@pytest.mark.parametrize(
    "values",
    [
        {"model": 3}, {"num_classes": "10"}, {"input_size": True}, {"files": []}, {"reference": "gone"},
        {"colour": "red"}, {"files": {"model.onnx": 5}}, {"files": {"model.onnx": {"bytes": 5}}},
        {"files": {}}, {"reference": {}}, {"reference": {"seed": "0", "batch_size": 2}}, {"batch_size": 0},
    ],
)  # fmt: skip
def test_a_manifest_with_wrong_keys_or_types_is_refused(folder: Path, values: dict[str, Any]) -> None:
    change(folder, **values)
    with pytest.raises(BundleError):
        bundles.read(folder)


@pytest.mark.parametrize("there", ["nothing", "an empty folder", "a file"])
def test_what_is_no_bundle_is_told_so(tmp_path: Path, there: str) -> None:
    path = tmp_path / "x"
    if there == "an empty folder":
        path.mkdir()
    if there == "a file":
        path.write_text("x")
    told = "doesn't exist" if there == "nothing" else r"vertebra\.json"
    with pytest.raises(BundleError, match=told):
        bundles.read(path)


def test_a_bundle_next_to_the_place_named_is_offered(folder: Path) -> None:
    for place in (folder / "model.onnx", folder.parent):
        with pytest.raises(BundleError, match="is not a Bundle") as caught:
            bundles.read(place)
        assert caught.value.hint == f"pass {folder}"


def test_reference_logits_that_do_not_fit_are_refused(folder: Path) -> None:
    change(folder, num_classes=11)
    with pytest.raises(BundleError, match="logits"):
        bundles.read(folder).reference_pair(1)


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
    assert bundles.read(folder).model == "small"
    assert [path.name for path in folder.parent.iterdir()] == ["small"]


def test_a_new_bundle_takes_the_place_of_an_old_one(folder: Path) -> None:
    write(folder, model="other")
    assert bundles.read(folder).model == "other"
    assert [path.name for path in folder.parent.iterdir()] == ["small"]


def test_a_folder_of_someone_elses_is_left_untouched(tmp_path: Path) -> None:
    theirs = tmp_path / "holiday"
    theirs.mkdir()
    (theirs / "photo.jpg").write_bytes(b"sea")
    with pytest.raises(BundleError, match="is not a Bundle"):
        write(theirs)
    assert [path.name for path in theirs.iterdir()] == ["photo.jpg"]
    assert [path.name for path in tmp_path.iterdir()] == ["holiday"]


def test_what_others_put_beside_a_bundle_is_not_replaced_with_it(folder: Path) -> None:
    (folder / "notes.txt").write_text("theirs")
    with pytest.raises(BundleError, match=r"holds notes\.txt, which isn't part of the Bundle"):
        write(folder, model="other")
    assert (folder / "notes.txt").read_text() == "theirs"
    assert json.loads((folder / MANIFEST).read_text())["model"] == "small"


def test_a_damaged_bundle_may_be_replaced(folder: Path) -> None:
    (folder / MANIFEST).write_text("{")
    write(folder)
    assert bundles.read(folder).model == "small"


@pytest.mark.parametrize("inner", ["inner", "sub/inner"])
def test_no_bundle_is_written_into_another(folder: Path, inner: str) -> None:
    with pytest.raises(BundleError, match="lies inside the Bundle"):
        write(folder / inner)
    assert bundles.read(folder).model == "small"


def test_the_folder_that_one_is_in_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BundleError, match=r"^\. is the current folder"):
        write(Path())
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_can_not_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(BundleError, match="can't be written"):
        write(tmp_path / "file" / "small")


def test_a_bundle_may_be_moved(folder: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere" / "name"
    shutil.copytree(folder, moved)
    assert bundles.read(moved).network == moved / "model.onnx"


# ------------------------------------------------------------------ what a Bundle tells


def test_the_model_card_tells_what_the_network_is(tmp_path: Path) -> None:
    text = (write_with(CARD, tmp_path / "small").folder / "README.md").read_text()
    for told in (
        "# small",
        "small.pth",
        "0" * 64,
        "MIT",
        "10, named in labels.json (ten)",
        "bicubic",
        "(N, 3, 8, 8)",
    ):
        assert told in text
    untrained = (write(tmp_path / "other").folder / "README.md").read_text()
    assert "untrained, seed 1" in untrained
    assert "torch 2.9" in untrained


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = (write_with(CARD, tmp_path / name).folder for name in ("a", "b"))
    assert {path.name for path in first.iterdir()} == {path.name for path in second.iterdir()}
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes(), path.name


@pytest.mark.slow
def test_the_same_network_is_exported_to_the_same_bytes(tmp_path: Path) -> None:
    import golden_bundle
    import vertebra

    for name in ("a", "b"):
        vertebra.export(
            "squeezenet1_1", tmp_path / name, weights=golden_bundle.WEIGHTS, embed_preprocess=True
        )
    names = {path.name for path in (tmp_path / "a").iterdir()}
    assert names == {path.name for path in (tmp_path / "b").iterdir()}
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


ROW = Measurement(model="small", metric="weight_bytes", value=4096.0, origin="profiled", precision="float32")


def test_rows_stand_beside_the_bundle_and_change_nothing_else(folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    kept = bundles.read(folder)
    assert kept.rows() == []
    bundles.write_rows(kept, [ROW])
    again = bundles.read(folder)
    assert again.rows() == [ROW]
    after = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert after.keys() - before.keys() == {"rows.json"}
    assert all(after[name] == content for name, content in before.items())
    assert bundles.copy(again, folder.parent / "copy").rows() == [ROW]


def test_nothing_of_this_machine_is_in_a_bundle(tmp_path: Path) -> None:
    import golden_bundle

    secrets = [
        os.path.expanduser("~"),
        str(Path.cwd()),
        str(golden_bundle.WEIGHTS.parent),
        os.sep + "site-packages",
    ]
    for path in golden_bundle.folder().iterdir():
        content = path.read_bytes()
        for secret in secrets:
            assert len(secret) < 4 or secret.encode() not in content, f"{secret} in {path.name}"


# ------------------------------------------------------------------ older and tampered ones


def test_a_bundle_of_the_first_schema_is_read(folder: Path) -> None:
    path = folder / MANIFEST
    manifest = json.loads(path.read_text())
    for key in _ADDED[2]:
        del manifest[key]
    (folder / "README.md").unlink()
    del manifest["files"]["README.md"]
    path.write_text(json.dumps(manifest | {"schema": 1}))
    kept = bundles.read(folder)
    assert (kept.schema, kept.picture, kept.model) == (SCHEMA, None, "small")


def test_a_file_that_nobody_lists_is_refused(folder: Path) -> None:
    (folder / ".DS_Store").write_bytes(b"finder")
    bundles.read(folder)
    (folder / "extra.bin").write_bytes(b"x")
    with pytest.raises(BundleError, match=r"holds extra\.bin, which its vertebra\.json doesn't list"):
        bundles.read(folder)


@pytest.mark.parametrize("name", ["weights.pkl", "weights.PTH", "run.py"])
def test_a_file_that_runs_code_is_refused_even_if_it_is_listed(folder: Path, name: str) -> None:
    content = pickle.dumps(print)
    (folder / name).write_bytes(content)
    files = json.loads((folder / MANIFEST).read_text())["files"]
    record = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    change(folder, files={**files, name: record})
    with pytest.raises(BundleError, match="runs code"):
        bundles.read(folder)


def relist(folder: Path, name: str) -> None:
    """Put the true size and hash of a changed file into the manifest, as whoever tampers would."""
    content = (folder / name).read_bytes()
    files = json.loads((folder / MANIFEST).read_text())["files"]
    change(
        folder, files={**files, name: {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}}
    )


def test_a_pickle_in_the_reference_is_not_run(folder: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return os.mkdir, (str(folder.parent / "ran"),)

    np.savez(folder / "reference.npz", logits=np.array([Bomb()], dtype=object))
    relist(folder, "reference.npz")
    with pytest.raises(BundleError, match="can't be read"):
        bundles.read(folder).reference_pair(1)
    assert not (folder.parent / "ran").exists()


def test_a_reference_that_unpacks_to_more_than_logits_is_refused(folder: Path) -> None:
    np.savez_compressed(folder / "reference.npz", logits=np.zeros((2, 1_000_000), np.float32))
    relist(folder, "reference.npz")
    with pytest.raises(BundleError, match="unpacks to"):
        bundles.read(folder).reference_pair(1)


@pytest.mark.parametrize(
    "values",
    [
        {"num_classes": 2**40}, {"input_size": 0}, {"in_channels": -3},
        {"reference": {"seed": 0, "batch_size": 2**30}}, {"reference": {"seed": -1, "batch_size": 2}},
    ],
)  # fmt: skip
def test_sizes_that_no_network_has_are_refused(folder: Path, values: dict[str, Any]) -> None:
    change(folder, **values)
    with pytest.raises(BundleError):
        bundles.read(folder)


def test_a_linked_or_huge_manifest_is_refused(folder: Path) -> None:
    path = folder / MANIFEST
    path.rename(folder.parent / "theirs.json")
    path.symlink_to(folder.parent / "theirs.json")
    with pytest.raises(BundleError, match="is a symbolic link"):
        bundles.read(folder)
    path.unlink()
    path.write_text(" " * (2**24 + 1))
    with pytest.raises(BundleError, match=r"has 16,777,217 bytes; a manifest has 16,777,216 at most"):
        bundles.read(folder)


def test_parameters_outside_the_folder_are_not_loaded(tmp_path: Path) -> None:
    """A graph may name another file for its parameters; the runtime that opens it stays in the folder."""
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper

    (tmp_path / "secret").write_bytes(np.arange(3, dtype=np.float32).tobytes())
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[3], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", "../secret"), ("offset", "0"), ("length", "12")):
        tensor.external_data.add(key=key, value=value)
    shape = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [3]) for name in ("x", "y")]
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"])], "g", shape[:1], shape[1:], [tensor]
    )
    (tmp_path / "net").mkdir()
    path = tmp_path / "net" / "model.onnx"
    path.write_bytes(
        helper.make_model(
            graph, ir_version=9, opset_imports=[onnx.helper.make_opsetid("", 18)]
        ).SerializeToString()
    )
    with pytest.raises(Exception, match=r"(?i)external data|escapes|outside"):
        onnxruntime.InferenceSession(str(path))


# ------------------------------------------------------------------ zipped


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VERTEBRA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "unpacked"


def zipped(folder: Path, top: str = "", **more: bytes) -> Path:
    path = folder.parent / "small.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, top + file.name)
        for name, content in more.items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize("top", ["", "small/"])
def test_a_zipped_bundle_is_read_and_unpacked_once(folder: Path, cache: Path, top: str) -> None:
    path = zipped(folder, top)
    kept = bundles.read(path)
    assert (kept.model, kept.network.read_bytes()) == ("small", b"graph")
    assert bundles.read(str(path)).folder == kept.folder
    assert len(list(cache.iterdir())) == 1


def test_what_macos_puts_into_its_archives_stays_behind(folder: Path, cache: Path) -> None:
    path = zipped(folder, "small/", **{"__MACOSX/small/._model.onnx": b"x"})
    kept = bundles.read(path)
    assert sorted(file.name for file in kept.folder.iterdir()) == sorted(
        file.name for file in folder.iterdir()
    )


def test_a_file_that_an_archive_lacks_is_told_of_the_archive(folder: Path, cache: Path) -> None:
    (folder / "model.onnx").unlink()
    path = zipped(folder)
    with pytest.raises(BundleError) as caught:
        bundles.read(path)
    assert caught.value.message == f"{path / 'model.onnx'} is missing."


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "sub/evil", "C:\\evil", "evil.bin"])
def test_an_archive_with_other_files_is_refused_and_nothing_is_left(
    folder: Path, cache: Path, name: str
) -> None:
    path = zipped(folder, **{name: b"x"})
    with pytest.raises(BundleError, match=r"not a file of its Bundle|doesn't list"):
        bundles.read(path)
    assert list(cache.iterdir()) == []
    assert not (folder.parent / "evil").exists()


def test_an_archive_that_would_fill_the_disk_is_refused(folder: Path, cache: Path) -> None:
    files = json.loads((folder / MANIFEST).read_text())["files"]
    change(folder, files={**files, "zeros.bin": {"sha256": "0" * 64, "bytes": 2**28}})
    path = zipped(folder, **{"zeros.bin": bytes(2**28)})
    assert path.stat().st_size < 2**20
    with pytest.raises(BundleError, match=r"would unpack to .* bytes"):
        bundles.read(path)
    assert not cache.exists() or list(cache.iterdir()) == []


def test_an_archive_whose_contents_are_other_than_listed_is_refused(folder: Path, cache: Path) -> None:
    (folder / "model.onnx").write_bytes(b"other")  # of the same size
    with pytest.raises(BundleError, match=r"model\.onnx was changed"):
        bundles.read(zipped(folder))
    (folder / "model.onnx").write_bytes(b"longer than listed")
    with pytest.raises(BundleError, match="18 bytes; 5 are listed"):
        bundles.read(zipped(folder))
    assert list(cache.iterdir()) == []


def test_a_link_in_an_archive_is_refused(folder: Path, cache: Path) -> None:
    (folder / "model.onnx").unlink()
    path = zipped(folder)
    with zipfile.ZipFile(path, "a") as archive:
        link = zipfile.ZipInfo("model.onnx")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/")
    with pytest.raises(BundleError, match="as a link"):
        bundles.read(path)


@pytest.mark.parametrize("content", [b"", b"PK\3\4 no archive", b"text"])
def test_what_is_no_archive_is_told_so(tmp_path: Path, cache: Path, content: bytes) -> None:
    (tmp_path / "x.zip").write_bytes(content)
    with pytest.raises(BundleError, match="can't be unpacked"):
        bundles.read(tmp_path / "x.zip")


def test_an_archive_without_a_bundle_is_told_so(tmp_path: Path, cache: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("holiday.jpg", b"sea")
    with pytest.raises(BundleError, match=r"must contain exactly one vertebra\.json"):
        bundles.read(tmp_path / "x.zip")


@pytest.mark.parametrize("at", range(0, 60, 3))
def test_a_damaged_archive_is_told_so(folder: Path, cache: Path, at: int) -> None:
    """Bytes of deflated contents, of headers and of the central directory."""
    path = zipped(folder)
    content = bytearray(path.read_bytes())
    place = at * len(content) // 60
    content[place : place + 8] = bytes(byte ^ 0x5A for byte in content[place : place + 8])
    path.write_bytes(content)
    with contextlib.suppress(BundleError):  # a name or a date may change without harm
        bundles.read(path)


@pytest.mark.parametrize("name", [MANIFEST, "README.md"])
def test_deflated_bytes_that_mean_nothing_are_told(folder: Path, cache: Path, name: str) -> None:
    path = zipped(folder)
    with zipfile.ZipFile(path) as archive:
        entry = archive.getinfo(name)
    content = bytearray(path.read_bytes())
    start = entry.header_offset + 30 + len(name)
    content[start : start + 20] = b"\xff" * 20  # zlib: invalid block type
    path.write_bytes(content)
    with pytest.raises(BundleError, match="can't be unpacked"):
        bundles.read(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_an_archive_of_another_packing_is_refused(folder: Path, cache: Path, method: int) -> None:
    path = folder.parent / "small.zip"
    for packed in (MANIFEST, "model.onnx"):
        with zipfile.ZipFile(path, "w") as archive:
            for file in folder.iterdir():
                archive.write(file, file.name, method if file.name == packed else zipfile.ZIP_STORED)
        with pytest.raises(BundleError, match=f"{packed} is packed by the method {method}"):
            bundles.read(path)


def npz(path: Path, header: str, name: str = "logits", values: bytes = b"") -> None:
    text = header.encode() + b" " * (117 - len(header)) + b"\n"
    content = b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text + values
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{name}.npy", content)


@pytest.mark.parametrize(
    ("header", "told"),
    [
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,)}", r"shape \(1000000000000,\)"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 10)}", "can't be read"),
        ("{'descr': '<f4', 'fortran_order': True, 'shape': (2, 10)}", "can't be read"),
        ("{'descr': '|O', 'fortran_order': False, 'shape': (2, 10)}", "can't be read"),
        ("{'descr': '<f4', 'shape': (2, 10)}", "can't be read"),
        ("(" * 100, "can't be read"),
    ],
)
def test_the_reference_s_header_decides_before_anything_is_read(folder: Path, header: str, told: str) -> None:
    npz(folder / "reference.npz", header)
    relist(folder, "reference.npz")
    with pytest.raises(BundleError, match=told):
        bundles.read(folder).reference_pair(2)


@pytest.mark.parametrize("key", ["preprocess", "quantisation", "versions", "new"])
@pytest.mark.parametrize("levels", [65, 900, 100_000])
def test_a_manifest_that_nests_too_deeply_is_told_so(folder: Path, key: str, levels: int) -> None:
    text = (folder / MANIFEST).read_text()
    deep = "[" * levels + "]" * levels
    (folder / MANIFEST).write_text(f'{text.rstrip()[:-1]}, "{key}": {deep}}}')
    with pytest.raises(BundleError, match="64 levels deep"):
        bundles.read(folder)


HARMFUL = ["\x1b[2J", "a\nb", "a\0", "\u202eevil", "n" * 1001]


@pytest.mark.parametrize("text", HARMFUL)
@pytest.mark.parametrize(
    "key", ["model", "weights", "licence", "labels", "precision", "engines", "versions", "format"]
)
def test_a_manifest_s_texts_hold_no_control_characters(folder: Path, key: str, text: str) -> None:
    change(folder, **{key: {"engines": [text], "versions": {"torch": text}}.get(key, text)})
    with pytest.raises(BundleError, match=f"can't be its {key}") as caught:
        bundles.read(folder)
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 500


def test_a_bundle_that_could_not_be_read_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="can't be its model"):
        write(tmp_path / "small", model="a\nb")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [MANIFEST, "model.onnx", "reference.npz"])
def test_a_pipe_in_a_bundle_is_refused_at_once(folder: Path, name: str) -> None:
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(BundleError, match="is not a plain file"):
        bundles.read(folder)


# ------------------------------------------------------------------ vertebra show


def show(*arguments: Any) -> Any:
    from click.testing import CliRunner

    from vertebra import cli

    return CliRunner().invoke(cli.cli, ["show", *map(str, arguments)])


def test_show_prints_a_bundle(tmp_path: Path) -> None:
    kept = write_with(CARD, tmp_path / "small")
    bundles.write_rows(kept, [ROW])
    text = show(kept.folder)
    assert text.exit_code == 0, text.output
    for told in ("# small", "small.pth", "model.onnx.data", "weight_bytes"):
        assert told in text.stdout
    [told] = json.loads(show(kept.folder, "--json").stdout)
    assert (told["model"], told["files"], told["preprocess"]["resize"]) == ("small", kept.files, 9)
    assert told["rows"][0]["value"] == 4096


def test_show_names_what_was_changed(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"grapf")
    done = show(folder)
    assert done.exit_code != 0
    assert "model.onnx was changed" in str(done.exception)


def test_show_prints_no_commands_to_the_terminal(tmp_path: Path) -> None:
    kept = write(tmp_path / "small")
    change(kept.folder, parity={"engine": "a\x1b[31mb"})
    done = show(kept.folder)
    assert done.exit_code == 0, done.output
    assert "\x1b" not in done.stdout
