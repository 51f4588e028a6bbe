"""The race between networks whose features are asked for: which one's head is best on these pictures.

Few pictures first: each round takes four times as many, whole groups, a share of every class and fold, and
the last takes all. After a round, those leave that are surely less often right than the leader, by an
interval of the paired difference over the same pictures and folds. All looks together are wrong about one
pair in 5 % of races at most (Bonferroni). At the end, the fastest wins of those that aren't surely worse than
the leader: a tie goes to the faster.

The best of many looks better than it is. So the whole race is also run for each fold without that fold's
pictures: the networks that these choose, with heads that haven't seen the fold either, give the answers that
are pooled as `Race.nested`, whose accuracy isn't flattered by the choice.

A network may have features of pictures that were prepared otherwise. They are asked for once a choice falls
on it, and take its place in that choice where they are right more often by more than a standard error of the
difference, on the same pictures: neither is faster, so the more accurate is taken unless it is a tie.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from vertebra.errors import InvalidInputError, MeasurementError, VertebraError
from vertebra.measuring.evaluation import crossing, heads, kept_heads, learning, logistic
from vertebra.measuring.evaluation.crossing import Crossed, Held
from vertebra.measuring.evaluation.heads import Head
from vertebra.measuring.evaluation.learning import Curve
from vertebra.measuring.evaluation.paired import Pair, paired
from vertebra.progress import Listener, Progress, silent

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from vertebra.measuring.evaluation.kept_heads import Recall

    Flags = npt.NDArray[np.bool_]
    Indices = npt.NDArray[np.intp]

#: Pictures of the first round, and how many times as many the next takes.
FIRST = 120
STEP = 4
#: The level of an interval that is looked at once, and of one of a standard error to both sides.
_ONE_LOOK, _STANDARD_ERROR = 0.95, 0.6827


@dataclass(frozen=True)
class Entry:
    """A network in the race. `cost` is what a tie is decided by: milliseconds a picture.

    `features` gives the features (rows, D) of pictures by their rows: a part first, later more, those of
    before among them. `otherwise` is the same network on pictures that are prepared otherwise.
    """

    name: str
    cost: float
    features: Callable[[Sequence[int]], Any] = field(repr=False)
    otherwise: Entry | None = None


@dataclass(frozen=True)
class Outcome:
    """How one network fared: the `pictures` it was asked about, what its heads answered out of fold (`held`),
    how much more often than the winner on the same pictures it was right (`difference`, with a 95 % interval;
    None for the winner), and `why` it won or not. `failed` is the error that ended it, if one did.
    `network` is the entry that it is of: another one if this is its `otherwise`."""

    name: str
    cost: float
    pictures: int
    held: Held | None
    difference: Pair | None
    why: str
    failed: VertebraError | None = field(default=None, compare=False)
    network: str = ""


@dataclass(frozen=True)
class Race:
    """The winner, and how sure: `outcomes` has it first, then those that went as far by accuracy, and those
    that failed last. `head` is fitted on all pictures.

    `nested` holds the answers of the networks in `chosen`, one for each fold, chosen without it: its accuracy
    is the one to print. `rounds` are the numbers of pictures.
    """

    winner: str
    head: Head
    nested: Held
    chosen: tuple[str, ...]
    outcomes: tuple[Outcome, ...]
    curve: Curve
    rounds: tuple[int, ...]

    @property
    def learnt(self) -> bool:
        """Whether what was chosen is surely better than always answering the largest class."""
        return self.nested.learnt

    @property
    def verdict(self) -> str:
        """Whether it is, in one sentence."""
        return self.nested.verdict

    @property
    def held(self) -> Held:
        """The winner's answers out of fold; their accuracy is flattered by the choice (see `nested`)."""
        found = self.outcomes[0].held
        assert found is not None
        return found

    @property
    def runner_up(self) -> Outcome | None:
        """The most accurate of the other networks on the most pictures."""
        own = self.outcomes[0].network
        others = [one for one in self.outcomes[1:] if one.failed is None and one.network != own]
        return others[0] if others else None

    @property
    def otherwise(self) -> Outcome | None:
        """The winner's network on pictures that are prepared in the other way, if that was tried."""
        own = self.outcomes[0].network
        others = [one for one in self.outcomes[1:] if one.failed is None and one.network == own]
        return others[0] if own and others else None


