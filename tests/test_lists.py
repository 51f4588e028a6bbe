"""Lists of pictures: class numbers and paths however they are written, and headers of any names."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import pytest
from PIL import Image

from vertebra.data import datasets
from vertebra.data.datasets.dataset import class_index, whole_number
from vertebra.data.preprocess import decode
from vertebra.errors import InvalidInputError


def png(shade: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (4, 3), (shade, shade, shade)).save(stream, "PNG")
    return stream.getvalue()


def listed(root: Path, name: str, text: str, *pictures: str) -> Path:
    """A list called `name` of `text`, and `pictures`, whose shades are their places."""
    for shade, picture in enumerate(pictures):
        (root / picture).parent.mkdir(parents=True, exist_ok=True)
        (root / picture).write_bytes(png(shade))
    (root / name).write_bytes(text.encode())
    return root / name


def told(path: Path, **options) -> list[tuple[int, int]]:
    """Shade and label of each sample."""
    return [(int(decode(one.source)[0, 0, 0]), one.label) for one in datasets.open(path, **options)]


# ------------------------------------------------------------------ class numbers


@pytest.mark.parametrize("form", ["{}", "{}.0", "{}.", "+{}", "{}e0", "{:02d}", "{}0e-1", "{}.000"])
@pytest.mark.parametrize("line", ["{},{}", "{} {}", "{}\t{}"])
def test_class_numbers_are_numbers_however_they_are_written(tmp_path, form, line):
    names = [f"x{n}.png" for n in range(12)]
    lines = [line.format(name, form.format(n)) for n, name in enumerate(names)]
    found = datasets.open(listed(tmp_path, "list.csv", "\n".join(lines), *names))
    assert found.classes is None
    assert [sample.label for sample in found] == list(range(12))


def test_one_number_written_in_two_ways_is_one_class():
    assert class_index(["1", "1.0", "01", "0"]) == (None, {"0": 0, "01": 1, "1": 1, "1.0": 1})


@pytest.mark.parametrize(
    "text", ["", "1.5", "-1", "cat", "1_0", "0x1", "١", "1e400", "9" * 5000, "1e99999999999"]
)
def test_what_is_no_class_number(text):
    assert whole_number(text) is None


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("0.5", "the label is 0.5, which is not a whole number"),
        ("-1.0", "labels begin at 0"),
        ("-1", "labels begin at 0"),
        ("nan", 'the label is "nan"; the others are numbers'),
        ("NaN", "the others are numbers"),
        ("NULL", "the others are numbers"),
    ],
)
def test_a_label_that_is_no_class_among_numbers_is_refused_with_its_line(tmp_path, label, message):
    file = listed(tmp_path, "list.txt", f"a.png 1\nb.png {label}\nc.png 0\n", "a.png", "b.png", "c.png")
    with pytest.raises(InvalidInputError, match=message) as error:
        datasets.open(file)
    assert f"{file}:2: " in error.value.message


def test_parquet_s_floats_are_class_numbers(tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    labels = [float(n) for n in range(12)]
    pyarrow.parquet.write_table(pa.table({"image": [b"x"] * 12, "label": labels}), tmp_path / "a.parquet")
    assert [sample.label for sample in datasets.open(tmp_path / "a.parquet")] == list(range(12))


def test_folders_called_by_floats_are_in_the_order_of_the_numbers(tmp_path):
    for n in range(12):
        listed(tmp_path, "unused", "", f"set/{n}.0/a.png")
    found = datasets.open(tmp_path / "set")
    assert (found.classes[2], found.classes[10], found.order) == (
        "2.0",
        "10.0",
        "in the order of their numbers",
    )


# ------------------------------------------------------------------ paths


def test_two_lines_of_one_file_are_refused_with_both(tmp_path):
    file = listed(tmp_path, "val.txt", "red/0.png 0\ngreen/0.png 1\n", "0.png")
    with pytest.raises(
        InvalidInputError, match=r":2: green/0.png and red/0.png in line 1 are both the file 0.png"
    ):
        datasets.open(file)
    file = listed(tmp_path, "val.txt", "0.png 0\n./0.png 0\n", "0.png")
    with pytest.raises(InvalidInputError, match=r":2: \./0.png and 0.png in line 1"):
        datasets.open(file)


@pytest.mark.parametrize("start", ["", "set\\", "C:\\data\\set\\", "/home/user/data/set/", "../set/", "./"])
@pytest.mark.parametrize("slash", ["/", "\\"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lists_of_other_systems_and_machines_find_their_pictures(tmp_path, start, slash, end):
    text = "".join(f"{start}{colour}{slash}0.png {n}{end}" for n, colour in enumerate(("red", "blue")))
    file = listed(tmp_path / "set", "list.txt", text, "red/0.png", "blue/0.png")
    assert told(file) == [(0, 0), (1, 1)]


def test_a_missing_picture_is_not_taken_from_another_folder_where_others_are_as_written(tmp_path):
    file = listed(tmp_path, "list.txt", "red/0.png 0\nred/1.png 1\n", "red/0.png", "1.png")
    assert [Path(sample.source).exists() for sample in datasets.open(file)] == [True, False]


def test_folders_that_are_left_out_of_paths_are_said(tmp_path):
    found = datasets.open(listed(tmp_path, "list.txt", "x/a.png 0\n", "a.png"))
    assert found.assumed == ("paths are read without their first folders: x/a.png is a.png",)


def test_a_list_beside_the_folder_of_its_pictures_finds_them(tmp_path):
    file = listed(tmp_path, "labels.csv", "a.png,1\nb.png,0\n", "images/a.png", "images/b.png")
    assert told(file) == [(0, 1), (1, 0)]
    assert datasets.open(file).assumed == ("the pictures are in the folder images",)


def test_names_without_their_ending_are_found(tmp_path):
    text = "id,breed\n000bec,pug\n001513,beagle\n"
    file = listed(tmp_path, "labels.csv", text, "train/000bec.jpg", "train/001513.jpg")
    found = datasets.open(tmp_path / "train", truth=file)
    assert (found.classes, [sample.label for sample in found]) == (("beagle", "pug"), [1, 0])


def test_names_in_quotes_are_read_without_them(tmp_path):
    file = listed(tmp_path, "list.txt", "\"my photo.png\" 1\n'b.png' 0\n", "my photo.png", "b.png")
    assert told(file) == [(0, 1), (1, 0)]


def test_a_pipe_in_a_list_is_refused_before_it_is_opened(tmp_path):
    os.mkfifo(tmp_path / "b.png")
    file = listed(tmp_path, "list.txt", "a.png 0\nb.png 1\n", "a.png")
    with pytest.raises(InvalidInputError, match=r":2: b\.png is not a regular file"):
        datasets.open(file)


# ------------------------------------------------------------------ headers and dialects


@pytest.mark.parametrize(
    "header",
    ["id,label", "image_name,label", "filepaths,labels", "name,label", "fname,label", "Image Name,Class Name",
     "foto,klasse", "x,y"],
)  # fmt: skip
@pytest.mark.parametrize("numbers", [True, False])
def test_a_header_is_not_a_picture_whatever_it_calls_its_columns(tmp_path, header, numbers):
    labels = ("1", "0", "1") if numbers else ("dog", "cat", "dog")
    lines = [f"{n}.png,{label}" for n, label in enumerate(labels)]
    file = listed(tmp_path, "list.csv", "\n".join([header, *lines]), *(f"{n}.png" for n in range(3)))
    assert told(file) == [(0, 1), (1, 0), (2, 1)]
    assert "is its header" in datasets.open(file).assumed[0]


def test_columns_are_found_by_name_beside_others(tmp_path):
    text = "class id,filepaths,labels,data set\n5,a.png,dog,test\n3,b.png,cat,test\n"
    found = datasets.open(listed(tmp_path, "birds.csv", text, "a.png", "b.png"))
    assert (found.classes, [sample.label for sample in found]) == (("cat", "dog"), [1, 0])


def test_a_header_whose_columns_cannot_be_told_apart_is_named(tmp_path):
    file = listed(tmp_path, "list.csv", "foto,eins,zwei\na.png,1,2\nb.png,0,2\n", "a.png", "b.png")
    with pytest.raises(InvalidInputError, match=r":1: this looks like a header") as error:
        datasets.open(file)
    assert error.value.hint == "call the columns path and label"


def test_a_first_picture_that_is_missing_is_no_header(tmp_path):
    file = listed(tmp_path, "list.csv", "gone.png,1\na.png,0\n", "a.png")
    assert [(sample.name, sample.label) for sample in datasets.open(file)] == [("gone.png", 1), ("a.png", 0)]


def test_comments_are_left_out_and_a_picture_that_begins_so_is_not(tmp_path):
    text = "# path label, by hand\n#1.png 4\na.png 2\n# the end\n"
    assert told(listed(tmp_path, "list.txt", text, "#1.png", "a.png")) == [(0, 4), (1, 2)]


def test_mxnet_s_lists_have_the_path_last(tmp_path):
    text = "5\t1.000000\tred/a.png\n0\t0.000000\tred/b.png\n"
    assert told(listed(tmp_path, "set.lst", text, "red/a.png", "red/b.png", "0.png", "5.png")) == [
        (0, 1),
        (1, 0),
    ]


def test_hugging_face_s_metadata_labels_a_folder(tmp_path):
    lines = [json.dumps({"file_name": f"{n}.png", "label": n % 2}) for n in range(3)]
    listed(tmp_path / "train", "metadata.jsonl", "\n".join(lines), "0.png", "1.png", "2.png")
    assert told(tmp_path) == [(0, 0), (1, 1), (2, 0)]
    assert datasets.open(tmp_path).split == "train"


def test_a_list_is_called_as_its_folder(tmp_path):
    assert datasets.open(listed(tmp_path / "pets", "labels.csv", "a.png,1\n", "a.png")).name == "pets"
