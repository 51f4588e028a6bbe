"""Data sets in every layout, built tiny, and what is wrong with them named by file and line."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import lzma
import os
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vertebra.data import datasets, labels
from vertebra.data.datasets import imagenet
from vertebra.data.preprocess import decode
from vertebra.errors import InvalidInputError, UnknownNameError

SYNSETS = labels.find("imagenet-1k").ids


def png(shade: int = 0) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (4, 3), (shade, shade, shade)).save(stream, "PNG")
    return stream.getvalue()


def write(path: Path, content: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def parts(found: datasets.Dataset) -> list[tuple[str, bytes]]:
    """Each picture's name, and the bytes at the place that the set says."""
    return [(name, path.read_bytes()[begin : begin + count]) for name, path, begin, count in found.located()]


def shade(sample: datasets.Sample) -> int:
    pixels = sample.source if isinstance(sample.source, np.ndarray) else decode(sample.source)
    return int(pixels[0, 0, 0])


def told(found: datasets.Dataset) -> list[tuple[str, int, int]]:
    return [(sample.name, sample.label, shade(sample)) for sample in found]


def test_the_official_archives_have_the_digests_that_torchvision_knows():
    known = pytest.importorskip("torchvision.datasets.imagenet").ARCHIVE_META
    for name, (split, _, digest) in imagenet.ARCHIVES.items():
        assert known[split] == (name, digest)


# ------------------------------------------------------------------ class folders


def test_class_folders_are_classes_in_the_order_of_their_names(tmp_path):
    root = tmp_path / "pets"
    write(root / "dog" / "b.png", png(1))
    write(root / "cat" / "deep" / "a.PNG", png(2))
    write(root / "cat" / "notes.txt", "no picture")
    write(root / "cat" / ".hidden.png", png(3))
    write(root / ".git" / "x.png", png(4))
    found = datasets.open(root)
    assert (found.name, found.split, found.classes, len(found)) == ("pets", None, ("cat", "dog"), 2)
    assert told(found) == [("cat/deep/a.PNG", 0, 2), ("dog/b.png", 1, 1)]
    assert told(found) == told(found)


def test_folders_called_by_numbers_are_those_numbers(tmp_path):
    for number in range(11):
        write(tmp_path / str(number) / "a.png", png(number))
    assert [(sample.label, shade(sample)) for sample in datasets.open(tmp_path)] == [
        (n, n) for n in range(11)
    ]


@pytest.mark.parametrize(("split", "expected"), [(None, "val"), ("train", "train"), ("validation", "val")])
def test_of_several_splits_validation_is_meant_unless_another_is_named(tmp_path, split, expected):
    root = tmp_path / "pets"
    for number, name in enumerate(("train", "val", "test")):
        write(root / name / "cat" / "a.png", png(number))
        write(root / name / "dog" / "a.png", png(number))
    found = datasets.open(root, split=split)
    assert (found.name, found.split) == ("pets", expected)
    assert shade(next(iter(found))) == {"train": 0, "val": 1}[expected]


def test_a_split_s_own_folder_is_called_as_the_folder_above(tmp_path):
    write(tmp_path / "pets" / "test" / "cat" / "a.png", png())
    found = datasets.open(tmp_path / "pets" / "test")
    assert (found.name, found.split) == ("pets", "test")


def test_a_split_that_is_not_there_is_refused_with_those_that_are(tmp_path):
    write(tmp_path / "train" / "cat" / "a.png", png())
    write(tmp_path / "test" / "cat" / "a.png", png())
    with pytest.raises(InvalidInputError, match="no split val") as error:
        datasets.open(tmp_path, split="val")
    assert "train" in error.value.hint


def test_an_empty_class_folder_is_named(tmp_path):
    write(tmp_path / "cat" / "a.png", png())
    (tmp_path / "dog").mkdir()
    with pytest.raises(InvalidInputError, match="without a picture, such as dog"):
        datasets.open(tmp_path)


# ------------------------------------------------------------------ lists


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("val_list.txt", "in/a.png 3\nin/b c.png 0\n"),
        ("labels.csv", "path,label\nin/a.png,3\nin/b c.png,0\n"),
        ("labels.csv", "in/a.png,3\nin/b c.png,0\n"),
        ("labels.csv", "id;target;filename\n7;3;in/a.png\n8;0;in/b c.png\n"),
        ("labels.tsv", "\ufeffin/a.png\t3\r\nin/b c.png\t0\r\n"),
    ],
)
def test_lists_of_paths_and_indices(tmp_path, name, text):
    write(tmp_path / "in" / "a.png", png(1))
    write(tmp_path / "in" / "b c.png", png(2))
    found = datasets.open(write(tmp_path / name, text))
    assert (found.classes, found.num_classes) == (None, 4)
    assert told(found) == [("in/a.png", 3, 1), ("in/b c.png", 0, 2)]


