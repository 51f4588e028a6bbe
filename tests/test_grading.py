"""The grade: what leaves an A, what a B, and that a C always names its defect."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from types import SimpleNamespace

import pytest

from vertebra.measurements.blocks import Block, Surroundings
from vertebra.measuring.benchmarking import grading
from vertebra.measuring.benchmarking.grading import Grade, grade, grade_looks
from vertebra.measuring.benchmarking.timing import Stopped, WarmUp

WARM = WarmUp(runs=20, seconds=1.0, settled=True)
COLD = WarmUp(runs=40, seconds=10.0, settled=False)
QUIET = Surroundings(wall_s=0.25, others_cpu=0.02, steal=0.0, pressure=0.05, throttled_s=0.0,
                     clock_hz=3e9, throttle_events=0.0, load=1.0, card_clock_hz=1.5e9,
                     card_slowed=0.0)  # fmt: skip

Change = Callable[[Block], Block]


def measured(
    levels: Sequence[float] = (0.0100, 0.0100, 0.0101),
    *,
    each: int = 10,
    samples: int = 25,
    noise: float = 0.01,
) -> list[Block]:
    """Blocks on a quiet machine: of as many processes as there are `levels`, `each` of them blocks."""
    generator = random.Random(0)
    return [
        Block(
            process=process, order=each * process + place, started_s=0.25 * (each * process + place),
            latencies=tuple(level * generator.lognormvariate(0, noise) for _ in range(samples)),
            canary_s=0.006, handover_s=2e-5, surroundings=QUIET,
        )
        for process, level in enumerate(levels) for place in range(each)
    ]  # fmt: skip


def graded(
    blocks: Sequence[Block], *, warm: WarmUp = WARM, stopped: Stopped = "sure", compared: bool = True,
    quick: bool = False,
) -> Grade:  # fmt: skip
    processes = len({block.process for block in blocks})
    return grade(blocks, [warm] * processes, stopped, compared=compared, quick=quick)


def changed(blocks: Sequence[Block], chosen: Callable[[Block], bool], change: Change) -> list[Block]:
    return [change(block) if chosen(block) else block for block in blocks]


def slower(factor: float) -> Change:
    return lambda block: replace(block, latencies=tuple(factor * one for one in block.latencies))


def around(**seen: float) -> Change:
    return lambda block: replace(block, surroundings=replace(QUIET, **seen))


def both(*changes: Change) -> Change:
    def change(block: Block) -> Block:
        for one in changes:
            block = one(block)
        return block

    return change


def test_three_processes_that_agree_on_a_quiet_machine_are_an_a() -> None:
    assert graded(measured()).letter == "A"


def test_an_a_still_tells_how_far_its_processes_are_apart() -> None:
    (reason, *_) = graded(measured()).reasons
    assert reason.startswith("3 processes ")
    assert "σ" in reason


def test_how_far_processes_are_apart_is_told_with_the_spread_between_and_within_them() -> None:
    blocks = [
        replace(block, latencies=tuple(level * one for one in (0.96, 1.04) * 16))
        for level, block in zip((1.0, 1.04, 1.09), measured(each=1), strict=True)
    ]
    reasons = graded(blocks).reasons
    assert "3 processes 9.0 % apart (σ 4.3 % between them, 5.9 % within)" in reasons


@pytest.mark.parametrize(
    ("blocks", "how", "reason"),
    [
        (measured([0.01]), {}, "one process"),
        (measured([0.01, 0.01]), {}, "2 processes of 3"),
        (measured(), {"quick": True}, "quick mode"),
        (measured(), {"compared": False}, "outputs not compared: no reference"),
        (measured(each=4, samples=5), {"stopped": "budget spent"}, "60 samples of 64: budget spent"),
        (measured([0.0100, 0.0103, 0.0106]), {}, "3 processes 5.9 % apart"),
        (measured(), {"warm": COLD}, "warm-up did not settle in 40 runs and 10.0 s (3 of 3 processes)"),
    ],
)
def test_one_mild_sign_leaves_a_b(blocks: list[Block], how: dict[str, bool], reason: str) -> None:
    found = graded(blocks, **how)  # type: ignore[arg-type]
    assert found.letter == "B"
    assert any(text.startswith(reason) for text in found.reasons), found.reasons


def test_processes_ten_percent_apart_are_a_defect() -> None:
    found = graded(measured([0.0100, 0.0101, 0.0115]))
    assert found.letter == "C"
    assert any("processes 15" in text or "processes 14" in text for text in found.reasons)


def test_without_an_interval_there_is_nothing_to_believe() -> None:
    found = graded(measured([0.01], each=1, samples=5))
    assert found.letter == "C"
    assert found.reasons[0] == "no interval: 5 samples, at least 6 needed"


def test_an_interval_that_is_very_wide_is_a_defect_and_a_wide_one_a_sign() -> None:
    wide = graded(measured([0.01] * 3, each=2, samples=12, noise=0.15))
    assert wide.letter == "B"
    very = graded(measured([0.01] * 3, each=2, samples=6, noise=0.8))
    assert very.letter == "C"
    assert "wider than ±2 %" in very.reasons[0]


def ramp(blocks: Sequence[Block], by: float) -> list[Block]:
    """Each process becomes slower by the share `by` from its first block to its last."""
    return [slower(1 + by * (block.order % 10) / 9)(block) for block in blocks]


def test_drift_is_a_sign_and_a_strong_one_a_defect() -> None:
    mild, strong = graded(ramp(measured(), 0.05)), graded(ramp(measured(), 0.3))
    assert (mild.letter, strong.letter) == ("B", "C")
    assert any(text.startswith("still drifting: second half 2") for text in mild.reasons)
    assert strong.reasons[0].startswith("still drifting: second half 1")


def test_a_warm_up_that_did_not_settle_before_samples_that_drift_is_a_defect() -> None:
    found = graded(ramp(measured(), 0.05), warm=COLD)
    assert found.letter == "C"
    assert found.reasons[0].startswith("warm-up did not settle")


def test_two_modes_far_apart_are_a_defect_and_close_ones_a_sign() -> None:
    def split(factor: float) -> list[Block]:
        return [replace(block, latencies=tuple(one * (factor if place % 2 else 1.0)
                                               for place, one in enumerate(block.latencies)))
                for block in measured()]  # fmt: skip

    assert graded(split(1.08)).letter == "B"
    found = graded(split(1.3))
    assert found.letter == "C"
    assert any(text.startswith("two modes 30 % apart") for text in found.reasons)


DISTURBANCES = {
    "others": (around(others_cpu=0.4), "other processes used 40 % of the processors"),
    "steal": (around(steal=0.2), "the hypervisor gave 20 % of the time to other machines"),
    "quota": (around(throttled_s=0.05), "the container's CPU quota stopped the process for 20 % of the time"),
    "clock": (around(clock_hz=2e9), "the processor's clock was 33 % lower"),
    "heat": (around(throttle_events=3.0), "the processor was slowed down by heat"),
    "card": (around(card_clock_hz=1e9, clock_hz=3e9), "the card's clock was 33 % lower"),
    "heat of the card": (around(card_slowed=1.0), "the card was slowed down by heat or power"),
    "canary": (
        lambda block: replace(block, canary_s=0.012),
        "the canary (a fixed piece of work) took 100 % longer",
    ),
    "handover": (
        lambda block: replace(block, handover_s=3e-5),
        "reading what another processor wrote took 50 % longer",
    ),
}


@pytest.mark.parametrize("kind", DISTURBANCES)
def test_few_disturbed_blocks_are_told_and_leave_an_a(kind: str) -> None:
    change, text = DISTURBANCES[kind]
    found = graded(changed(measured(), lambda block: block.order in (3, 17), change))
    assert found.letter == "A"
    assert f"{text} in 2 of 30 blocks" in found.reasons


@pytest.mark.parametrize("kind", DISTURBANCES)
def test_disturbed_blocks_that_say_what_the_quiet_ones_say_leave_a_b(kind: str) -> None:
    change, text = DISTURBANCES[kind]
    found = graded(changed(measured(), lambda block: block.order % 3 == 0, change))
    assert found.letter == "B"
    assert f"{text} in 10 of 30 blocks" in found.reasons


@pytest.mark.parametrize("kind", DISTURBANCES)
def test_disturbed_blocks_that_moved_the_number_are_a_defect(kind: str) -> None:
    change, text = DISTURBANCES[kind]
    disturbed = changed(measured(), lambda block: block.order % 10 > 3, both(change, slower(1.2)))
    found = graded(disturbed)
    assert found.letter == "C"
    assert any(
        one.startswith(text) and "the undisturbed blocks are" in one and one.endswith(" % faster")
        for one in found.reasons
    ), found.reasons


@pytest.mark.parametrize("kind", ["others", "steal", "quota"])
def test_heavy_disturbance_without_a_quiet_block_is_a_defect(kind: str) -> None:
    change, text = DISTURBANCES[kind]
    found = graded(changed(measured(), lambda block: True, change))
    assert found.letter == "C"
    assert any(one.startswith(text) for one in found.reasons)


def test_mild_disturbance_all_the_time_is_no_defect() -> None:
    for change in (around(others_cpu=0.15), around(steal=0.05), around(pressure=0.9)):
        assert graded(changed(measured(), lambda block: True, change)).letter == "B"


def test_a_machine_of_which_nothing_is_known_can_have_an_a() -> None:
    bare = [replace(block, surroundings=None, canary_s=None) for block in measured()]
    assert graded(bare).letter == "A"


def test_load_is_told_only_where_nothing_better_is_known() -> None:
    known = changed(measured(), lambda block: True, around(load=9.0))
    assert graded(known).letter == "A"
    unknown = [replace(block, surroundings=Surroundings(wall_s=0.25, load=9.0)) for block in measured()]
    assert graded(unknown).letter == "B"


@pytest.mark.parametrize(("by", "text"), [(0.002, "3.0 % slower"), (-0.002, "3.0 % faster")])
def test_a_machine_that_became_slower_or_faster_as_a_whole_is_told(by: float, text: str) -> None:
    drifting = [replace(block, canary_s=0.006 * (1 + by * block.order)) for block in measured()]
    found = graded(drifting)
    assert found.letter == "B"
    assert f"the machine became {text}" in found.reasons


def test_what_is_wrong_comes_before_what_is_worth_knowing() -> None:
    found = graded(ramp(measured([0.01]), 0.2), compared=False)
    assert found.letter == "C"
    assert found.reasons[0].startswith("still drifting")
    assert found.reasons.index("one process") > 0


def test_nothing_is_left_out_of_the_outliers_that_are_told() -> None:
    blocks = measured()
    spoiled = [replace(blocks[0], latencies=(0.1, *blocks[0].latencies[1:])), *blocks[1:]]
    found = graded(spoiled)
    assert found.letter == "A"
    assert any(text.startswith("outliers kept: ") for text in found.reasons)


def test_what_takes_no_time_at_all_has_a_grade_too() -> None:
    assert graded(measured([0.0, 0.0, 0.0])).letter == "A"


# ------------------------------------------------------------------ every threshold, at it and beyond


def letter_of(signs: Iterator[object]) -> str | None:
    return next((sign.leaves for sign in signs), None)  # type: ignore[attr-defined]


@pytest.mark.parametrize(("half_width", "letter"), [(0.02, None), (0.0201, "B"), (0.10, "B"), (0.1001, "C")])
def test_how_wide_an_interval_may_be(
    monkeypatch: pytest.MonkeyPatch, half_width: float, letter: str | None
) -> None:
    found = SimpleNamespace(low=1.0, half_width=half_width)
    monkeypatch.setattr(grading.statistics, "interval", lambda blocks: found)
    assert letter_of(grading._of_interval(measured(), "sure")) == letter


@pytest.mark.parametrize(
    ("drift", "letter"), [(0.0, None), (0.05, "B"), (-0.05, "B"), (0.051, "C"), (-0.051, "C")]
)
def test_how_far_samples_may_drift(monkeypatch: pytest.MonkeyPatch, drift: float, letter: str | None) -> None:
    monkeypatch.setattr(grading.steadiness, "drift_of_blocks", lambda blocks: drift)
    assert letter_of(grading._of_drift(measured())) == letter


@pytest.mark.parametrize(("apart", "letter"), [(0.04, "A"), (0.0401, "B"), (0.10, "B"), (0.1001, "C")])
def test_how_far_processes_may_be_apart(monkeypatch: pytest.MonkeyPatch, apart: float, letter: str) -> None:
    monkeypatch.setattr(grading.steadiness, "disagreement", lambda processes: apart)
    assert letter_of(grading._of_processes(measured(), quick=False)) == letter
    level = [100.0, 100.0, 100 + 100 * apart]
    assert grade_looks(level).letter == letter


@pytest.mark.parametrize(
    ("ratio", "share", "letter"),
    [(1.099, 0.5, "B"), (1.101, 0.5, "C"), (1.3, 0.25, "B"), (1.3, 0.251, "C"), (1.3, 0.75, "B"),
     (1.3, 0.749, "C")],
)  # fmt: skip
def test_how_far_apart_and_how_even_two_modes_may_be(
    monkeypatch: pytest.MonkeyPatch, ratio: float, share: float, letter: str
) -> None:
    monkeypatch.setattr(grading.steadiness, "modes", lambda values: SimpleNamespace(ratio=ratio, share=share))
    assert letter_of(grading._of_modes(measured())) == letter


@pytest.mark.parametrize(
    ("seen", "letter"),
    [
        ({"others_cpu": 0.10}, "A"), ({"others_cpu": 0.101}, "B"),
        ({"others_cpu": 0.30}, "B"), ({"others_cpu": 0.301}, "C"),
        ({"steal": 0.03}, "A"), ({"steal": 0.031}, "B"), ({"steal": 0.10}, "B"), ({"steal": 0.101}, "C"),
        ({"throttled_s": 0.25 * 0.01}, "A"), ({"throttled_s": 0.25 * 0.011}, "B"),
        ({"throttled_s": 0.25 * 0.10}, "B"), ({"throttled_s": 0.25 * 0.101}, "C"),
        ({"pressure": 0.50}, "A"), ({"pressure": 0.501}, "B"), ({"pressure": 0.999}, "B"),
        ({"others_cpu": None, "load": 2.0}, "A"), ({"others_cpu": None, "load": 2.01}, "B"),
    ],
)  # fmt: skip
def test_how_much_may_disturb_every_block(seen: dict[str, float], letter: str) -> None:
    assert graded(changed(measured(), lambda block: True, around(**seen))).letter == letter


@pytest.mark.parametrize(
    ("change", "letter"),
    [
        (around(clock_hz=3e9 * 0.951), "A"), (around(clock_hz=3e9 * 0.949), "B"),
        (around(card_clock_hz=1.5e9 * 0.951), "A"), (around(card_clock_hz=1.5e9 * 0.949), "B"),
        (lambda block: replace(block, canary_s=0.006 * 1.099), "A"),
        (lambda block: replace(block, canary_s=0.006 * 1.101), "B"),
        (lambda block: replace(block, handover_s=2e-5 * 1.299), "A"),
        (lambda block: replace(block, handover_s=2e-5 * 1.301), "B"),
    ],
)  # fmt: skip
def test_how_much_slower_a_third_of_the_blocks_may_have_run(change: Change, letter: str) -> None:
    assert graded(changed(measured(), lambda block: block.order % 3 == 0, change)).letter == letter


def test_what_is_faster_than_usual_is_not_disturbed() -> None:
    assert [grading._above(seen, 4.0) for seen in (3.0, 4.0, 5.0, None)] == [0.0, 0.0, 0.25, None]
    assert [grading._below(seen, 4.0) for seen in (5.0, 4.0, 3.0, None)] == [0.0, 0.0, 0.25, None]
    assert grading._above(4.0, None) is None
    assert grading._below(4.0, None) is None


@pytest.mark.parametrize(
    ("of_five", "seen", "letter"),
    [
        (3, {"clock_hz": 3e9 * 0.801}, "B"), (3, {"clock_hz": 3e9 * 0.799}, "C"),
        (3, {"card_clock_hz": 1.5e9 * 0.801}, "B"), (3, {"card_clock_hz": 1.5e9 * 0.799}, "C"),
        (2, {"throttle_events": 1.0}, "B"), (3, {"throttle_events": 1.0}, "C"),
        (2, {"card_slowed": 1.0}, "B"), (3, {"card_slowed": 1.0}, "C"),
        (3, {"canary_s": 0.006 * 1.499}, "B"), (3, {"canary_s": 0.006 * 1.501}, "C"),
    ],
)  # fmt: skip
def test_how_heavily_most_blocks_may_be_disturbed_where_none_is_quiet(
    of_five: int, seen: dict[str, float], letter: str
) -> None:
    busy = replace(QUIET, others_cpu=0.15)

    def change(block: Block) -> Block:
        here = dict(seen) if block.order % 5 < of_five else {}
        canary_s = here.pop("canary_s", block.canary_s)
        return replace(block, canary_s=canary_s, surroundings=replace(busy, **here))

    assert graded([change(block) for block in measured()]).letter == letter


@pytest.mark.parametrize(("disturbed", "letter"), [(3, "A"), (4, "B")])
def test_a_tenth_of_the_blocks_may_be_disturbed(disturbed: int, letter: str) -> None:
    heavy = both(around(others_cpu=0.4), slower(1.2))
    assert graded(changed(measured(), lambda block: block.order < disturbed, heavy)).letter == letter


@pytest.mark.parametrize(
    ("values", "letter", "reason"),
    [
        ([1.0], "B", "one process"),
        ([1.0, 1.01, 1.03], "A", "3 processes 3.0 % apart"),
        ([1.0, 1.01], "B", "2 processes 1.0 % apart"),
        ([1.0, 1.0, 1.08], "B", "3 processes 8.0 % apart"),
        ([1.0, 1.0, 1.2], "C", "3 processes 20.0 % apart"),
        ([0.0, 0.0, 0.0], "A", "3 processes 0.0 % apart"),
    ],
)
def test_what_a_process_shows_once_is_graded_by_agreement(
    values: list[float], letter: str, reason: str
) -> None:
    graded = grade_looks(values, ["a note"])
    assert (graded.letter, graded.reasons) == (letter, (reason, "a note"))
