"""The parts of a data set: which names mean one, and which of them is read."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from vertebra.data import datasets
from vertebra.data.datasets import splits
from vertebra.errors import InvalidInputError

STREAM = io.BytesIO()
Image.new("RGB", (4, 3)).save(STREAM, "PNG")
PNG = STREAM.getvalue()


def laid_out(root: Path, *files: str) -> Path:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(PNG)
    return root


def classes(*folders: str) -> list[str]:
    """Two class folders with a picture in each of `folders`, the first with one more."""
    return [f"{folder}/{name}.png" for folder in folders for name in ("cat/a", "dog/b")] + [
        f"{folders[0]}/cat/more.png"
    ]


@pytest.mark.parametrize(
    ("names", "split"),
    [
        (
            "train Train TRAINING trn training_set train-set trainset seg_train train2017 train_images",
            "train",
        ),
        ("val valid validation dev eval evaluation Val valset val_images validation-set", "val"),
        ("test Testing tests test_set seg_test test1 t10k holdout", "test"),
    ],
)
def test_a_split_is_known_by_its_many_names(names, split):
    assert {splits.named(name) for name in names.split()} == {split}


@pytest.mark.parametrize(
    "name", ["latest", "contest", "trained", "images", "seg_pred", "cat", "value", "set", ""]
)
def test_other_names_mean_no_split(name):
    assert splits.named(name) is None


@pytest.mark.parametrize(
    ("train", "test"), [("Training", "Testing"), ("training_set", "test_set"), ("seg_train", "seg_test")]
)
def test_parts_under_other_names_are_never_classes(tmp_path, train, test):
    found = datasets.open(laid_out(tmp_path / "scenes", *classes(train, test)))
    assert (found.name, found.split, found.classes, len(found)) == ("scenes", "test", ("cat", "dog"), 2)
    assert len(datasets.open(tmp_path / "scenes", split="train")) == 3


def test_parts_that_unpack_into_folders_of_their_own_name_are_found(tmp_path):
    laid_out(tmp_path, *classes("seg_train/seg_train", "seg_test/seg_test"))
    laid_out(tmp_path, "seg_pred/seg_pred/1.png")
    assert len(datasets.open(tmp_path, split="train")) == 3
    assert len(datasets.open(tmp_path, split="seg_test")) == 2


@pytest.mark.parametrize("other", ["images", "examples", "chest_xray/train/cat"])
def test_a_split_that_was_asked_for_is_read_whatever_is_beside_it(tmp_path, other):
    root = laid_out(tmp_path / "set", *classes("train", "val"), f"{other}/1.png")
    found = datasets.open(root, split="val")
    assert (found.split, found.classes, len(found)) == ("val", ("cat", "dog"), 2)
    assert len(datasets.open(root, split="Training")) == 3
    with pytest.raises(InvalidInputError, match="has no split test") as error:
        datasets.open(root, split="test")
    assert error.value.hint == "its splits: train, val"


def test_splits_beside_other_folders_are_ambiguous(tmp_path):
    laid_out(tmp_path, *classes("train", "val"), "images/1.png")
    with pytest.raises(
        InvalidInputError, match=r"folders of splits \(train, val\) and others \(images\)"
    ) as error:
        datasets.open(tmp_path)
    assert "--split train or --split val" in (error.value.hint or "")
    assert datasets.open(tmp_path, format="folders").classes == ("images", "train", "val")


def test_a_class_may_be_called_test_if_the_user_says_so(tmp_path):
    laid_out(tmp_path, "cat/1.png", "test/2.png")
    with pytest.raises(InvalidInputError, match="folders of splits"):
        datasets.open(tmp_path)
    assert datasets.open(tmp_path, format="folders").classes == ("cat", "test")


@pytest.mark.parametrize(
    "litter", ["__MACOSX", "@eaDir", "$RECYCLE.BIN", ".ipynb_checkpoints", "annotations"]
)
def test_litter_and_folders_without_pictures_make_nothing_ambiguous(tmp_path, litter):
    laid_out(tmp_path, *classes("train", "val"))
    (tmp_path / litter).mkdir()
    (tmp_path / litter / ("1.png" if litter != "annotations" else "1.xml")).write_bytes(PNG)
    assert datasets.open(tmp_path).split == "val"


@pytest.mark.parametrize("split", ["val", "banana", "test"])
def test_a_split_is_never_only_a_name_for_what_is_there(tmp_path, split):
    laid_out(tmp_path / "pets", "cat/1.png", "dog/2.png")
    with pytest.raises(InvalidInputError, match=f"has no split {split}: nothing in it names a split"):
        datasets.open(tmp_path / "pets", split=split)
    with pytest.raises(InvalidInputError, match="it is the split train"):
        datasets.open(laid_out(tmp_path / "train", "cat/1.png", "dog/2.png"), split=split)


def test_imagenet_s_validation_photos_are_the_split_val_without_a_folder_of_that_name(tmp_path):
    laid_out(tmp_path / "photos", "n01440764/ILSVRC2012_val_00000293.JPEG")
    assert datasets.open(tmp_path / "photos", split="val").split == "val"


def test_two_folders_of_one_split_are_refused_and_each_can_be_named(tmp_path):
    laid_out(tmp_path, *classes("validation", "val"))
    with pytest.raises(InvalidInputError, match="2 folders of the split val: val, validation"):
        datasets.open(tmp_path)
    assert len(datasets.open(tmp_path, split="validation")) == 3
    assert len(datasets.open(tmp_path, split="val")) == 2


def test_folders_that_all_hold_the_same_folders_are_asked_about(tmp_path):
    laid_out(tmp_path, *classes("fold0", "fold1"), "fold0/emu/1.png")
    with pytest.raises(InvalidInputError, match="holds the folders cat, dog: these may be parts"):
        datasets.open(tmp_path)
    assert len(datasets.open(tmp_path, split="fold1")) == 2
    assert datasets.open(tmp_path, format="folders").classes == ("fold0", "fold1")


@pytest.mark.parametrize("column", ["split", "subset", "data set", "Usage"])
def test_a_column_of_a_list_says_the_split_of_each_line(tmp_path, column):
    laid_out(tmp_path, *(f"{n}.png" for n in range(4)))
    text = f"path,label,{column}\n0.png,0,train\n1.png,1,Training\n2.png,0,test\n3.png,1,train\n"
    (tmp_path / "labels.csv").write_text(text)
    found = datasets.open(tmp_path, split="test")
    assert ([sample.name for sample in found], found.split) == (["2.png"], "test")
    assert found.left_out == {"lines of other splits": 3}
    assert len(datasets.open(tmp_path, split="train")) == 3
    assert datasets.open(tmp_path).split == "test"
    with pytest.raises(InvalidInputError, match="has no split val"):
        datasets.open(tmp_path, split="val")


def test_a_split_that_nobody_asked_for_is_said(tmp_path):
    folders = laid_out(tmp_path / "folders", *classes("Training", "Testing"))
    lines = laid_out(tmp_path / "lines", "0.png", "1.png")
    (lines / "labels.csv").write_text("path,label,split\n0.png,0,train\n1.png,1,test\n")
    said = "the split test is read, not train; to choose: --split"
    for place in (folders, lines):
        assert datasets.open(place).assumed[-1] == said
        assert said not in datasets.open(place, split="test").assumed
    assert datasets.open(folders / "Testing").assumed == ()
    assert datasets.open(laid_out(tmp_path / "one", *classes("val"))).assumed == ()


def test_fastai_s_column_is_valid_says_the_split(tmp_path):
    laid_out(tmp_path, "0.png", "1.png")
    (tmp_path / "labels.csv").write_text("name,label,is_valid\n0.png,cat,False\n1.png,dog,True\n")
    assert [sample.name for sample in datasets.open(tmp_path)] == ["1.png"]
    assert [sample.name for sample in datasets.open(tmp_path, split="train")] == ["0.png"]


def test_a_list_without_such_a_column_has_no_other_split_than_its_name_s(tmp_path):
    laid_out(tmp_path, "0.png")
    (tmp_path / "val_list.txt").write_text("0.png 0\n")
    assert datasets.open(tmp_path / "val_list.txt", split="val").split == "val"
    with pytest.raises(InvalidInputError, match="it is the split val"):
        datasets.open(tmp_path / "val_list.txt", split="test")
    (tmp_path / "test.txt").write_text("0.png 7\n")
    assert [sample.label for sample in datasets.open(tmp_path, split="test")] == [7]


def test_a_column_of_parquet_says_the_split_of_each_row(tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    columns = {"image": [b"a", b"b", b"c"], "label": [0, 1, 0], "split": ["train", "test", "train"]}
    pyarrow.parquet.write_table(pa.table(columns), tmp_path / "pets.parquet")
    found = datasets.open(tmp_path / "pets.parquet")
    assert ([sample.source for sample in found], found.split) == ([b"b"], "test")
    assert found.assumed == ("the split test is read, not train; to choose: --split",)
    assert datasets.open(tmp_path / "pets.parquet", split="test").assumed == ()
    assert len(datasets.open(tmp_path / "pets.parquet", split="train")) == 2
    with pytest.raises(InvalidInputError, match="has no split val"):
        datasets.open(tmp_path / "pets.parquet", split="val")


def test_a_shard_or_parquet_without_splits_is_of_none(tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    pyarrow.parquet.write_table(pa.table({"image": [b"a"], "label": [0]}), tmp_path / "pets.parquet")
    with pytest.raises(InvalidInputError, match="nothing in it names a split"):
        datasets.open(tmp_path / "pets.parquet", split="test")