def test_a_list_of_names_makes_classes_in_the_order_of_the_names(tmp_path):
    for name in ("a.png", "b.png", "c.png"):
        write(tmp_path / name, png())
    found = datasets.open(write(tmp_path / "labels.csv", "a.png,dog\nb.png,cat\nc.png,dog\n"))
    assert found.classes == ("cat", "dog")
    assert [sample.label for sample in found] == [1, 0, 1]


def test_a_flat_folder_is_labelled_by_the_list_in_it_or_above(tmp_path):
    write(tmp_path / "val" / "a.png", png(5))
    write(tmp_path / "val_list.txt", "val/a.png 7\n")
    found = datasets.open(tmp_path / "val")
    assert (found.split, [(sample.label, shade(sample)) for sample in found]) == ("val", [(7, 5)])


def test_kaggle_s_list_of_imagenet_is_understood(tmp_path):
    folder = tmp_path / "val"
    write(folder / "ILSVRC2012_val_00000001.JPEG", png(5))
    write(folder / "ILSVRC2012_val_00000002.JPEG", png(6))
    text = (
        "ImageId,PredictionString\n"
        f"ILSVRC2012_val_00000002,{SYNSETS[9]} 1 2 3 4 \n"
        f"ILSVRC2012_val_00000001,{SYNSETS[4]} 85 1 499 272 {SYNSETS[4]} 1 2 3 4 \n"
    )
    write(tmp_path / "LOC_val_solution.csv", text)
    found = datasets.open(folder)
    assert found.classes == (SYNSETS[4], SYNSETS[9])
    assert [(sample.label, shade(sample)) for sample in found] == [(1, 6), (0, 5)]


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a.png 0\na.png 1\n", 2, "occurs twice, first in line 1"),
        ("a.png 0\n\nb.png\n", 3, "no path and label"),
        ("a.png -1\n", 1, "labels begin at 0"),
        ("path,label\na.png,\n", 2, "no path and label"),
    ],
)
def test_what_is_wrong_with_a_list_is_told_with_its_line(tmp_path, text, line, message):
    write(tmp_path / "a.png", png())
    file = write(tmp_path / "list.txt", text)
    with pytest.raises(InvalidInputError, match=message) as error:
        datasets.open(file)
    assert error.value.message.startswith(f"{file}:{line}: ")


@pytest.mark.parametrize("content", [b"", b"\n\n", b"path,label\n"])
def test_an_empty_list_is_refused(tmp_path, content):
    with pytest.raises(InvalidInputError, match="lists no pictures"):
        datasets.open(write(tmp_path / "list.csv", content))


def test_a_list_that_is_no_text_is_refused(tmp_path):
    with pytest.raises(InvalidInputError, match="not UTF-8"):
        datasets.open(write(tmp_path / "list.csv", b"\xff\xfe\x00"))


def test_a_list_whose_pictures_are_elsewhere_is_refused_before_the_run(tmp_path):
    with pytest.raises(InvalidInputError, match=r"such as gone\.png, are not in"):
        datasets.open(write(tmp_path / "list.txt", "gone.png 0\n"))


def test_the_largest_label_is_known_with_its_line(tmp_path):
    for name in ("a.png", "b.png", "c.png"):
        write(tmp_path / name, png())
    found = datasets.open(write(tmp_path / "list.txt", "a.png 1\nb.png 1000\nc.png 2\n"))
    assert (found.num_classes, found.largest_at) == (1001, f"{tmp_path / 'list.txt'}:2")


# ------------------------------------------------------------------ tar shards