def race(
    entries: Sequence[Entry],
    labels: Sequence[int],
    folds: Sequence[int],
    groups: Sequence[int] | None = None,
    *,
    classes: int | None = None,
    penalty: float | None = None,
    balanced: bool = False,
    seed: int = 0,
    recall: Recall = kept_heads.fresh,
    progress: Listener | None = None,
) -> Race:
    """Race `entries` over pictures with `labels` (N,) of 0 to `classes` - 1. With `kept_heads.recalled` as
    `recall`, heads that were fitted once on the same features aren't again.

    A network whose features raise a VertebraError, or aren't finite, is named and left out. Raises
    InvalidInputError for folds that can't be used, and MeasurementError if no network is left.
    """
    _check_names(entries)
    places = heads.numbered(folds, len(labels), groups)
    field_ = _Field(
        entries, labels, places, groups, max(labels) + 1 if classes is None else classes,
        heads.PENALTIES if penalty is None else (penalty,), balanced, seed, recall,
        progress or silent,
    )  # fmt: skip
    return field_.run()


def _check_names(entries: Sequence[Entry]) -> None:
    if not entries:
        raise InvalidInputError("A race without a network was asked for; at least one was expected.")
    names = [one.name for entry in entries for one in (entry, entry.otherwise) if one is not None]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InvalidInputError(f"{twice[0]} is in the race twice.", "name each network once")
    bad = [entry.name for entry in entries if not entry.cost >= 0]
    if bad:
        raise InvalidInputError(f"The cost of {bad[0]} isn't a number of 0 or more.")


def rounds(labels: Sequence[int], folds: Indices, groups: Sequence[int] | None, seed: int) -> list[Indices]:
    """The pictures of each round, each a part of the next, the last all of them."""
    import numpy as np

    count = len(labels)
    order = heads.thresholds(labels, groups, folds.tolist(), seed)
    found: list[Indices] = []
    wanted = FIRST
    while wanted <= count / 2:
        rows = np.flatnonzero(order < wanted / count)
        if len(rows) <= 0.6 * count and (not found or len(rows) > len(found[-1])):
            found.append(rows)
        wanted *= STEP
    return [*found, np.arange(count)]


