"""Where the labels go: next to their balls, clear of one another and of every ball's centre.

Pixel space, y downwards. The same balls always give the same places.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

#: Free pixels around a label, and around a centre.
MARGIN = 2.0
CENTRE = 4.0

_ANGLES = (0, 180, 90, 270, 45, 315, 135, 225, 22, 338, 158, 202, 67, 293, 113, 247)
_GAPS = (2, 7, 13, 20, 28, 38, 50, 65, 85, 110, 140, 180, 240)
_PASSES = 2
#: Of the grid of places that is searched last, the most lines and columns.
_MOST_STEPS = 60

# What a place costs, as the pixels of distance that would be as bad.
_ANGLE = 0.25
_ON_BALL = 1.5  # per pixel that the label reaches into a ball, or comes too close to another's
_CLEAR = 14.0
_ON_LINE = 14.0
_LEADER_ON_LABEL = 200.0
_LEADER_ON_LEADER = 60.0
_LEADER_NEAR_CENTRE = 45.0


@dataclass(frozen=True)
class Segment:
    """A straight line that labels should not cover."""

    x1: float
    y1: float
    x2: float
    y2: float


@dataclass(frozen=True)
class Box:
    """A rectangle that a label's text fills."""

    left: float
    top: float
    right: float
    bottom: float

    def overlaps(self, other: Box, margin: float = 0.0) -> bool:
        return (
            self.left < other.right + margin
            and other.left < self.right + margin
            and self.top < other.bottom + margin
            and other.top < self.bottom + margin
        )

    def distance(self, x: float, y: float) -> float:
        """From a point to the nearest point of the box, 0 inside."""
        return math.dist((x, y), self.nearest(x, y))

    def nearest(self, x: float, y: float) -> tuple[float, float]:
        return min(max(x, self.left), self.right), min(max(y, self.top), self.bottom)

    def crosses(self, line: Segment) -> bool:
        """Whether `line` has a point inside the box (Liang and Barsky's clipping, 1984)."""
        if (
            max(line.x1, line.x2) < self.left
            or min(line.x1, line.x2) > self.right
            or max(line.y1, line.y2) < self.top
            or min(line.y1, line.y2) > self.bottom
        ):
            return False
        start, end = 0.0, 1.0
        dx, dy = line.x2 - line.x1, line.y2 - line.y1
        sides = ((-dx, line.x1 - self.left), (dx, self.right - line.x1),
                 (-dy, line.y1 - self.top), (dy, self.bottom - line.y1))  # fmt: skip
        for run, room in sides:
            if run == 0:
                if room < 0:
                    return False
            elif run < 0:
                start = max(start, room / run)
            else:
                end = min(end, room / run)
        return start <= end


@dataclass(frozen=True)
class Ball:
    """A circle, and the width and height of the text that names it."""

    x: float
    y: float
    radius: float
    text_width: float
    text_height: float


@dataclass(frozen=True)
class _Field:
    """Everything that a label's place depends on, except the other labels."""

    balls: Sequence[Ball]
    width: float
    height: float
    lines: Sequence[Segment]

    def admits(self, box: Box) -> bool:
        """Whether the box is inside the field and clear of the centres."""
        inside = box.left >= 0 and box.top >= 0 and box.right <= self.width and box.bottom <= self.height
        return inside and all(box.distance(ball.x, ball.y) >= CENTRE for ball in self.balls)


@dataclass(frozen=True, eq=False)
class _Candidate:
    """A place for one ball's label. `floor` is the least that it can cost; `cost` is computed when needed."""

    field: _Field
    index: int
    box: Box
    floor: float

    @cached_property
    def leader(self) -> Segment:
        ball = self.field.balls[self.index]
        return Segment(ball.x, ball.y, *self.box.nearest(ball.x, ball.y))

    @cached_property
    def cost(self) -> float:
        """What the place costs without the other labels; infinite if no label may be there."""
        if not self.field.admits(self.box):
            return math.inf
        cost = self.floor + _ON_LINE * sum(self.box.crosses(line) for line in self.field.lines)
        for index, other in enumerate(self.field.balls):
            if index != self.index:
                cost += _ON_BALL * max(0.0, other.radius + _CLEAR - self.box.distance(other.x, other.y))
                cost += _LEADER_NEAR_CENTRE * (_distance(self.leader, other.x, other.y) < CENTRE)
        return cost


def place(
    balls: Sequence[Ball], width: float, height: float, lines: Sequence[Segment] = ()
) -> list[Box] | None:
    """A box inside `width` by `height` for each ball's text, or None if they don't all fit.

    No box overlaps another or comes near a centre, its own included; covering other balls and
    `lines` is avoided as far as there is room.
    """
    field = _Field(balls, width, height, lines)
    choices = [_candidates(field, index, _around(ball)) for index, ball in enumerate(balls)]
    chosen: dict[int, _Candidate] = {}
    for index in _crowded_first(balls):
        best = _best(choices[index], list(chosen.values()))
        if best is None:
            choices[index] += _candidates(field, index, _anywhere(field, balls[index]))
            best = _best(choices[index], list(chosen.values()))
        if best is None:
            return None
        chosen[index] = best
    _improve(choices, chosen)
    return [chosen[index].box for index in range(len(balls))]