def tar(path: Path, members: list[tuple[str, bytes]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


@pytest.mark.parametrize("name", ["pets.tar", "pets.tar.gz"])
def test_a_shard_s_members_of_one_key_are_a_sample(tmp_path, name):
    file = tar(
        tmp_path / name,
        [("x/0.png", png(1)), ("x/0.cls", b"2\n"), ("x/1.json", b'{"label": 0}'), ("x/1.seg.png", b"?"),
         ("x/1.jpg", png(3))],
    )  # fmt: skip
    found = datasets.open(file)
    assert (found.classes, found.num_classes, len(found)) == (None, 3, 2)
    assert told(found) == [("x/0", 2, 1), ("x/1", 0, 3)]
    assert name.endswith(".gz") or parts(found) == [(sample.name, sample.source) for sample in found]
    assert (found.located is None) == name.endswith(".gz")


def test_a_folder_of_shards_is_one_data_set_of_the_split_that_is_meant(tmp_path):
    root = tmp_path / "pets"
    for number in range(2):
        name = root / f"val-{number:05d}.tar"
        tar(name, [("a.png", png(number)), ("a.cls", b"cat"), ("b.png", png(9)), ("b.cls", b"dog")])
    tar(root / "train-00000.tar", [("a.png", png(7)), ("a.cls", b"emu")])
    found = datasets.open(root)
    assert (found.split, found.classes, len(found)) == ("val", ("cat", "dog"), 4)
    assert told(found)[2] == ("val-00001.tar:a", 0, 1)
    assert datasets.open(root, split="train").classes == ("emu",)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("a.png", png())], "the sample a has no label"),
        ([("a.cls", b"1")], "the sample a has no picture"),
        ([("a.png", png()), ("a.json", b"{")], "the sample a has no label"),
        ([("a.png", png()), ("a.cls", b"1"), ("b.png", png()), ("b.cls", b"1"), ("a.png", png()),
          ("a.cls", b"1")], "the key a occurs twice"),
        ([("a.png", png()), ("a.cls", b"1" * 2**20 + b"1")], "more than"),
        ([], "contains no pictures"),
    ],
)  # fmt: skip
def test_a_broken_shard_is_refused(tmp_path, members, message):
    with pytest.raises(InvalidInputError, match=message):
        datasets.open(tar(tmp_path / "a.tar", members))


@pytest.mark.parametrize(
    ("name", "reason"),
    [("/etc/a.png", "absolute"), ("x/../../a.png", "leads outside"), ("C:\\a.png", "absolute"),
     ("..\\a.png", "leads outside")],
)  # fmt: skip
def test_a_member_that_points_outside_is_refused(tmp_path, name, reason):
    file = tar(tmp_path / "a.tar", [("0.png", png()), ("0.cls", b"0"), (name, png())])
    with pytest.raises(InvalidInputError, match=reason):
        datasets.open(file)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_in_an_archive_are_refused(tmp_path, kind):
    member = tarfile.TarInfo("a.png")
    member.type, member.linkname = kind, "/etc/passwd"
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.addfile(member)
    with pytest.raises(InvalidInputError, match=r"is a link|is not a regular file"):
        datasets.open(tmp_path / "a.tar")


def test_an_archive_that_is_cut_short_is_refused(tmp_path):
    file = tar(tmp_path / "a.tar", [("0.cls", b"0"), ("0.png", png() + bytes(20_000))])
    file.write_bytes(file.read_bytes()[:4_000])
    with pytest.raises(InvalidInputError, match=r"a\.tar"):
        list(datasets.open(file))


# ------------------------------------------------------------------ Parquet


def parquet(path: Path, columns: dict, names: list[str] | None = None) -> Path:
    pa = pytest.importorskip("pyarrow")
    table = pa.table(columns)
    if names is not None:
        features = {"label": {"names": names, "_type": "ClassLabel"}}
        told_of = json.dumps({"info": {"features": features}})
        table = table.replace_schema_metadata({"huggingface": told_of})
    import pyarrow.parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(table, path, row_group_size=2)
    return path


def test_parquet_as_hugging_face_writes_it(tmp_path):
    rows = [{"bytes": png(shade), "path": f"{shade}.png"} for shade in (1, 2, 3)]
    root = tmp_path / "pets"
    parquet(
        root / "data" / "test-00000-of-00002.parquet", {"image": rows, "label": [1, 0, 1]}, ["cat", "dog"]
    )
    parquet(root / "data" / "test-00001-of-00002.parquet", {"image": rows[:1], "label": [0]}, ["cat", "dog"])
    found = datasets.open(root / "data")
    assert (found.split, found.classes, len(found)) == ("test", ("cat", "dog"), 4)
    assert [(sample.label, shade(sample)) for sample in found] == [(1, 1), (0, 2), (1, 3), (0, 1)]


def test_parquet_of_plain_bytes_and_texts(tmp_path):
    file = parquet(tmp_path / "a.parquet", {"img": [png(1), png(2)], "class": ["dog", "cat"]})
    found = datasets.open(file)
    assert (found.classes, [sample.label for sample in found]) == (("cat", "dog"), [1, 0])