class _Field:
    """A race under way: who is still in it, for all pictures and without each fold's."""

    def __init__(
        self,
        entries: Sequence[Entry],
        labels: Sequence[int],
        folds: Indices,
        groups: Sequence[int] | None,
        classes: int,
        penalties: Sequence[float],
        balanced: bool,
        seed: int,
        recall: Recall,
        progress: Listener,
    ) -> None:
        self.entries = {entry.name: entry for entry in sorted(entries, key=lambda one: (one.cost, one.name))}
        self.others = {one.otherwise.name: one.otherwise for one in entries if one.otherwise is not None}
        self.labels, self.folds, self.groups, self.classes = labels, folds, groups, classes
        self.penalties, self.balanced, self.seed = penalties, balanced, seed
        self.recall, self.progress = recall, progress
        alone = len(entries) == 1
        self.rounds = rounds(labels, folds, groups, seed)[-1 if alone else 0 :]
        self.level = 1 - 0.05 / len(self.rounds)
        self.failed: dict[str, VertebraError] = {}
        self.history: list[dict[str, Crossed]] = []
        count = int(folds.max()) + 1
        # Who may still win: judged by all pictures (the last), and without each fold's.
        self.left = [list(self.entries) for _ in range(count + 1)]

    def run(self) -> Race:
        for place in range(len(self.rounds)):
            self.history.append({})
            self._settle(place)
        while True:
            self._try_otherwise()
            winner = self._choice(len(self.left) - 1)
            try:
                return self._finished(winner)
            except VertebraError as error:  # it gave its features before, and doesn't any more
                self._fail(winner, error)
                self._settle(len(self.rounds) - 1)

    def _settle(self, place: int) -> None:
        """Have a round's answers of each network that is still in a race.

        One that fails is as if it had never been there: those that had left because of it come back.
        """
        while True:
            sound = [name for name in self.entries if name not in self.failed]
            if not sound:
                told = "; ".join(f"{name}: {error.message}" for name, error in self.failed.items())
                raise MeasurementError(f"No network is left to choose from. {told}")
            self.left = [sound for _ in self.left]
            for earlier in range(place):
                self.left = [self._ahead(judge, earlier) for judge in range(len(self.left))]
            wanted = [name for name in sound if any(name in left for left in self.left)]
            missing = [name for name in wanted if name not in self.history[place]]
            if not missing:
                return
            self._cross(missing, place)

    def _try_otherwise(self) -> None:
        """Have all answers of each network that a choice falls on, on pictures prepared otherwise."""
        chosen = dict.fromkeys(self._best(judge) for judge in range(len(self.left)))
        others = [other.name for name in chosen if (other := self.entries[name].otherwise) is not None]
        missing = [name for name in others if name not in self.history[-1] and name not in self.failed]
        if missing:
            self._cross(missing, len(self.rounds) - 1)

    def _fail(self, name: str, error: VertebraError) -> None:
        self.failed[name] = error
        for found in self.history:
            found.pop(name, None)

    def _cross(self, names: Sequence[str], place: int) -> None:
        """Have the named networks' answers out of fold to a round's pictures."""
        rows = self.rounds[place]
        event = Progress(f"comparing networks on {len(rows):,} pictures", 0, len(names), "networks")
        for done, name in enumerate(names):
            self.progress(replace(event, done=done))
            try:
                vectors = self._features(name, rows)
                self.history[place][name] = crossing.cross(
                    vectors, self._labels(rows), self.folds[rows].tolist(), classes=self.classes,
                    groups=self._groups(rows), penalties=self.penalties, balanced=self.balanced,
                    seed=self.seed, compared=len(self.entries) + len(self.others) > 1,
                    of=f" on the features of {name}", recall=self.recall,
                )  # fmt: skip
            except VertebraError as error:
                self._fail(name, error)
        self.progress(replace(event, done=len(names)))

    def _features(self, name: str, rows: Indices) -> Any:
        vectors = (self.entries.get(name) or self.others[name]).features(rows.tolist())
        logistic.check(vectors, self._labels(rows), self.classes, rows.tolist())
        return vectors

    def _labels(self, rows: Indices) -> list[int]:
        return [int(self.labels[row]) for row in rows]

    def _groups(self, rows: Indices) -> list[int] | None:
        return None if self.groups is None else [int(self.groups[row]) for row in rows]

    def _answers(self, judge: int, place: int) -> _Answers:
        """What a judge may look at: all pictures' answers out of fold, or those without the judge's fold."""
        return self._answers_of(self.left[judge], judge, place)

    def _answers_of(self, names: Sequence[str], judge: int, place: int) -> _Answers:
        found = {name: one for name, one in self.history[place].items() if name in names}
        rows = self.rounds[place]
        if judge == len(self.left) - 1:
            right = {name: one.held.answered_right for name, one in found.items()}
            return _Answers(right, self._groups(rows))
        right = {name: one.inner[judge].right for name, one in found.items()}
        seen = rows[next(iter(found.values())).inner[judge].rows]
        return _Answers(right, self._groups(seen))

    def _ahead(self, judge: int, place: int) -> list[str]:
        """Who isn't surely less often right than the leader; who came back and wasn't asked stays."""
        if len(self.left[judge]) == 1:
            return self.left[judge]
        answers = self._answers(judge, place)
        leader = answers.leader(self.entries)
        behind = {name for name in answers.right if answers.pair(leader, name, self.level).low > 0}
        return [name for name in self.left[judge] if name not in behind]

    def _best(self, judge: int) -> str:
        """The fastest of those that aren't surely less often right than the leader."""
        if len(self.left[judge]) == 1:
            return self.left[judge][0]
        found = self._answers(judge, len(self.rounds) - 1)
        leader = found.leader(self.entries)
        tied = [name for name in found.right if found.pair(leader, name, self.level).low <= 0]
        cheapest = min(self.entries[name].cost for name in tied)
        share = {name: found.right[name].mean() for name in tied if self.entries[name].cost == cheapest}
        return max(share, key=lambda name: share[name])

    def _choice(self, judge: int) -> str:
        """The best, or the same on pictures prepared otherwise where that isn't a tie."""
        name = self._best(judge)
        other = self.entries[name].otherwise
        if other is None or other.name not in self.history[-1]:
            return name
        found = self._answers_of((name, other.name), judge, len(self.rounds) - 1)
        return other.name if found.pair(other.name, name, _STANDARD_ERROR).low > 0 else name

    def _finished(self, winner: str) -> Race:
        import numpy as np

        vectors = self._features(winner, self.rounds[-1])
        found = self.history[-1]
        curve = learning.learn(
            vectors, found[winner].held, classes=self.classes, groups=self.groups, seed=self.seed,
            recall=self.recall,
        )  # fmt: skip
        head = heads.fit(
            vectors, self.labels, classes=self.classes, folds=self.folds.tolist(), groups=self.groups,
            penalty=None if len(self.penalties) > 1 else self.penalties[0], balanced=self.balanced,
            recall=self.recall,
        )  # fmt: skip
        chosen = [self._choice(fold) for fold in range(len(self.left) - 1)]
        logits = np.stack([found[chosen[fold]].held.logits[row] for row, fold in enumerate(self.folds)])
        nested = crossing.summary(
            logits, found[winner].held.labels, self.folds, groups=self.groups, balanced=self.balanced,
            penalties=[found[name].held.penalties[fold] for fold, name in enumerate(chosen)],
        )  # fmt: skip
        return Race(
            winner, head, nested, tuple(chosen), self._outcomes(winner), curve,
            tuple(len(rows) for rows in self.rounds),
        )  # fmt: skip

    def _outcomes(self, winner: str) -> tuple[Outcome, ...]:
        tried = [name for name in self.others if name in self.history[-1]]
        sound = [name for name in self.entries if name not in self.failed]
        told = [self._outcome(name, winner) for name in (*sound, *tried)]
        told.sort(key=lambda one: (one.name != winner, -one.pictures, -one.held.accuracy if one.held else 0))
        lost = [
            Outcome(name, self._cost(name), 0, None, None, error.message, error, self._network(name))
            for name, error in self.failed.items()
        ]
        return (*told, *lost)

    def _outcome(self, name: str, winner: str) -> Outcome:
        place = max(place for place, found in enumerate(self.history) if name in found)
        rows, found, cost = self.rounds[place], self.history[place], self._cost(name)
        held, network = found[name].held, self._network(name)
        if name == winner:
            return Outcome(name, cost, len(rows), held, None, self._why_won(winner), network=network)
        is_same = network == self._network(winner)
        if winner not in found:  # it was tried on all pictures only
            winner = self._network(winner)
        pair = paired(
            held.answered_right, found[winner].held.answered_right, groups=self._groups(rows),
            level=_ONE_LOOK if is_same else self.level,
        )  # fmt: skip
        if is_same:
            why = _why_otherwise(name in self.others, winner, pair)
        else:
            why = self._why_lost(name, winner, pair, len(rows))
        return Outcome(name, cost, len(rows), held, pair, why, network=network)

    def _network(self, name: str) -> str:
        """The entry that a name is of: itself, or the one that it is prepared otherwise of."""
        whose = {one.otherwise.name: key for key, one in self.entries.items() if one.otherwise is not None}
        return whose.get(name, name)

    def _cost(self, name: str) -> float:
        return self.entries[self._network(name)].cost

    def _why_won(self, winner: str) -> str:
        network = self._network(winner)
        if network != winner:
            pair = self._answers_of((network, winner), len(self.left) - 1, len(self.rounds) - 1).pair(
                winner, network, _ONE_LOOK
            )
            gap = f"{100 * pair.low:+.1f} to {100 * pair.high:+.1f} points against {network}"
            return f"{'surely ' if pair.low > 0 else ''}right more often: {gap}"
        if len(self.entries) == 1:
            return "the only network in the race"
        if len(self.entries) == 1 + sum(name in self.entries for name in self.failed):
            return "no other gave features"
        leader = self._answers(len(self.left) - 1, len(self.rounds) - 1).leader(self.entries)
        if leader != winner:
            return f"the fastest of those that aren't surely less often right than {leader}"
        return "right most often"

    def _why_lost(self, name: str, winner: str, pair: Pair, pictures: int) -> str:
        gap = f"{100 * pair.low:+.1f} to {100 * pair.high:+.1f} points against {winner}"
        after = "" if pictures == len(self.labels) else f" on {pictures:,} pictures"
        if pair.high < 0:
            return f"surely less often right{after}: {gap}"
        mine, its = self._cost(name), self._cost(winner)
        slower = f"slower: {mine:.3g} ms, not {its:.3g} ms"
        if name in self.others:
            return f"{self._network(name)} wasn't chosen: {gap}"
        if pair.low > 0 and winner in self.others:
            return f"not surely more often right than {self._network(winner)}, and {slower}; {gap}"
        if pair.low > 0:
            return f"right more often than {winner}, but surely less often than the leader{after}: {gap}"
        if mine > its:
            return f"not surely more often right{after} ({gap}), and {slower}"
        return f"surely less often right than the leader{after}; {gap}"


def _why_otherwise(is_other: bool, winner: str, pair: Pair) -> str:
    """Why a way of preparing the winner's pictures wasn't taken, the other one or its own."""
    gap = f"{100 * pair.low:+.1f} to {100 * pair.high:+.1f} points against {winner}"
    if pair.high < 0:
        return f"surely less often right: {gap}"
    if is_other:
        return f"not right more often by more than a standard error: {gap}"
    return f"less often right, by more than a standard error: {gap}"


@dataclass(frozen=True)
class _Answers:
    """Which pictures each network answered right, over the same pictures."""

    right: Mapping[str, Flags]
    groups: Sequence[int] | None

    def leader(self, entries: Mapping[str, Entry]) -> str:
        """The most often right, of equals the faster."""
        return max(self.right, key=lambda name: (int(self.right[name].sum()), -entries[name].cost))

    def pair(self, first: str, second: str, level: float) -> Pair:
        return paired(self.right[first], self.right[second], groups=self.groups, level=level)
