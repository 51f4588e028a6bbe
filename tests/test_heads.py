"""The head on frozen features: the same answers as scikit-learn's, honest figures, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest

from vertebra.errors import InvalidInputError
from vertebra.measuring.evaluation import crossing, heads, logistic, wilson

#: Pictures, features, classes, penalty: few rows, many rows, two classes.
SHAPES = [(60, 200, 3, 0.01), (60, 200, 3, 1.0), (500, 30, 4, 0.01), (60, 200, 2, 0.1), (300, 20, 2, 1.0)]


def clouds(
    pictures: int, features: int, classes: int, apart: float = 0.5, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Features (N, D) of different scales around one centre a class, and labels of about equal counts."""
    drawn = np.random.default_rng(seed)
    labels = drawn.permutation(np.arange(pictures) % classes)
    centres = drawn.normal(size=(classes, features)) * apart
    vectors = drawn.normal(size=(pictures, features)) + centres[labels]
    return (vectors * drawn.uniform(0.1, 5, features) + 10).astype(np.float32), labels


def shares(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize(("pictures", "features", "classes", "penalty"), SHAPES)
def test_answers_equal_scikit_learn_s_with_its_scaler(pictures, features, classes, penalty, balanced):
    linear = pytest.importorskip("sklearn.linear_model")
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    vectors, labels = clouds(pictures, features, classes)
    labels[: pictures // 3] = 0  # so that classes weigh differently
    vectors[:, 3] = 7  # a feature without variance
    theirs = make_pipeline(
        StandardScaler(),
        linear.LogisticRegression(
            C=penalty, max_iter=5000, tol=1e-8, class_weight="balanced" if balanced else None
        ),
    ).fit(vectors.astype(np.float64), labels)
    head = heads.fit(vectors, labels, classes=classes, penalty=penalty, balanced=balanced)
    assert head.weights.shape == (features, classes)
    assert head.bias.shape == (classes,)
    assert head.weights.dtype == head.bias.dtype == np.float32
    assert not head.weights[3].any()
    found = shares(heads.logits(head, vectors))
    assert np.abs(found - theirs.predict_proba(vectors.astype(np.float64))).max() < 1e-3


def test_few_rows_and_many_find_the_same_head(monkeypatch):
    vectors, labels = clouds(300, 400, 3, apart=0.1)
    head = heads.fit(vectors, labels, classes=3, penalty=0.01)
    for name, value in {"_FEW": 0, "BLOCK": 64, "_reduced": None}.items():
        monkeypatch.setattr(logistic, name, value)
    other = heads.fit(vectors, labels, classes=3, penalty=0.01)
    assert np.abs(heads.logits(head, vectors) - heads.logits(other, vectors)).max() < 1e-3


def test_memory_mapped_features_are_read_in_blocks(tmp_path, monkeypatch):
    vectors, labels = clouds(600, 24, 3, apart=0.3)
    np.save(tmp_path / "features.npy", vectors)
    mapped = np.load(tmp_path / "features.npy", mmap_mode="r")
    whole = heads.fit(vectors, labels, classes=3, penalty=0.1)
    for name, value in {"BLOCK": 64, "_HELD_64": 0, "_HELD_32": 0}.items():
        monkeypatch.setattr(logistic, name, value)
    blocks = heads.fit(mapped, labels, classes=3, penalty=0.1)
    assert np.abs(heads.logits(whole, vectors) - heads.logits(blocks, vectors)).max() < 1e-2


def test_features_of_any_scale_have_a_head_of_finite_weights():
    vectors, labels = clouds(90, 12, 3)
    vectors *= np.float32(10.0) ** np.arange(-18, 18, 3, dtype=np.float32)
    held = crossing.held(vectors, labels, heads.dealt(labels, None, 5), classes=3)
    assert held.accuracy > 0.8


def test_the_penalty_with_the_least_log_loss_is_taken():
    vectors, labels = clouds(90, 300, 3, apart=0.1)
    folds = heads.dealt(labels, None, 3)
    losses = {}
    for penalty in heads.PENALTIES:
        found = crossing.held(vectors, labels, folds, classes=3, penalty=penalty)
        losses[penalty] = found.log_loss
    assert heads.fit(vectors, labels, classes=3, folds=folds).penalty == min(losses, key=losses.get)


def test_a_fold_s_penalty_is_chosen_without_its_pictures():
    vectors, labels = clouds(120, 40, 3, apart=0.2)
    folds = heads.dealt(labels, None, 4)
    before = crossing.cross(vectors, labels, folds, classes=3)
    spoilt, drawn = labels.copy(), vectors.copy()
    here = np.flatnonzero(folds == 1)
    spoilt[here] = (labels[here] + 1) % 3
    drawn[here] = 99
    after = crossing.cross(drawn, spoilt, folds, classes=3)
    assert after.held.penalties[1] == before.held.penalties[1]
    assert (after.inner[1].rows == np.flatnonzero(folds != 1)).all()
    assert (after.inner[1].right == before.inner[1].right).all()


def test_a_learnable_toy_ends_at_100_percent():
    brightness = np.linspace(0, 1, 60, dtype=np.float32)[:, None]
    labels = (brightness[:, 0] > 0.5).astype(int)
    found = crossing.held(brightness, labels, heads.dealt(labels, None, 5), classes=2)
    assert (found.accuracy, found.right, found.confusion) == (1.0, 60, {(0, 0): 30, (1, 1): 30})
    assert found.high == 1.0
    assert found.low == pytest.approx(wilson(60, 60)[0])
    assert found.learnt
    assert found.mistakes() == ()


@pytest.mark.parametrize("balanced", [False, True])
def test_shuffled_labels_end_at_the_majority_s_share_and_are_told(balanced):
    vectors, labels = clouds(200, 300, 3, apart=0.6)
    labels[:60] = 0
    shuffled = np.random.default_rng(5).permutation(labels)
    found = crossing.held(vectors, shuffled, heads.dealt(shuffled, None, 5), classes=3, balanced=balanced)
    assert not found.learnt
    assert "no sure difference" in found.verdict
    if not balanced:
        assert found.low <= found.majority <= found.high
        assert f"{100 * found.majority:.1f} %" in found.verdict


def test_what_is_told_of_each_class_and_of_mistakes():
    logits = np.array([[4, 0, 0], [0, 1, 0], [0, 3, 0], [2, 0, 0], [0, 0, 1], [0, 0, 2]], np.float32)
    truth = np.array([0, 0, 0, 1, 2, 2])
    folds = np.array([0, 1, 0, 1, 0, 1])
    found = crossing.summary(logits, truth, folds, penalties=(1, 1), groups=None, balanced=False)
    assert (found.right, found.accuracy, found.majority) == (3, 0.5, 0.5)
    assert found.by_fold == (pytest.approx(2 / 3), pytest.approx(1 / 3))
    assert found.confusion == {(0, 0): 1, (0, 1): 2, (1, 0): 1, (2, 2): 2}
    first, second, third = found.per_class
    assert (first.recall, first.precision, first.confused_with) == (1 / 3, 0.5, 1)
    assert (second.recall, second.precision, second.confused_with) == (0.0, 0.0, 0)
    assert (third.recall, third.precision, third.confused_with) == (1.0, 1.0, None)
    assert (third.low, third.high) == wilson(2, 2)
    assert [(one.row, one.truth, one.answered) for one in found.mistakes()] == [
        (2, 0, 1),
        (3, 1, 0),
        (1, 0, 1),
    ]
    assert found.mistakes(1)[0].confidence == pytest.approx(np.exp(3) / (np.exp(3) + 2))
    # constant: 3 of 6 right, the head 3 of 6; pictures that one alone has right: 2 and 2
    assert found.beyond.difference == 0
    assert found.beyond.tied


def test_pictures_of_one_group_count_as_one_where_they_are_right_together():
    vectors, labels = clouds(60, 8, 2, apart=3)
    twins, twice = np.repeat(vectors, 4, axis=0), np.repeat(labels, 4)
    groups = np.repeat(np.arange(60), 4)
    folds = heads.dealt(twice, groups.tolist(), 5)
    assert all(len(set(folds[groups == group])) == 1 for group in range(60))
    alone = crossing.held(twins, twice, folds, classes=2, penalty=0.1)
    told = crossing.held(twins, twice, folds, classes=2, penalty=0.1, groups=groups.tolist())
    assert told.accuracy == alone.accuracy == 1.0
    assert alone.low == pytest.approx(wilson(240, 240)[0])
    assert told.low == pytest.approx(wilson(60, 60)[0])


@pytest.mark.parametrize(
    ("labels", "folds", "classes"),
    [
        ([0, 0, 1, 1], [0, 1, 0, 1], 2),  # two pictures a class, two folds
        ([0, 0, 1, 1, 2], [0, 1, 0, 1, 0], 3),  # the fold that is left out has all of a class
        ([0, 0, 0, 0, 1, 1], [0, 1, 2, 2, 2, 2], 2),  # without a fold there is one class
        (
            [0, 1, 0, 1, 0, 1, 0, 1, 0, 1],
            [0, 0, 0, 0, 0, 0, 1, 2, 3, 4],
            5,
        ),  # unequal
        ([0, 0, 0, 0], [0, 0, 1, 1], 1),
    ],
)
def test_odd_folds_give_answers(labels, folds, classes):
    vectors = np.random.default_rng(0).normal(size=(len(labels), 6)).astype(np.float32)
    found = crossing.held(vectors, labels, folds, classes=classes)
    assert found.logits.shape == (len(labels), classes)
    assert np.isfinite(found.logits).all()
    assert np.isfinite([found.low, found.high, found.log_loss]).all()
    assert 0 <= found.low <= found.accuracy <= found.high <= 1


def test_a_class_that_no_fit_has_seen_is_never_answered():
    vectors = np.random.default_rng(0).normal(size=(30, 6)).astype(np.float32)
    head = heads.fit(vectors, [0, 1] * 15, classes=4, penalty=0.01)
    assert set(heads.logits(head, 100 * vectors).argmax(axis=1)) <= {0, 1}


def test_two_hundred_classes_of_two_pictures():
    vectors, labels = clouds(400, 32, 200, apart=3)
    found = crossing.held(vectors, labels, heads.dealt(labels, None, 2), classes=200)
    assert len(found.per_class) == 200
    assert found.learnt


BAD = {
    "nan": (np.array([[0.0], [np.nan]], np.float32), [0, 1], "features of picture 1 aren't finite"),
    "infinite": (np.array([[np.inf], [0.0]], np.float32), [0, 1], "features of picture 0 aren't finite"),
    "flat": (np.zeros(2, np.float32), [0, 1], r"shape \(2,\) came for 2 pictures"),
    "short": (np.zeros((2, 3), np.float32), [0, 1, 1], r"shape \(2, 3\) came for 3 pictures"),
    "none": (np.zeros((0, 3), np.float32), [], r"shape \(0, 3\) came for 0 pictures"),
    "label": (np.zeros((2, 3), np.float32), [0, 2], "Labels from 0 to 2 came for 2 classes"),
}


@pytest.mark.parametrize("case", BAD)
def test_features_and_labels_that_do_not_fit_are_refused(case):
    vectors, labels, message = BAD[case]
    with pytest.raises(InvalidInputError, match=message):
        heads.fit(vectors, labels, classes=2)


@pytest.mark.parametrize(
    ("folds", "groups", "message"),
    [
        ([0, 0, 0, 0], None, "All 4 pictures are in one fold"),
        ([0, 1, 0], None, "Folds of 3 pictures came for 4"),
        ([0, 1, 0, 1], [5, 5, 6, 7], "Pictures of group 5 are in more than one fold"),
        ([0, 1, 0, 1], [5], "Groups of 1 pictures came for 4"),
    ],
)
def test_folds_that_cannot_be_used_are_refused(folds, groups, message):
    with pytest.raises(InvalidInputError, match=message):
        crossing.held(np.eye(4, dtype=np.float32), [0, 1, 0, 1], folds, classes=2, groups=groups)


@pytest.mark.parametrize("penalty", [0, -1, float("nan")])
def test_a_penalty_that_is_no_number_above_0_is_refused(penalty):
    with pytest.raises(InvalidInputError, match="a number above 0 was expected"):
        heads.fit(np.eye(4, dtype=np.float32), [0, 1, 0, 1], classes=2, penalty=penalty)


def test_a_fit_that_was_ended_early_is_told(monkeypatch, caplog):
    vectors, labels = clouds(90, 12, 3)
    monkeypatch.setattr(logistic, "MAX_STEPS", 1)
    heads.fit(vectors, labels, classes=3, penalty=10.0)
    assert "1 of 1 fits of the head hadn't converged" in caplog.text


def test_a_part_of_the_pictures_holds_every_class_and_whole_groups():
    labels = [0] * 40 + [1] * 20 + [2] * 3
    groups = [row // 2 for row in range(63)]
    order = heads.thresholds(labels, groups, [0] * 63, seed=3)
    quarter = order < 0.25
    assert [int(quarter[np.array(labels) == label].sum()) for label in range(3)] == [10, 6, 2]
    assert all(len(set(quarter[np.array(groups) == group])) == 1 for group in set(groups))
    assert (quarter <= (order < 0.5)).all()


def test_heads_that_only_choose_are_fitted_on_a_share_of_many_pictures(monkeypatch):
    monkeypatch.setattr(heads, "MOST_TO_CHOOSE", 60)
    truth = np.array([0] * 150 + [1] * 50)
    groups = [number // 2 for number in range(200)]
    rows = np.arange(20, 200)
    kept = heads.thinned(rows, truth, groups)
    assert 58 <= len(kept) <= 62
    assert set(kept) <= set(rows)
    assert 14 <= int(truth[kept].sum()) <= 19  # a third of each class
    assert all(groups.index(groups[row]) in kept and groups.index(groups[row]) + 1 in kept for row in kept)
    assert list(heads.thinned(rows[:60], truth, groups)) == list(rows[:60])

    fitted = []
    solved = heads.solved

    def counted(vectors, labels, some, *rest):
        fitted.append(len(some))
        return solved(vectors, labels, some, *rest)

    monkeypatch.setattr(heads, "solved", counted)
    generator = np.random.default_rng(0)
    vectors = (generator.normal(size=(200, 4)) + truth[:, None]).astype(np.float32)
    folds = [number % 4 for number in groups]
    heads.fit(vectors, truth.tolist(), classes=2, folds=folds, groups=groups)
    assert max(fitted[:-1]) <= 62
    assert fitted[-1] == 200