@pytest.mark.parametrize(
    ("columns", "names", "message"),
    [
        ({"image": [b""], "label": [-1]}, None, "row 0: the label is -1"),
        ({"image": [b"", b""], "label": [0, None]}, None, "row 1: the label is None"),
        (
            {"image": [b"", b""], "label": [0, 2]},
            ["cat", "dog"],
            "row 1: the label is 2; there are 2 classes",
        ),
        ({"image": ["a.png"], "label": [0]}, None, "not the bytes of pictures"),
        ({"picture_url": ["a.png"], "label": [0]}, None, "has the columns picture_url, label"),
        ({"image": [b""], "label": [0.5]}, None, "not whole numbers or text"),
    ],
)
def test_broken_parquet_is_refused_with_its_row(tmp_path, columns, names, message):
    with pytest.raises(InvalidInputError, match=message):
        datasets.open(parquet(tmp_path / "a.parquet", columns, names))


def test_a_parquet_row_without_bytes_is_an_unreadable_picture_and_its_path_is_not_followed(tmp_path):
    row = {"bytes": None, "path": str(write(tmp_path / "secret.png", png(9)))}
    rows = [row, {"bytes": png(1), "path": None}]
    found = datasets.open(parquet(tmp_path / "a.parquet", {"image": rows, "label": [0, 1]}))
    assert next(iter(found)).source == b""


# ------------------------------------------------------------------ idx


def idx(folder: Path, prefix: str, images: np.ndarray, targets: list[int], *, packed: bool = True) -> None:
    pack, ending = (gzip.compress, ".gz") if packed else (bytes, "")
    header = struct.pack(">4B3I", 0, 0, 8, 3, *images.shape)
    write(folder / f"{prefix}-images-idx3-ubyte{ending}", pack(header + images.tobytes()))
    header = struct.pack(">4BI", 0, 0, 8, 1, len(targets))
    write(folder / f"{prefix}-labels-idx1-ubyte{ending}", pack(header + bytes(targets)))


@pytest.mark.parametrize("packed", [True, False])
def test_idx_files_give_grey_pixels_three_times(tmp_path, packed):
    images = np.arange(3 * 2 * 4, dtype=np.uint8).reshape(3, 2, 4)
    idx(tmp_path / "mnist", "t10k", images, [5, 0, 9], packed=packed)
    idx(tmp_path / "mnist", "train", images[:1], [1], packed=packed)
    found = datasets.open(tmp_path / "mnist")
    assert (found.name, found.split, found.num_classes, len(found)) == ("mnist", "test", 10, 3)
    samples = list(found)
    assert [sample.label for sample in samples] == [5, 0, 9]
    assert samples[1].source.shape == (2, 4, 3)
    assert (samples[1].source == images[1][:, :, None]).all()
    assert len(datasets.open(tmp_path / "mnist", split="train")) == 1
    file = next((tmp_path / "mnist").glob("train-images*"))
    assert (datasets.open(file).name, datasets.open(file).split) == ("mnist", "train")


def test_idx_files_of_two_counts_are_refused(tmp_path):
    idx(tmp_path, "t10k", np.zeros((3, 2, 2), np.uint8), [1, 2])
    with pytest.raises(InvalidInputError, match=r"has 3 pictures; .* has 2 labels"):
        datasets.open(tmp_path)


def test_a_file_that_is_no_idx_is_refused(tmp_path):
    idx(tmp_path, "t10k", np.zeros((3, 2, 2), np.uint8), [1, 2, 3], packed=False)
    write(tmp_path / "t10k-images-idx3-ubyte", b"<html>")
    with pytest.raises(InvalidInputError, match="is not an idx file of 3 dimensions"):
        datasets.open(tmp_path)


def test_idx_files_that_are_cut_short_are_refused(tmp_path):
    idx(tmp_path, "t10k", np.zeros((3, 2, 2), np.uint8), [1, 2, 3], packed=False)
    file = tmp_path / "t10k-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(InvalidInputError, match="cut short at picture 2"):
        list(datasets.open(tmp_path))


# ------------------------------------------------------------------ ImageNet

#: The kit's own order is not that of the outputs: here it is simply reversed.
KIT_ORDER = tuple(reversed(SYNSETS))
CLSLOC = "\n".join(f"{synset} {number} word" for number, synset in enumerate(KIT_ORDER, 1))


def validation_folder(root: Path, truth: str) -> Path:
    for number in (1, 2, 3):
        write(root / "val" / f"ILSVRC2012_val_{number:08d}.JPEG", png(number))
    write(root / "ILSVRC2012_validation_ground_truth.txt", truth)
    return root / "val"


def test_the_ground_truth_goes_through_the_kit_s_own_order(tmp_path):
    folder = validation_folder(tmp_path / "imagenet", "1\n1000\n2\n")
    write(tmp_path / "imagenet" / "map_clsloc.txt", CLSLOC)
    found = datasets.open(folder)
    assert (found.split, found.classes) == ("val", SYNSETS)
    assert [sample.label for sample in found] == [999, 0, 998]