def leader(ball: Ball, box: Box) -> Segment | None:
    """The line that ties a label to its ball's centre, or None if the label touches the ball."""
    if box.distance(ball.x, ball.y) - ball.radius <= _GAPS[1]:
        return None
    x, y = box.nearest(ball.x, ball.y)
    return Segment(ball.x, ball.y, x, y)


def _crowded_first(balls: Sequence[Ball]) -> list[int]:
    def crowd(index: int) -> float:
        ball = balls[index]
        return sum(1 / (1 + math.dist((ball.x, ball.y), (other.x, other.y))) for other in balls)

    return sorted(range(len(balls)), key=lambda index: (-crowd(index), index))


def _improve(choices: Sequence[Sequence[_Candidate]], chosen: dict[int, _Candidate]) -> None:
    """Let each label in turn move to its best place given the others, until none moves."""
    for _ in range(_PASSES):
        before = dict(chosen)
        for index in range(len(choices)):
            others = [candidate for other, candidate in chosen.items() if other != index]
            best = _best(choices[index], others)
            assert best is not None, "the place that it holds is free"
            chosen[index] = best
        if chosen == before:
            return


def _best(candidates: Sequence[_Candidate], others: Sequence[_Candidate]) -> _Candidate | None:
    best, lowest = None, math.inf
    for candidate in candidates:  # the lowest floor first
        if candidate.floor >= lowest:
            break
        if candidate.cost >= lowest or any(candidate.box.overlaps(other.box, MARGIN) for other in others):
            continue
        cost = _cost_among(candidate, others, lowest)
        if cost < lowest:
            best, lowest = candidate, cost
    return best


def _cost_among(candidate: _Candidate, others: Iterable[_Candidate], most: float) -> float:
    """The candidate's cost among the other labels and their leaders; counting ends at `most`."""
    cost = candidate.cost
    for other in others:
        if other.box.crosses(candidate.leader) or candidate.box.crosses(other.leader):
            cost += _LEADER_ON_LABEL
        if _meet(candidate.leader, other.leader):
            cost += _LEADER_ON_LEADER
        if cost >= most:
            break
    return cost


def _candidates(field: _Field, index: int, boxes: Iterable[Box]) -> list[_Candidate]:
    """`boxes` as places for the label of ball `index`, the lowest floor first."""
    found = [
        _Candidate(field, index, box, _floor(field.balls[index], box) + _ANGLE * (order % len(_ANGLES)))
        for order, box in enumerate(boxes)
    ]
    return sorted(found, key=lambda candidate: candidate.floor)


def _floor(ball: Ball, box: Box) -> float:
    """The cost of the distance between a label and its own ball."""
    gap = box.distance(ball.x, ball.y) - ball.radius
    return gap if gap >= 0 else -_ON_BALL * gap


def _around(ball: Ball) -> Iterator[Box]:
    """Around the ball, the nearest and the plainest directions first."""
    for gap in _GAPS:
        for angle in _ANGLES:
            yield _box_at(ball, math.radians(angle), ball.radius + gap)


def _anywhere(field: _Field, ball: Ball) -> Iterator[Box]:
    """A grid over the whole field, of a bounded number of places."""
    across = max(ball.text_width / 3, field.width / _MOST_STEPS)
    down = max(ball.text_height / 2, field.height / _MOST_STEPS)
    for row in range(int(field.height / down)):
        for column in range(int(field.width / across)):
            left, top = column * across, row * down
            yield Box(left, top, left + ball.text_width, top + ball.text_height)


def _box_at(ball: Ball, angle: float, distance: float) -> Box:
    """The box that touches, from outside, the circle of radius `distance` in the direction `angle`."""
    across, up = math.cos(angle), math.sin(angle)
    x = ball.x + distance * across + _side(across) * ball.text_width / 2
    y = ball.y - distance * up - _side(up) * ball.text_height / 2
    half_width, half_height = ball.text_width / 2, ball.text_height / 2
    return Box(x - half_width, y - half_height, x + half_width, y + half_height)


def _side(share: float) -> float:
    """From -1 to 1: how far a box is pushed to one side; at 45 degrees already wholly."""
    return max(-1.0, min(1.0, share * 1.45))


def _distance(line: Segment, x: float, y: float) -> float:
    dx, dy = line.x2 - line.x1, line.y2 - line.y1
    length = dx * dx + dy * dy
    along = 0.0 if length == 0 else ((x - line.x1) * dx + (y - line.y1) * dy) / length
    along = min(max(along, 0.0), 1.0)
    return math.dist((x, y), (line.x1 + along * dx, line.y1 + along * dy))


def _meet(one: Segment, other: Segment) -> bool:
    return _parted(one, other) and _parted(other, one)


def _parted(line: Segment, other: Segment) -> bool:
    """Whether the ends of `other` lie on two sides of `line`."""
    return _turn(line, other.x1, other.y1) * _turn(line, other.x2, other.y2) < 0


def _turn(line: Segment, x: float, y: float) -> float:
    return (line.x2 - line.x1) * (y - line.y1) - (line.y2 - line.y1) * (x - line.x1)
