"""Folds: every class in each, no group cut, the same each time; and the split as it is saved."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass

import pytest

from vertebra.data import folds
from vertebra.errors import InvalidInputError


@dataclass(frozen=True)
class One:
    name: str
    label: int
    sha256: str
    group: int


def cells(labels, given):
    """How many pictures of each class are in each fold."""
    return Counter(zip(labels, given, strict=True))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    "sizes", [(20, 20, 20), (100, 7, 5), (6, 5), (13,) * 30, (1000, 5)], ids=lambda sizes: str(len(sizes))
)
def test_each_class_is_spread_evenly_over_all_folds(sizes, seed):
    labels = [label for label, size in enumerate(sizes) for _ in range(size)]
    given = folds.split(labels, range(len(labels)), 5, seed)
    for label, size in enumerate(sizes):
        shares = [cells(labels, given)[label, fold] for fold in range(5)]
        assert sorted(shares) == sorted(size // 5 + (place < size % 5) for place in range(5))
    totals = Counter(given).values()
    assert max(totals) - min(totals) <= 2


@pytest.mark.parametrize("seed", range(20))
def test_no_group_is_cut_and_every_class_is_in_all_folds(seed):
    chance = random.Random(seed)
    labels, groups = [], []
    for label in range(4):
        for _ in range(chance.randint(5, 30)):  # groups of this class
            groups += [len(set(groups))] * chance.choice([1, 1, 1, 2, 8])
            labels += [label] * (len(groups) - len(labels))
    for group in set(chance.sample(groups, 3)):  # groups of several classes
        groups.append(group)
        labels.append(chance.randrange(4))
    given = folds.split(labels, groups, 5, seed)
    assert len(set(zip(groups, given, strict=True))) == len(set(groups))
    assert len(cells(labels, given)) == 4 * 5


def test_the_same_arguments_give_the_same_folds_and_another_seed_others():
    labels = [0, 1] * 30
    assert folds.split(labels, range(60), 5) == folds.split(labels, range(60), 5)
    assert folds.split(labels, range(60), 5) != folds.split(labels, range(60), 5, seed=1)


@pytest.mark.parametrize(
    ("labels", "groups", "count", "said"),
    [
        ([0] * 9 + [1] * 9, range(18), 5, None),
        ([0] * 9 + [1] * 3, range(12), 3, "3 folds, not 5: the class dog has only 3 pictures"),
        (
            [0] * 9 + [1] * 4, [*range(9), 9, 9, 10, 10], 2,
            "2 folds, not 5: the class dog has only 2 groups of pictures (4 pictures)",
        ),
    ],
)  # fmt: skip
def test_there_are_as_many_folds_as_the_smallest_class_has_groups(labels, groups, count, said):
    assert folds.possible(labels, groups, 5, ["cat", "dog"]) == (count, said)
    assert len(set(folds.split(labels, groups, 5, names=["cat", "dog"]))) == count


@pytest.mark.parametrize(
    ("labels", "groups", "asked", "message"),
    [
        ([], [], 5, "No picture counts"),
        ([1, 1, 1], [0, 1, 2], 5, "All 3 pictures are of one class, dog"),
        ([0, 0, 1], [0, 1, 2], 5, "The class dog has a single picture."),
        ([0, 1, 2, 2], [0, 1, 2, 3], 5, r"The class cat has a single picture \(2 classes are so\)"),
        ([0, 0, 1, 1], [0, 1, 2, 2], 5, "All 2 pictures of the class dog are of one group"),
        ([0, 0, 1, 1], [0, 1, 0, 1], 1, "1 folds were asked for"),
        ([0, 0], [1], 2, "There are 2 labels and 1 groups"),
        ([0, 1, 0, 1, 0, 1], [0, 0, 0, 1, 1, 2], 2, None),
        ([0, 1, 1, 2, 2, 0], [0, 0, 1, 1, 2, 2], 2, "The groups hold pictures of several classes"),
    ],
)
def test_what_cannot_be_split(labels, groups, asked, message):
    if message is None:
        assert len(set(folds.split(labels, groups, asked))) == 2
        return
    with pytest.raises(InvalidInputError, match=message) as caught:
        folds.split(labels, groups, asked, names=["cat", "dog", "owl"])
    assert caught.value.hint or asked < 2 or len(labels) != len(groups)


# ------------------------------------------------------------------ saved

KEPT = [One('a, "b".jpg', 0, "aa", 0), One("c\n.jpg", 1, "bb", 0), One("=d.jpg", 0, "cc", 1)]


def test_a_saved_split_is_read_back(tmp_path):
    folds.write(tmp_path / "split.csv", KEPT, (1, 1, 0), classes=["cat", "dog"])
    assert (tmp_path / "split.csv").read_text().splitlines()[0] == "name,class,fold,group,sha256"
    assert '"a, ""b"".jpg",cat,1,0,aa' in (tmp_path / "split.csv").read_text()
    assert folds.read(tmp_path / "split.csv", KEPT[::-1], classes=["cat", "dog"]) == (0, 1, 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda kept: kept[1:], "which isn't among the pictures"),
        (lambda kept: [*kept, One("new.jpg", 0, "dd", 3)], "lacks new.jpg"),
        (lambda kept: [One(kept[0].name, 0, "ee", 0), *kept[1:]], "isn't the picture that the split"),
        (lambda kept: [One(kept[0].name, 1, "aa", 0), *kept[1:]], "is of the class 1; in the split .* of 0"),
        (lambda kept: [*kept[:2], One("=d.jpg", 0, "cc", 0)], "has them in two folds"),
    ],
)
def test_a_split_of_other_pictures_is_refused(tmp_path, change, message):
    folds.write(tmp_path / "split.csv", KEPT, (1, 1, 0))
    with pytest.raises(InvalidInputError, match=message):
        folds.read(tmp_path / "split.csv", change(KEPT))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "its columns aren't name, class"),
        (b"name,fold\na,1\n", "its columns aren't name, class"),
        (b"name,class,fold,group,sha256\na,0,x,0,aa\n", "row 2"),
        (b"name,class,fold,group,sha256\na,0,1,0,aa\na,0,1,0,aa\n", "row 3"),
        (b"\xff\xfe", "isn't a saved split"),
        (None, "Can't read"),
    ],
)
def test_what_is_no_saved_split(tmp_path, content, message):
    if content is not None:
        (tmp_path / "split.csv").write_bytes(content)
    with pytest.raises(InvalidInputError, match=message):
        folds.read(tmp_path / "split.csv", KEPT)