def test_the_ground_truth_alone_is_refused_for_its_numbers_mean_nothing(tmp_path):
    with pytest.raises(InvalidInputError, match="maps its numbers to classes"):
        datasets.open(validation_folder(tmp_path, "1\n2\n3\n"))


def test_a_ground_truth_of_synsets_needs_no_map(tmp_path):
    truth = "\n".join((SYNSETS[7], SYNSETS[0], SYNSETS[999]))
    assert [sample.label for sample in datasets.open(validation_folder(tmp_path, truth))] == [7, 0, 999]


@pytest.mark.parametrize(
    ("truth", "message"), [("0\n1\n2\n", ":1: "), ("1\n1001\n2\n", ":2: "), ("1\n2\n", "2 lines")]
)
def test_a_ground_truth_out_of_range_is_refused_with_its_line(tmp_path, truth, message):
    write(tmp_path / "map_clsloc.txt", CLSLOC)
    with pytest.raises(InvalidInputError, match=message):
        datasets.open(validation_folder(tmp_path, truth))


def meta_mat() -> bytes:
    savemat = pytest.importorskip("scipy.io").savemat
    kind = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O")]
    rows = [(number, synset, "word") for number, synset in enumerate(KIT_ORDER, 1)]
    rows.append((1001, "n99999999", "an inner node"))
    stream = io.BytesIO()
    savemat(stream, {"synsets": np.array(rows, dtype=kind)})
    return stream.getvalue()


def test_the_kit_s_meta_mat_is_read(tmp_path):
    folder = validation_folder(tmp_path / "imagenet", "1\n1000\n2\n")
    write(tmp_path / "imagenet" / "meta.mat", meta_mat())
    assert [sample.label for sample in datasets.open(folder)] == [999, 0, 998]


@pytest.fixture
def official(tmp_path, monkeypatch):
    """Makes a file count as the official archive of its name: by its size and its digest."""

    def declare(path: Path) -> Path:
        split = imagenet.ARCHIVES[path.name][0]
        digest = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
        monkeypatch.setitem(imagenet.ARCHIVES, path.name, (split, path.stat().st_size, digest))
        return path

    return declare


def test_the_validation_archive_is_read_in_place_with_the_kit_beside_it(tmp_path, official):
    names = [f"ILSVRC2012_val_{number:08d}.JPEG" for number in (2, 1)]
    file = tar(tmp_path / "ILSVRC2012_img_val.tar", [(names[0], png(2)), (names[1], png(1))])
    kit = "ILSVRC2012_devkit_t12/data"
    tar(
        tmp_path / "ILSVRC2012_devkit_t12.tar.gz",
        [(f"{kit}/meta.mat", meta_mat()), (f"{kit}/ILSVRC2012_validation_ground_truth.txt", b"3\n1\n")],
    )
    official(file)
    found = datasets.open(file, verify=True)
    assert (found.split, len(found), found.classes) == ("val", 2, SYNSETS)
    assert told(found) == [(names[0], 999, 2), (names[1], 997, 1)]
    assert told(datasets.open(tmp_path)) == told(found)
    assert parts(found) == [(sample.name, sample.source) for sample in found]


def test_the_training_archive_holds_an_archive_for_each_class(tmp_path, official):
    inner = [
        tar(tmp_path / "in" / f"{SYNSETS[index]}.tar", [(f"{SYNSETS[index]}_1.JPEG", png(index))])
        for index in (0, 5)
    ]
    members = [(path.name, path.read_bytes()) for path in inner]
    found = datasets.open(official(tar(tmp_path / "ILSVRC2012_img_train.tar", members)))
    assert (found.split, len(found)) == ("train", 2)
    assert [(sample.label, shade(sample)) for sample in found] == [(0, 0), (5, 5)]
    assert parts(found) == [(sample.name, sample.source) for sample in found]


def test_an_archive_of_another_size_or_digest_is_not_the_official_one(tmp_path, official):
    file = tar(tmp_path / "ILSVRC2012_img_train.tar", [(f"{SYNSETS[0]}.tar", b"")])
    with pytest.raises(InvalidInputError, match="the official archive has 147,897,477,120"):
        datasets.open(file)
    official(file)
    content = bytearray(file.read_bytes())
    content[0] ^= 1
    file.write_bytes(content)
    with pytest.raises(InvalidInputError, match="has the MD5"):
        datasets.open(file, verify=True)


# ------------------------------------------------------------------ which layout


