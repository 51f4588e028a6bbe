"""Heads that were fitted once are taken from the cache, and never where anything else was asked."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vertebra.errors import InvalidInputError
from vertebra.machine import kept_records
from vertebra.measuring.evaluation import crossing, heads, kept_heads, learning, logistic, racing
from vertebra.measuring.evaluation.racing import Entry

CHANCE = np.random.default_rng(0)
LABELS = [0, 1, 2] * 20
FOLDS = [n // 3 % 4 for n in range(60)]
GROUPS = list(range(60))
VECTORS = (CHANCE.normal(size=(60, 5)) + np.eye(5)[LABELS]).astype(np.float32)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("VERTEBRA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "features"


@pytest.fixture
def fits(monkeypatch) -> list[int]:
    """How many rows each head that is really fitted has."""
    done: list[int] = []
    path = logistic.path

    def counted(vectors, labels, rows, **how):
        done.append(len(rows))
        return path(vectors, labels, rows, **how)

    monkeypatch.setattr(logistic, "path", counted)
    return done


def cross(**changed):
    given = {"vectors": VECTORS, "labels": LABELS, "folds": FOLDS, "groups": GROUPS, "classes": 3}
    return crossing.cross(**{**given, "recall": kept_heads.recalled, **changed})


def fit(**changed):
    given = {"vectors": VECTORS, "labels": LABELS, "folds": FOLDS, "groups": GROUPS, "classes": 3}
    return heads.fit(**{**given, "recall": kept_heads.recalled, **changed})


def learn(**changed):
    held = changed.pop("held", None) or crossing.held(VECTORS, LABELS, FOLDS, classes=3)
    given = {"vectors": VECTORS, "held": held, "groups": GROUPS, "classes": 3}
    return learning.learn(**{**given, "recall": kept_heads.recalled, **changed})


def test_answers_heads_and_curves_are_the_same_a_second_time_and_nothing_is_fitted(fits):
    first = cross(), fit(), learn(held=crossing.held(VECTORS, LABELS, FOLDS, classes=3))
    held = crossing.held(VECTORS, LABELS, FOLDS, classes=3)
    fits.clear()
    again = cross(), fit(), learn(held=held)
    assert not fits
    bare = cross(recall=kept_heads.fresh), fit(recall=kept_heads.fresh), learn(recall=kept_heads.fresh)
    for one in (again, bare):
        np.testing.assert_array_equal(one[0].held.logits, first[0].held.logits)
        assert replace(one[0].held, logits=None, labels=None, folds=None) == replace(
            first[0].held, logits=None, labels=None, folds=None
        )
        assert [(a.rows.tolist(), a.right.tolist()) for a in one[0].inner] == [
            (a.rows.tolist(), a.right.tolist()) for a in first[0].inner
        ]
        np.testing.assert_array_equal(one[1].weights, first[1].weights)
        np.testing.assert_array_equal(one[1].bias, first[1].bias)
        assert one[1].weights.dtype == np.float32
        assert (one[1].penalty, one[2]) == (first[1].penalty, first[2])


def nudged() -> np.ndarray:
    changed = VECTORS.copy()
    changed[17, 2] = np.nextafter(changed[17, 2], np.float32(np.inf))
    return changed


def swapped(values: list[int], one: int, other: int) -> list[int]:
    changed = list(values)
    changed[one], changed[other] = changed[other], changed[one]
    return changed


#: What each result depends on, one thing changed at a time.
CHANGES = {
    "a feature's last bit": {"vectors": nudged()},
    "the pictures' order": {"vectors": VECTORS[::-1].copy()},
    "one picture fewer": {"vectors": VECTORS[:-1], "labels": LABELS[:-1], "folds": FOLDS[:-1],
                          "groups": GROUPS[:-1]},
    "a label": {"labels": [1, *LABELS[1:]]},
    "two labels": {"labels": swapped(LABELS, 3, 4)},
    "two folds": {"folds": swapped(FOLDS, 0, 3)},
    "fewer folds": {"folds": [fold % 2 for fold in FOLDS]},
    "a group": {"groups": [GROUPS[0], GROUPS[0], *GROUPS[2:]]},
    "no groups": {"groups": None},
    "the classes": {"classes": 4},
    "the classes' weights": {"balanced": True},
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("ask", [cross, fit])
def test_whatever_else_is_asked_is_computed(fits, ask, change):
    ask()
    fits.clear()
    ask(**change)
    assert fits


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"penalties": (0.1,)}, {"penalties": (0.1, 1.0)}, {"compared": False}]
)
def test_other_options_of_the_cross_validation_are_computed(fits, change):
    cross()
    fits.clear()
    cross(**change)
    assert fits


@pytest.mark.parametrize("change", [{"seed": 1}, {"penalty": 0.1}, {"folds": None}])
def test_other_options_of_a_head_are_computed(fits, change):
    fit()
    fits.clear()
    fit(**change)
    assert fits


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"groups": None}, {"vectors": nudged()},
     {"held": crossing.held(VECTORS, LABELS, FOLDS, classes=3, penalty=0.5)},
     {"held": crossing.held(VECTORS, swapped(LABELS, 3, 4), FOLDS, classes=3)},
     {"held": crossing.held(VECTORS, LABELS, swapped(FOLDS, 0, 3), classes=3)},
     {"held": crossing.held(VECTORS, LABELS, FOLDS, classes=3, balanced=True)}],
)  # fmt: skip
def test_a_curve_of_anything_else_is_computed(fits, change):
    learn()
    fits.clear()
    learn(**change)
    assert fits


@pytest.mark.parametrize("what", ["the grid", "how many choose", "the code", "numpy", "the version"])
def test_another_grid_and_other_code_are_computed(fits, monkeypatch, what):
    fit()
    fits.clear()
    kept_heads._code.cache_clear()
    if what == "the grid":
        monkeypatch.setattr(heads, "PENALTIES", (1e-4, 1.0))
    elif what == "how many choose":
        monkeypatch.setattr(heads, "MOST_TO_CHOOSE", 20)
    elif what == "the code":
        read = kept_heads.Path.read_bytes
        changed = {"logistic.py": b"# "}
        monkeypatch.setattr(
            kept_heads.Path, "read_bytes", lambda path: changed.get(path.name, b"") + read(path)
        )
    elif what == "numpy":
        monkeypatch.setattr(kept_heads.system, "library_versions", lambda names: dict.fromkeys(names, "9"))
    else:
        monkeypatch.setattr(kept_heads, "__version__", "99")
    fit()
    assert fits
    kept_heads._code.cache_clear()


def test_a_race_with_another_network_of_the_same_name_is_run_again(fits):
    def race(vectors):
        entries = [
            Entry("one", 1.0, lambda rows: VECTORS[rows]),
            Entry("two", 2.0, lambda rows: vectors[rows]),
        ]
        return racing.race(entries, LABELS, FOLDS, GROUPS, recall=kept_heads.recalled)

    other = CHANCE.normal(size=(60, 5)).astype(np.float32)
    race(VECTORS)
    fits.clear()
    race(VECTORS)
    assert not fits
    race(other)
    assert fits


@pytest.mark.parametrize("at", [100, 400, -40])
def test_what_is_damaged_is_computed_again(fits, cache, at, caplog):
    expected = fit()
    (path,) = cache.glob("heads-*.records")
    content = bytearray(path.read_bytes())
    content[at] ^= 64
    path.write_bytes(content)
    fits.clear()
    found = fit()
    assert fits
    assert "is damaged: what it held is computed again" in caplog.text
    np.testing.assert_array_equal(found.weights, expected.weights)
    fits.clear()
    caplog.clear()
    fit()
    assert not fits
    assert not caplog.text


@pytest.mark.parametrize("size", [0, 40, 64, 300])
def test_what_was_half_written_is_computed_again(fits, cache, size):
    expected = fit()
    (path,) = cache.glob("heads-*.records")
    path.write_bytes(path.read_bytes()[:size])
    fits.clear()
    found = fit()
    assert fits
    np.testing.assert_array_equal(found.weights, expected.weights)


def test_without_a_cache_heads_are_fitted_each_time(fits, monkeypatch, cache):
    monkeypatch.setenv("VERTEBRA_FEATURES_LIMIT", "0")
    fit()
    fits.clear()
    fit()
    assert fits
    assert not cache.exists()


def test_where_they_cannot_be_kept_it_is_said(fits, monkeypatch, caplog):
    monkeypatch.setenv("VERTEBRA_FEATURES_LIMIT", "200B")
    fit()
    assert "heads aren't kept: heads-" in caplog.text
    monkeypatch.setattr(kept_records, "_MOST_VALUE_BYTES", 64)
    monkeypatch.setenv("VERTEBRA_FEATURES_LIMIT", "1GB")
    fit(seed=5)
    assert "is too large for heads-" in caplog.text


def test_a_fit_that_did_not_converge_is_told_the_second_time_too(monkeypatch, fits, caplog):
    monkeypatch.setattr(logistic, "MAX_STEPS", 1)
    fit()
    assert "hadn't converged" in caplog.text
    fits.clear()
    caplog.clear()
    fit()
    assert not fits
    assert "hadn't converged" in caplog.text


def test_an_error_of_the_fit_is_not_taken_for_one_of_the_cache(monkeypatch):
    with pytest.raises(InvalidInputError, match="aren't finite"):
        fit(vectors=np.full((60, 5), np.nan, np.float32))
    with pytest.raises(InvalidInputError, match="0 was given; a number above 0"):
        fit(penalty=0)
