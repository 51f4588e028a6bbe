"""Names of classes: ImageNet's thousand against other libraries', and files of one's own."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from vertebra.data import labels
from vertebra.errors import InvalidInputError, UnknownNameError


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_imagenet_has_a_thousand_classes_in_the_order_of_their_synsets():
    imagenet = labels.find("imagenet-1k")
    assert len(imagenet) == 1000
    assert imagenet.ids is not None
    assert list(imagenet.ids) == sorted(set(imagenet.ids))
    assert all(len(synset) == 9 and synset[0] == "n" and synset[1:].isdecimal() for synset in imagenet.ids)
    assert all(name == name.strip() and name for name in imagenet.names)


@pytest.mark.parametrize(
    ("index", "synset", "name"),
    [
        (0, "n01440764", "tench, Tinca tinca"),
        (281, "n02123045", "tabby, tabby cat"),
        (954, "n07753592", "banana"),
        (999, "n15075141", "toilet tissue, toilet paper, bathroom tissue"),
    ],
)
def test_well_known_classes_stand_where_they_should(index, synset, name):
    assert labels.find("ImageNet-1k")[index] == labels.Label(index, name, synset)


def test_imagenet_agrees_with_timm():
    timm = pytest.importorskip("timm.data")
    info = timm.ImageNetInfo("imagenet-1k")
    for label in labels.find("imagenet-1k"):
        assert label.id == info.index_to_label_name(label.index)
        assert label.name == info.index_to_description(label.index)


def test_imagenet_agrees_with_torchvision():
    meta = pytest.importorskip("torchvision.models._meta")
    apart = {134: "crane bird", 639: "maillot tank suit"}  # torchvision tells two pairs of namesakes apart
    for label, category in zip(labels.find("imagenet-1k"), meta._IMAGENET_CATEGORIES, strict=True):
        assert category == apart.get(label.index) or category in label.name.split(", ")


def test_a_class_is_found_by_synset_name_or_word():
    imagenet = labels.find("imagenet-1k")
    for text in ("n02123045", "Tabby, tabby cat", "tabby cat"):
        assert imagenet.index_of(text) == 281
    with pytest.raises(InvalidInputError, match="2 classes of imagenet-1k: 134, 517"):
        imagenet.index_of("crane")
    with pytest.raises(UnknownNameError, match="bananna") as caught:
        imagenet.index_of("bananna")
    assert "banana" in str(caught.value.hint)


@pytest.mark.parametrize("index", [-1, 1000])
def test_a_class_outside_the_set_is_refused(index):
    with pytest.raises(InvalidInputError, match="0 to 999"):
        labels.find("imagenet-1k")[index]


READABLE = {
    "one a line": "cat\ndog\n\n",
    "with a byte order mark": "\ufeffcat\ndog",
    "Windows lines": "cat\r\ndog\r\n",
    "PaddleClas's index and name": "0 cat\n1 dog\n",
    "in another order": "1 dog\n0 cat\n",
    "comma-separated": "0,cat\n1,dog\n",
    "with colons": "0: cat\n1: dog",
    "CSV with a header": "id,name\n0,cat\n1,dog\n",
    "CSV with names first": "name;id\ncat;0\ndog;1\n",
    "CSV with quotes": 'index,name\n0,"cat"\n1,"dog"\n',
    "Hugging Face's configuration": '{"model_type": "vit", "id2label": {"0": "cat", "1": "dog"}, "x": 1}',
    "with names to numbers": '{"model_type": "vit", "label2id": {"cat": 0, "dog": 1}}',
    "timm's configuration": '{"architecture": "resnet18", "label_names": ["cat", "dog"]}',
    "a JSON list": '["cat", "dog"]',
    "a JSON dict by index": '{"1": "dog", "0": "cat"}',
    "a JSON dict by name": '{"dog": 1, "cat": 0}',
}


@pytest.mark.parametrize("form", READABLE)
def test_every_form_of_a_label_file_is_read(tmp_path, form):
    read = labels.read(written(tmp_path / "labels.txt", READABLE[form]), num_classes=2)
    assert read.names == ("cat", "dog")
    assert read.ids is None


def test_a_json_dict_of_synsets_and_names_is_read(tmp_path):
    content = {"0": ["n01440764", "tench"], "1": ["n01443537", "tench"]}
    read = labels.read(written(tmp_path / "index.json", json.dumps(content)))
    assert read.ids == ("n01440764", "n01443537")
    assert read.names == ("tench", "tench")


def test_names_that_begin_with_a_number_are_names(tmp_path):
    assert labels.read(written(tmp_path / "x.txt", "3 of clubs\nking")).names == ("3 of clubs", "king")


def test_namesakes_are_allowed_where_indices_tell_them_apart(tmp_path):
    imagenet = labels.find("imagenet-1k")
    lines = "\n".join(f"{label.index} {label.name}" for label in imagenet)
    assert labels.read(written(tmp_path / "x.txt", lines), num_classes=1000).names == imagenet.names


WRONG = {
    "nothing": ("", "contains no labels"),
    "only empty lines": ("\n\n", "contains no labels"),
    "an empty line within": ("cat\n\ndog", "no name for class 1"),
    "a name twice": ("cat\ndog\ncat", 'classes 0 and 2 the same name, "cat"'),
    "an index twice": ("0 cat\n0 dog", 'class 0 twice: "cat" and "dog"'),
    "a gap": ("0 cat\n2 dog", "none for class 1"),
    "counted from one": ("1 cat\n2 dog", "none for class 0"),
    "broken JSON": ('["cat",', "not valid JSON"),
    "JSON of numbers": ("[1, 2]", "not a list or a dict of labels"),
    "JSON of a dict of dicts": ('{"0": {}}', "not a list or a dict of labels"),
    "a JSON key twice": ('{"0": "cat", "0": "dog"}', '"0" occurs twice'),
    "JSON indices that are one": ('{"0": "cat", "00": "dog"}', "twice"),
    "JSON nested very deep": ("[" * 100_000, "not valid JSON"),
    "a synset twice": ('{"0": ["n1", "cat"], "1": ["n1", "dog"]}', 'the same name, "n1"'),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_label_file_is_refused_with_the_place(tmp_path, case):
    text, message = WRONG[case]
    with pytest.raises(InvalidInputError, match=message):
        labels.read(written(tmp_path / "x.txt", text))


def test_a_file_that_is_no_text_or_not_there_is_refused(tmp_path):
    (tmp_path / "x.txt").write_bytes(b"\xff\xfe\x00")
    for path, message in ((tmp_path / "x.txt", "not UTF-8"), (tmp_path / "y.txt", "Can't read")):
        with pytest.raises(InvalidInputError, match=message):
            labels.read(path)


def test_a_wrong_count_is_refused_with_both_counts(tmp_path):
    path = written(tmp_path / "x.txt", "cat\ndog")
    for source, held in ((path, "2 labels"), ("imagenet-1k", "1000 labels")):
        with pytest.raises(InvalidInputError, match=f"{held}; the network has 3 classes"):
            labels.resolve(source, num_classes=3)


def test_a_source_is_a_set_or_a_file(tmp_path):
    assert labels.resolve("ImageNet-1k") is labels.find(labels.known()[0])
    assert labels.resolve(str(written(tmp_path / "x.txt", "cat"))).names == ("cat",)
    assert labels.resolve(written(tmp_path / "plain", "cat")).names == ("cat",)
    with pytest.raises(UnknownNameError) as caught:
        labels.resolve("imagenet-1000")
    assert "imagenet-1k" in str(caught.value.hint)


def test_names_given_in_python_are_checked_too():
    assert [label.name for label in labels.from_names(["cat", "dog"])] == ["cat", "dog"]
    with pytest.raises(InvalidInputError):
        labels.from_names(["cat", "cat"])


def test_a_key_that_occurs_twice_is_found_in_time_in_a_long_file(tmp_path):
    pairs = [f'"{number}": "name {number}"' for number in range(200_000)]
    path = written(tmp_path / "labels.json", "{" + ", ".join([*pairs, '"199999": "again"']) + "}")
    start = time.process_time()
    with pytest.raises(InvalidInputError, match='the key "199999" occurs twice'):
        labels.read(path)
    assert time.process_time() - start < 5


@pytest.mark.parametrize("text", ["[" * 100_000, '{"0": ' * 5000, "[" * 65 + "]" * 65])
def test_json_that_nests_too_deeply_is_told_so(tmp_path, text):
    with pytest.raises(InvalidInputError, match=r"levels deep|not valid JSON"):
        labels.read(written(tmp_path / "labels.json", text))


@pytest.mark.parametrize("source", ["a" * 5000, "a" * 5000 + ".txt", "a\0b.txt"])
def test_a_name_that_no_file_can_have_is_told(source):
    with pytest.raises((InvalidInputError, UnknownNameError)):
        labels.resolve(source)


SYNSETS = {
    "synset and name": "n01440764 tench, Tinca tinca\nn01443537 goldfish\n",
    "with a number": "0 n01440764 tench, Tinca tinca\n1 n01443537 goldfish\n",
    "as CSV": 'index,synset,name\n1,n01443537,goldfish\n0,n01440764,"tench, Tinca tinca"\n',
}


@pytest.mark.parametrize("form", SYNSETS)
def test_names_that_begin_with_their_synset_have_it_as_their_identifier(tmp_path, form):
    read = labels.read(written(tmp_path / "x.txt", SYNSETS[form]), num_classes=2)
    assert (read.ids, read.names) == (("n01440764", "n01443537"), ("tench, Tinca tinca", "goldfish"))
    assert read.index_of("n01443537") == read.index_of("goldfish") == 1


def test_the_kit_s_own_order_is_not_taken_for_that_of_the_outputs(tmp_path):
    with pytest.raises(InvalidInputError, match="not the outputs'"):
        labels.read(written(tmp_path / "x.txt", "n02119789 1 kit_fox\nn02100735 2 English_setter\n"))


def test_a_few_namesakes_among_many_are_allowed_and_named_where_one_is_meant(tmp_path):
    names = [label.name.partition(",")[0] for label in labels.find("imagenet-1k")]
    read = labels.read(written(tmp_path / "imagenet_classes.txt", "\n".join(names)), num_classes=1000)
    assert (read[134].name, read[517].name) == ("crane", "crane")
    with pytest.raises(InvalidInputError, match="134, 517"):
        read.index_of("crane")


def test_namesakes_with_indices_are_allowed_in_a_short_list_too(tmp_path):
    assert labels.read(written(tmp_path / "x.txt", "0 crane\n1 crane")).names == ("crane", "crane")