def test_a_path_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InvalidInputError, match="There is nothing at"):
        datasets.open(tmp_path / "gone")


def test_pictures_that_nothing_labels_are_refused_with_what_was_seen(tmp_path):
    write(tmp_path / "a.png", png())
    write(tmp_path / "b.png", png())
    with pytest.raises(InvalidInputError, match=r"2 \.png files\), but no labels for them"):
        datasets.open(tmp_path)


def test_an_ambiguous_folder_is_refused_unless_told_how_to_read_it(tmp_path):
    tar(tmp_path / "a.tar", [("a.png", png()), ("a.cls", b"0")])
    write(tmp_path / "cat" / "a.png", png())
    write(tmp_path / "dog" / "a.png", png())
    with pytest.raises(InvalidInputError, match="in 2 ways: tar, folders"):
        datasets.open(tmp_path)
    assert datasets.open(tmp_path, format="tar").classes is None
    assert datasets.open(tmp_path, format="folders").classes == ("cat", "dog")


def test_two_lists_of_one_folder_are_refused_and_one_can_be_named(tmp_path):
    write(tmp_path / "a.png", png())
    write(tmp_path / "val.txt", "a.png 1\n")
    write(tmp_path / "labels.csv", "a.png,2\n")
    with pytest.raises(InvalidInputError, match="several lists of labels"):
        datasets.open(tmp_path)
    assert [sample.label for sample in datasets.open(tmp_path, truth=tmp_path / "labels.csv")] == [2]


@pytest.mark.parametrize("name", ["a.xyz", "notes"])
def test_a_file_of_no_known_kind_is_refused(tmp_path, name):
    with pytest.raises(InvalidInputError, match="Can't detect the layout of"):
        datasets.open(write(tmp_path / name, b"?"))


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(InvalidInputError, match="it contains nothing"):
        datasets.open(tmp_path)


def test_an_unknown_format_is_refused_with_the_near_one(tmp_path):
    with pytest.raises(UnknownNameError) as error:
        datasets.open(tmp_path, format="folder")
    assert '"folders"' in error.value.hint


def test_the_command_offers_every_format():
    from vertebra.cli import eval as command

    assert set(command._FORMATS) == set(datasets.FORMATS)


# ------------------------------------------------------------------ the digest


def test_a_set_s_digest_is_of_names_labels_and_sizes_in_any_order(tmp_path):
    def made(name: str, **pictures: tuple[str, int]) -> datasets.Dataset:
        for folder, (picture, size) in pictures.items():
            write(tmp_path / name / folder / picture, b"\0" * size)
        return datasets.open(tmp_path / name)

    first = made("one", cat=("a.png", 5), dog=("b.png", 6)).sha256
    assert len(first) == 64
    assert first == made("a copy", dog=("b.png", 6), cat=("a.png", 5)).sha256
    others = [
        made("bytes", cat=("a.png", 5), dog=("b.png", 7)),
        made("names", cat=("a.png", 5), dog=("c.png", 6)),
        made("labels", cat=("b.png", 6), dog=("a.png", 5)),
        made("more", cat=("a.png", 5), dog=("b.png", 6), emu=("c.png", 1)),
    ]
    assert len({first, *(other.sha256 for other in others)}) == 5


def test_the_digest_of_a_shard_is_of_its_members_and_not_of_its_name(tmp_path):
    members = [("a.png", png(1)), ("a.cls", b"0"), ("b.png", png(2) + b"\0"), ("b.cls", b"1")]
    one, other = (datasets.open(tar(tmp_path / name, members)) for name in ("one.tar", "other.tar.gz"))
    assert one.sha256 == other.sha256
    changed = datasets.open(tar(tmp_path / "changed.tar", [*members[:2], ("b.png", png(2)), members[3]]))
    assert changed.sha256 != one.sha256


# ------------------------------------------------------------------ what is left out


@pytest.mark.parametrize(
    "ending", [".jpg", ".JPEG", ".jpe", ".jfif", ".pjpeg", ".dib", ".apng", ".TIFF", ".webp"]
)
def test_every_ending_of_a_picture_counts(tmp_path, ending):
    write(tmp_path / "pets" / "cat" / f"a{ending}", png(1))
    write(tmp_path / "pets" / "dog" / "b.png", png(2))
    assert len(datasets.open(tmp_path / "pets")) == 2
    file = tar(tmp_path / "a.tar", [(f"0{ending}", png(3)), ("0.cls", b"0")])
    assert told(datasets.open(file)) == [("0", 0, 3)]


