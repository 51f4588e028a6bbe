"""The race between networks: who wins and why, and a figure that the choice doesn't flatter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from vertebra.errors import InvalidInputError, MeasurementError
from vertebra.measuring.evaluation import crossing, heads, learning, racing
from vertebra.measuring.evaluation.paired import paired
from vertebra.measuring.evaluation.racing import Entry


class Network:
    """Features around a centre a class, `apart` from another; remembers which rows it was asked for."""

    def __init__(self, labels: np.ndarray, apart: float, seed: int, features: int = 12) -> None:
        drawn = np.random.default_rng(seed)
        centres = drawn.normal(size=(int(labels.max()) + 1, features)) * apart
        self.vectors = (drawn.normal(size=(len(labels), features)) + centres[labels]).astype(np.float32)
        self.asked: list[list[int]] = []
        self.fails_from: int | None = None

    def __call__(self, rows: Sequence[int]) -> Any:
        self.asked.append(list(rows))
        if self.fails_from is not None and len(self.asked) > self.fails_from:
            raise MeasurementError("It crashed.")
        return self.vectors[list(rows)]


def pictures(count: int, classes: int = 3, folds: int = 5) -> tuple[np.ndarray, list[int]]:
    labels = np.random.default_rng(0).permutation(np.arange(count) % classes)
    return labels, heads.dealt(labels.tolist(), None, folds).tolist()


def raced(
    labels: np.ndarray, folds: list[int], networks: dict[str, tuple[float, Any]], **options: Any
) -> Any:
    entries = [Entry(name, cost, features) for name, (cost, features) in networks.items()]
    return racing.race(entries, labels.tolist(), folds, penalty=options.pop("penalty", 0.1), **options)


def test_a_better_network_wins_though_it_is_slower():
    labels, folds = pictures(200)
    found = raced(
        labels, folds, {"fast": (1, Network(labels, 0.5, 1)), "good": (20, Network(labels, 0.9, 2))}
    )
    good, fast = found.outcomes
    assert good.held.accuracy - fast.held.accuracy > 0.1
    assert (found.winner, found.chosen) == ("good", ("good",) * 5)
    assert (good.difference, good.why) == (None, "right most often")
    assert fast.difference.high < 0
    assert fast.why.startswith("surely less often right: -")
    assert found.nested.accuracy == good.held.accuracy
    assert found.runner_up is fast
    assert found.learnt


def test_a_tie_goes_to_the_faster():
    labels, folds = pictures(120)
    slow, fast = Network(labels, 0.7, 1), Network(labels, 0.7, 1)
    fast.vectors[:4] += 3  # a little worse
    found = raced(labels, folds, {"slow": (9, slow), "fast": (2, fast)})
    assert found.winner == "fast"
    assert found.outcomes[1].difference.tied
    assert found.outcomes[1].why.endswith("and slower: 9 ms, not 2 ms")
    again = raced(labels, folds, {"slow": (2, slow), "fast": (9, fast)})
    assert again.winner == "slow"


def test_few_pictures_come_first_and_those_that_cannot_win_leave():
    labels, folds = pictures(1200)
    good, bad = Network(labels, 1.0, 1), Network(labels, 0.0, 2)
    found = raced(labels, folds, {"good": (5, good), "bad": (1, bad)})
    first, second, last = found.rounds
    assert (first, last) == (pytest.approx(120, abs=30), 1200)
    assert first < second < 600
    assert [len(rows) for rows in bad.asked] == [first]
    assert set(good.asked[0]) < set(good.asked[1]) < set(good.asked[2]) == set(range(1200))
    counts = np.bincount(labels[good.asked[0]])
    assert counts.min() == counts.max()
    assert [(one.name, one.pictures) for one in found.outcomes] == [("good", 1200), ("bad", first)]
    assert f"surely less often right on {first:,} pictures" in found.outcomes[1].why


def test_the_network_is_chosen_without_the_fold_that_it_answers():
    """Network b alone knows fold 2, and nothing else: chosen for fold 2 it would be right there."""
    labels, folds = pictures(200)
    b, place = Network(labels, 0.0, 2), np.array(folds)
    b.vectors[place == 2] = 9 * np.eye(12, dtype=np.float32)[labels[place == 2]]
    found = raced(labels, folds, {"a": (1, Network(labels, 0.7, 1)), "b": (1, b)})
    assert found.chosen[2] == "a"
    a = found.outcomes[0]
    assert (found.nested.logits[place == 2] == a.held.logits[place == 2]).all()


@pytest.mark.parametrize(("races", "networks"), [(12, 4), pytest.param(200, 10, marks=pytest.mark.slow)])
def test_the_best_of_useless_networks_isn_t_better_than_chance(races, networks):
    labels, folds = pictures(40, classes=2, folds=4)
    nested, flattered = [], []
    for race in range(races):
        drawn = {str(one): (1.0, Network(labels, 0.0, 1000 * race + one, 3)) for one in range(networks)}
        found = raced(labels, folds, drawn)
        nested.append(found.nested.accuracy)
        flattered.append(found.held.accuracy)
    error = float(np.std(nested)) / races**0.5
    assert abs(np.mean(nested) - 0.5) < 2.6 * error
    assert np.mean(flattered) > 0.5 + 4 * error  # what would be printed if the choice weren't nested


def test_equally_good_networks_differ_surely_in_few_draws():
    drawn, sure, draws = np.random.default_rng(3), 0, 50
    for _ in range(draws):
        labels, folds = pictures(90)
        centres = 0.6 * drawn.normal(size=(3, 12))[labels]
        right = []
        for _ in range(2):
            vectors = (centres + drawn.normal(size=centres.shape)).astype(np.float32)
            held = crossing.held(vectors, labels, folds, classes=3, penalty=0.1)
            right.append(held.answered_right)
        sure += not paired(*right).tied
    assert sure <= 0.05 * draws + 2.6 * (draws * 0.05 * 0.95) ** 0.5


def test_a_network_without_features_is_named_and_left_out():
    labels, folds = pictures(300)
    broken, late, strange = (Network(labels, 2.0, seed) for seed in (1, 2, 3))
    broken.fails_from, late.fails_from, strange.vectors = 0, 1, strange.vectors.copy()
    strange.vectors[7, 0] = np.nan
    networks = {"broken": (1, broken), "late": (1, late), "strange": (1, strange)}
    found = raced(labels, folds, {**networks, "sound": (9, Network(labels, 0.5, 4))})
    assert found.winner == "sound"
    assert found.outcomes[0].why == "no other gave features"
    told = {one.name: (one.why, one.held) for one in found.outcomes[1:]}
    assert told == {
        "broken": ("It crashed.", None),
        "late": ("It crashed.", None),
        "strange": ("The features of picture 7 aren't finite numbers.", None),
    }


def test_no_network_left_is_an_error_that_names_each():
    labels, folds = pictures(60)
    broken = Network(labels, 1.0, 1)
    broken.fails_from = 0
    with pytest.raises(MeasurementError, match=r"No network is left.*one: It crashed\.; two: It crashed\."):
        raced(labels, folds, {"one": (1, broken), "two": (2, broken)})


def test_a_winner_that_fails_at_the_last_step_gives_way():
    labels, folds = pictures(90)
    best = Network(labels, 1.5, 1)
    best.fails_from = 1
    found = raced(labels, folds, {"best": (1, best), "second": (2, Network(labels, 0.5, 2))})
    assert found.winner == "second"
    assert set(found.chosen) == {"second"}
    assert found.outcomes[1].why == "It crashed."


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([], "without a network"),
        ([Entry("a", 1, list), Entry("a", 2, list)], "a is in the race twice"),
        ([Entry("a", float("nan"), list)], "The cost of a isn't a number"),
    ],
)
def test_a_race_that_cannot_be_run_is_refused(entries, message):
    with pytest.raises(InvalidInputError, match=message):
        racing.race(entries, [0, 1, 0, 1], [0, 0, 1, 1])


def test_a_single_network_is_asked_about_all_pictures_at_once():
    labels, folds = pictures(300)
    alone = Network(labels, 0.6, 1)
    found = raced(labels, folds, {"alone": (1, alone)}, penalty=None)
    assert found.rounds == (300,)
    assert (found.winner, found.runner_up, found.outcomes[0].why) == (
        "alone",
        None,
        "the only network in the race",
    )
    assert found.nested.accuracy == found.held.accuracy
    assert found.head.penalty in heads.PENALTIES
    assert found.head.weights.shape == (12, 3)


def test_shuffled_labels_are_told():
    labels, folds = pictures(150)
    useless = {str(seed): (1, Network(labels, 0.0, seed)) for seed in range(4)}
    found = raced(labels, folds, useless)
    assert not found.learnt
    assert "no sure difference" in found.verdict
    assert found.nested.low <= found.nested.majority <= found.nested.high


def test_groups_stay_whole_in_every_round():
    labels = np.repeat(np.arange(400) % 2, 2)
    groups = np.repeat(np.arange(400), 2).tolist()
    folds = heads.dealt(labels.tolist(), groups, 5).tolist()
    good = Network(labels, 1.0, 1)
    raced(labels, folds, {"a": (1, good), "b": (2, Network(labels, 1.0, 2))}, groups=groups)
    assert len(good.asked[0]) < 200
    assert all(row ^ 1 in good.asked[0] for row in good.asked[0])


def test_the_progress_names_each_round():
    labels, folds = pictures(300)
    seen = []
    raced(
        labels, folds, {"a": (1, Network(labels, 1.0, 1)), "b": (2, Network(labels, 1.0, 2))},
        progress=seen.append,
    )  # fmt: skip
    assert seen[0].text.startswith("comparing networks on 1")
    assert (seen[-1].text, seen[-1].done, seen[-1].total) == ("comparing networks on 300 pictures", 2, 2)


def test_a_class_that_gains_from_more_pictures_is_told():
    """Class 0 has 150 looks, of which half of the pictures show fewer; classes 1 and 2 have one look each."""
    drawn = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], 300)
    vectors = np.zeros((900, 151), np.float32)
    vectors[np.arange(300), drawn.permutation(np.arange(300) % 150)] = 5
    vectors[600:, 150] = 5
    folds = heads.dealt(labels.tolist(), None, 2)
    found = crossing.held(vectors, labels, folds, classes=3, penalty=1.0)
    curve = learning.learn(vectors, found, classes=3)
    assert [point.share for point in curve.points] == [0.25, 0.5, 1.0]
    assert [point.fitted for point in curve.points] == [
        pytest.approx(113, abs=3),
        pytest.approx(225, abs=3),
        450,
    ]
    assert curve.points[-1].accuracy == found.accuracy
    first, second, third = curve.by_class
    assert first.more_helps is True
    assert (second.more_helps, third.more_helps) == (False, False)
    assert curve.gaining == (0,)
    assert curve.gain.pair.difference == pytest.approx(first.pair.difference / 3)


def test_what_few_pictures_cannot_tell_is_not_told():
    labels, folds = pictures(30)
    vectors = Network(labels, 0.6, 3).vectors
    found = crossing.held(vectors, labels, folds, classes=3, penalty=0.1)
    curve = learning.learn(vectors, found, classes=3)
    assert [one.more_helps for one in curve.by_class] == [None, None, None]


def prepared(labels: np.ndarray, apart: float, better: float | None = None) -> tuple[Network, Network]:
    """A network, and the same on pictures prepared otherwise."""
    own = Network(labels, apart, 1)
    other = Network(labels, apart if better is None else better, 1)
    return own, other


@pytest.mark.parametrize(
    ("better", "winner", "why"),
    [
        (1.2, "a, whole", "surely right more often: +"),
        (0.5, "a", "the only network in the race"),  # a tie goes to its own
        (0.2, "a", "the only network in the race"),
    ],
)
def test_pictures_prepared_otherwise_are_taken_where_surely_better(better, winner, why):
    labels, folds = pictures(200)
    own, other = prepared(labels, 0.5, better)
    entry = Entry("a", 3, own, Entry("a, whole", 3, other))
    found = racing.race([entry], labels.tolist(), folds, penalty=0.1)
    assert (found.winner, set(found.chosen)) == (winner, {winner})
    assert found.outcomes[0].why.startswith(why)
    assert found.otherwise is found.outcomes[1]
    assert found.otherwise.name in {"a", "a, whole"} - {winner}
    assert (found.otherwise.network, found.runner_up) == ("a", None)
    pair = paired(
        found.otherwise.held.answered_right, found.held.answered_right, groups=None, level=0.95
    )  # fmt: skip
    assert found.otherwise.difference == pair
    assert found.otherwise.why.startswith("surely less" if better != 0.5 else "not right more often by more")
    assert found.nested.accuracy == found.held.accuracy


def test_only_a_network_that_a_choice_falls_on_is_asked_for_pictures_prepared_otherwise():
    labels, folds = pictures(1200)
    good, bad = Network(labels, 1.0, 1), Network(labels, 0.0, 2)
    whole, unasked = Network(labels, 1.0, 1), Network(labels, 3.0, 4)
    found = racing.race(
        [
            Entry("good", 5, good, Entry("good, whole", 5, whole)),
            Entry("bad", 1, bad, Entry("bad, whole", 1, unasked)),
        ],
        labels.tolist(), folds, penalty=0.1,
    )  # fmt: skip
    assert found.winner == "good"
    assert ([len(rows) for rows in whole.asked], unasked.asked) == ([1200], [])
    assert found.runner_up.name == "bad"


def test_how_pictures_are_prepared_is_chosen_without_the_fold_that_it_answers():
    """Prepared otherwise, the pictures of fold 2 alone are known: for fold 2 their own way is chosen."""
    labels, folds = pictures(200)
    own, other = prepared(labels, 0.3)
    place = np.array(folds)
    other.vectors[place == 2] = 9 * np.eye(12, dtype=np.float32)[labels[place == 2]]
    found = racing.race(
        [Entry("a", 1, own, Entry("b", 1, other))], labels.tolist(), folds, penalty=0.1
    )  # fmt: skip
    assert found.chosen[2] == "a"
    chosen = {one.name: one.held.logits for one in found.outcomes}["a"]
    assert (found.nested.logits[place == 2] == chosen[place == 2]).all()


def test_features_of_pictures_prepared_otherwise_that_fail_end_nothing():
    labels, folds = pictures(60)
    own, other = prepared(labels, 0.9)
    other.fails_from = 0
    found = racing.race([Entry("a", 1, own, Entry("b", 1, other))], labels.tolist(), folds, penalty=0.1)
    assert (found.winner, found.otherwise, found.runner_up) == ("a", None, None)
    assert (found.outcomes[1].name, found.outcomes[1].why) == ("b", "It crashed.")
    other.fails_from, other.asked = 1, []
    other.vectors = Network(labels, 3.0, 3).vectors
    again = racing.race([Entry("a", 1, own, Entry("b", 1, other))], labels.tolist(), folds, penalty=0.1)
    assert (again.winner, again.outcomes[1].why) == ("a", "It crashed.")


@pytest.mark.parametrize(("gained", "winner"), [(1, "a"), (2, "b")])
def test_more_than_a_standard_error_decides_how_pictures_are_prepared(gained, winner):
    """Of n pictures that only one way knows, a standard error is the root of n: one is a tie, two aren't."""
    labels, folds = pictures(200)
    own = Network(labels, 9.0, 1)
    other = Network(labels, 9.0, 1)
    for row in range(gained):  # as the others of a class that it isn't of
        own.vectors[row] = other.vectors[labels == (labels[row] + 1) % 3].mean(axis=0)
    found = racing.race([Entry("a", 1, own, Entry("b", 1, other))], labels.tolist(), folds, penalty=0.1)
    right = {one.name: one.held.right for one in found.outcomes}
    assert right["b"] - right["a"] == gained
    assert found.winner == winner
    first, second = found.outcomes
    assert second.difference.tied
    if winner == "b":
        assert first.why.startswith("right more often: -")
        assert second.why.startswith("less often right, by more than a standard error: -")