def test_what_is_left_out_of_class_folders_is_counted_by_kind(tmp_path):
    inner = ("a.png", "._a.png", "Thumbs.db", "desktop.ini", "notes.txt", "b.heic", "@eaDir/a.png/THUMB.jpg")
    for name in (*(f"cat/{one}" for one in inner), "__MACOSX/cat/._a.png", "readme.md", "c.png"):
        write(tmp_path / name, png())
    os.mkfifo(tmp_path / "cat" / "pipe.jpg")
    found = datasets.open(tmp_path)
    assert (found.classes, [sample.name for sample in found]) == (("cat",), ["cat/a.png"])
    assert {kind: count for kind, count in found.left_out.items() if count} == {
        "hidden": 5,
        "not pictures": 2,
        ".heic pictures, which can't be read": 1,
        "not regular files": 1,
        "pictures outside the class folders": 1,
    }


def test_folders_of_pictures_that_cannot_be_read_are_named_by_their_ending(tmp_path):
    write(tmp_path / "cat" / "a.ppm", b"P6")
    write(tmp_path / "dog" / "b.ppm", b"P6")
    with pytest.raises(InvalidInputError, match=r"2 \.ppm pictures, which can't be read") as error:
        datasets.open(tmp_path)
    assert error.value.hint == "convert the pictures to PNG or JPEG"
    write(tmp_path / "dog" / "b.png", png())
    with pytest.raises(InvalidInputError, match=r"such as cat \(1 \.ppm pictures"):
        datasets.open(tmp_path)


@pytest.mark.parametrize(
    "other", ["._a.png", "./._a.png", ".DS_Store", "__MACOSX/a.png", "x/.b/c.png", "README.md", "x/LICENSE"]
)
def test_members_that_are_not_of_a_sample_are_left_out(tmp_path, other):
    found = datasets.open(tar(tmp_path / "a.tar", [(other, b"?"), ("./a.png", png(1)), ("./a.cls", b"1")]))
    assert told(found) == [("a", 1, 1)]
    assert sum(found.left_out.values()) == 1


def test_a_member_s_name_with_two_dots_is_explained(tmp_path):
    with pytest.raises(InvalidInputError, match=r"consists of v1\.0/red\.0\.jpg") as error:
        datasets.open(tar(tmp_path / "a.tar", [("v1.0/red.0.jpg", png()), ("v1.0/red.0.cls", b"0")]))
    assert "two dots" in error.value.hint


def test_class_numbers_of_shards_are_numbers_in_any_form(tmp_path):
    members = [
        member for n in range(12)
        for member in ((f"{n}.png", png(n)), (f"{n}.json", json.dumps({"label": float(n)}).encode()))
    ]  # fmt: skip
    found = datasets.open(tar(tmp_path / "a.tar", members))
    assert [(sample.label, shade(sample)) for sample in found] == [(n, n) for n in range(12)]


# ------------------------------------------------------------------ hostile and damaged files


@pytest.mark.parametrize("kind", [b"x", b"g", b"L", b"K"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_header_that_claims_256_gigabytes_is_refused_before_it_is_read(tmp_path, kind, pack):
    member = tarfile.TarInfo("a")
    member.type, member.size = kind, 256 * 2**30
    file = write(tmp_path / "a.tar", pack(member.tobuf(tarfile.GNU_FORMAT) + bytes(10_240)))
    with pytest.raises(InvalidInputError, match="a header claims 274,877,906,944 bytes"):
        datasets.open(file)


@pytest.mark.parametrize("pack", [lzma.compress, gzip.compress, bz2.compress])
def test_a_damaged_packed_archive_is_refused(tmp_path, pack):
    noise = np.random.default_rng(0).integers(0, 4, 300_000, dtype=np.uint8).tobytes()
    whole = tar(tmp_path / "whole.tar", [("0.png", noise), ("0.cls", b"0")]).read_bytes()
    packed = bytearray(pack(whole))
    packed[1_000:1_200] = bytes(200)
    with pytest.raises(InvalidInputError, match="as a tar archive"):
        list(datasets.open(write(tmp_path / "a.tgz", bytes(packed))))


def test_parquet_that_is_damaged_inside_is_refused(tmp_path):
    pictures = [np.random.default_rng(n).bytes(5_000) for n in range(8)]
    file = parquet(tmp_path / "a.parquet", {"image": pictures, "label": [0, 1] * 4})
    content = bytearray(file.read_bytes())
    for start in range(0, len(content) - 2_000, 500):
        content[start + 8 : start + 200] = b"\xff" * 192
    with pytest.raises(InvalidInputError, match="as Parquet"):
        list(datasets.open(write(file, bytes(content))))


def test_names_that_are_not_utf_8_are_text_that_can_be_written(tmp_path):
    for name in (b"r\xe9d/a.png", b"blue/caf\xe9.png"):
        path = Path(os.fsdecode(os.fsencode(tmp_path / "s\udce9t") + b"/" + name))
        write(path, png())
    found = datasets.open(tmp_path / "s\udce9t")
    texts = [found.name, *found.classes, *(sample.name for sample in found), found.largest_at]
    assert texts[:3] == ["s\\udce9t", "blue", "r\\udce9d"]
    assert "".join(texts).encode().isascii()
    assert [decode(sample.source).shape for sample in found] == [(3, 4, 3)] * 2


# ------------------------------------------------------------------ ImageNet as others give it


def test_kaggle_s_imagenet_is_read_as_it_unpacks(tmp_path):
    root = tmp_path / "imagenet-object-localization-challenge"
    inner = root / "ILSVRC" / "Data" / "CLS-LOC"
    write(inner / "val" / "ILSVRC2012_val_00000001.JPEG", png(5))
    write(inner / "test" / "ILSVRC2012_test_00000001.JPEG", png(6))
    write(inner / "train" / SYNSETS[3] / f"{SYNSETS[3]}_1.JPEG", png(7))
    write(
        root / "LOC_val_solution.csv",
        f"ImageId,PredictionString\nILSVRC2012_val_00000001,{SYNSETS[4]} 1 2 3 4\n",
    )
    write(root / "LOC_synset_mapping.txt", "\n".join(f"{synset} word" for synset in SYNSETS))
    for place in (root, inner, inner / "val"):
        found = datasets.open(place)
        assert (found.split, found.classes, shade(next(iter(found)))) == ("val", (SYNSETS[4],), 5)
    assert datasets.open(root, split="train").classes == (SYNSETS[3],)


def test_photos_with_their_synset_in_the_name_need_no_list(tmp_path):
    for number in (7, 2):
        write(tmp_path / "val" / f"ILSVRC2012_val_0000000{number}_{SYNSETS[number]}.JPEG", png(number))
    found = datasets.open(tmp_path / "val")
    assert (found.split, found.classes) == ("val", SYNSETS)
    assert [(sample.label, shade(sample)) for sample in found] == [(2, 2), (7, 7)]
    assert imagenet.is_named_validation(found)


def test_synset_folders_with_a_list_beside_them_are_class_folders(tmp_path):
    for index in (5, 999):  # the synsets of the last classes begin with n1
        write(tmp_path / "val" / SYNSETS[index] / f"ILSVRC2012_val_{index:08d}.JPEG", png(index % 256))
    write(tmp_path / "val" / "val.txt", "ILSVRC2012_val_00000005.JPEG 5\n")
    assert datasets.open(tmp_path / "val").classes == (SYNSETS[5], SYNSETS[999])


def test_a_repository_with_its_shards_in_one_folder_is_read(tmp_path):
    root = tmp_path / "pets"
    write(root / "README.md", "# pets")
    parquet(root / "data" / "test-00000-of-00001.parquet", {"image": [png(1)], "label": [0]})
    parquet(root / "data" / "train-00000-of-00001.parquet", {"image": [png(2)], "label": [0]})
    found = datasets.open(root)
    assert (found.name, found.split, shade(next(iter(found)))) == ("pets", "test", 1)
    assert shade(next(iter(datasets.open(root, split="train")))) == 2


@pytest.mark.parametrize("name", ["a" * 5_000, "a\0b", "pipe", "sub/pipe.csv"])
def test_a_place_that_is_no_file_or_folder_is_refused(tmp_path, name):
    (tmp_path / "sub").mkdir()
    for pipe in ("pipe", "sub/pipe.csv"):
        os.mkfifo(tmp_path / pipe)
    with pytest.raises(InvalidInputError, match=r"There is nothing at|No file can be called") as error:
        datasets.open(f"{tmp_path}/{name}")
    assert len(error.value.message) < 400
    write(tmp_path / "pictures" / "a.png", png())
    with pytest.raises(InvalidInputError, match="not a regular file"):
        datasets.open(tmp_path / "pictures", truth=tmp_path / "sub" / "pipe.csv")


def test_an_error_of_the_disk_is_told_and_no_traceback(tmp_path, monkeypatch):
    write(tmp_path / "cat" / "a.png", png())

    def denied(*_):
        raise PermissionError(13, "Permission denied", str(tmp_path / "cat"))

    monkeypatch.setattr("vertebra.data.datasets.folders.walk", denied)
    with pytest.raises(InvalidInputError, match=r"Can't read .*/cat: Permission denied"):
        datasets.open(tmp_path)
