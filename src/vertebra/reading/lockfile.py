"""READ: a choice written down, to be committed beside the code that depends on it and checked again later.

The file is JSON, one value a line and in one order, so that a change is a short difference: what was asked,
the choice, the rows that it depends on, the next best, and what would overturn it. The standard library reads
TOML but doesn't write it, and only JSON keeps every number exactly. Figures are in base units.

It is written whole or not at all, and holds no path of the machine it was made on.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING, Any

from vertebra import metrics, units
from vertebra._version import __version__
from vertebra.errors import InvalidInputError, VertebraError
from vertebra.machine import files, json_text
from vertebra.measurements import Measurement, Table, WideRow, display, now, shipped, wide
from vertebra.measurements.measurement import GRADES
from vertebra.measurements.record import record_of, row_of
from vertebra.measurements.views import FORM, NEEDING_A_MACHINE
from vertebra.metrics import METRICS
from vertebra.reading.choice import candidates, next_to_measure, precisions, rule

if TYPE_CHECKING:
    from vertebra.reading.choice.candidates import Question
    from vertebra.reading.choice.rule import Limit, Pick

#: The name of the file if none is given, and the version of what is in it.
NAME, VERSION = "backbone.lock", 1
_VERSION_KEY = "vertebra_lock"
_ABOUT = "The choice of `vertebra pick`, and what it depends on. To check it: vertebra check"
#: A lock has a few dozen rows; more bytes are no lock.
_MOST_BYTES = 4_000_000
#: At most this many of the next best, of better networks that miss a limit, and of contenders are written.
_FEW = 3
#: The properties of a machine that are written.
_OF_MACHINE = ("id", "cpu", "physical_cores", "usable_cores", "memory_bytes", "gpus", "os")
#: Metrics that are computed from others, which are written instead.
_COMPUTED_FROM = {"fps": ("latency",), "operations": ("macs",), "accuracy_density": ("top1", "params")}
_ABSOLUTE = re.compile(r"(?:file:)?(?:[/\\~]|[A-Za-z]:[/\\])")
_AGAIN = "make it again: vertebra pick … --lock"

_NAME_OF = {metric: name for name, metric in rule.LIMITS.items()}
#: The condition of a pick in which no precision is named: float32, stated or not. It isn't written.
_USUAL: Mapping[str, Any] = {"precision": (precisions.USUAL, None)}
_QUESTION = (
    "by", "limits", "licence", "family", "input_size", "trust", "among", "conditions",
)  # fmt: skip


@dataclass(frozen=True)
class Lock:
    """A choice, and what it depends on. `limits` are those of `rule.LIMITS` as text with units or numbers in
    base units; `evidence` are the choice's rows, `machine` describes what they were measured on (None if
    none was). `better` are networks that only missed a limit, `contenders` ones that could be better and
    weren't measured, as plain data."""

    made_at: str
    vertebra: str
    catalogue: str
    machine: Mapping[str, Any] | None
    by: str
    limits: Mapping[str, str | float]
    demands: Mapping[str, tuple[str, ...]]
    trust: str | None
    among: str
    conditions: Mapping[str, Any]
    model: str
    licence: str | None
    form: Mapping[str, Any]
    evidence: tuple[Measurement, ...]
    runners_up: Sequence[Mapping[str, Any]] = ()
    falls: Sequence[Mapping[str, Any]] = ()
    better: Sequence[Mapping[str, Any]] = ()
    contenders: Sequence[Mapping[str, Any]] = ()

    @property
    def question(self) -> Question:
        """What was asked for, on the machine that it was answered for."""
        demands = {name.replace(" ", "_"): wanted for name, wanted in self.demands.items()}
        sizes = [int(size) for size in demands.pop("input_size", ())]
        trust = {} if self.trust is None else {"trust": self.trust}
        return candidates.ask(
            self.limits, objective=self.by, input_size=sizes, among=self.among, **trust,
            filters={**_USUAL, **self.conditions, **self._system()}, **demands,
        )  # fmt: skip

    def _system(self) -> dict[str, Any]:
        return {} if self.machine is None else {"system": self.machine["id"]}

    @property
    def row(self) -> WideRow:
        """The choice as it was."""
        rows = [row for row in wide(self.evidence) if row.conditions] or wide(self.evidence)
        return replace(rows[0], model=self.model)

    @property
    def needs_machine(self) -> bool:
        """Whether the answer depends on a machine."""
        return not NEEDING_A_MACHINE.isdisjoint(self.question.asked)

    @property
    def network(self) -> tuple[str, str | None]:
        """The network's name in the table, and the digest of its file."""
        digests = [row.network_sha256 for row in self.evidence if row.network_sha256 is not None]
        return self.evidence[0].model, digests[0] if digests else None

    @property
    def versions(self) -> dict[str, str]:
        """The versions under which the choice's figures were measured."""
        found: dict[str, str] = {}
        for row in self.evidence:
            if row.metric in NEEDING_A_MACHINE:
                found |= row.versions
        return found

    def command(self, path: str = NAME) -> str:
        """The command that makes the lock again."""
        asked = [f"--{name} {_typed(name, bound)}" for name, bound in self.limits.items()]
        asked += [] if self.by == "top1" else [f"--by {_NAME_OF.get(self.by, self.by)}"]
        asked += [
            f"--{name.replace(' ', '-')} {shlex.quote(one)}"
            for name, several in self.demands.items()
            for one in several
        ]
        asked += [f"--trust {self.trust}"] if self.trust is not None else []
        usual = {"batch_size": (1, None), "precision": (_USUAL["precision"],)}
        asked += [
            f"--{name.replace('_', '-')} {shlex.quote(str(one))}"
            for name, value in self.conditions.items() if value not in usual.get(name, ())
            for one in (value if isinstance(value, list | tuple) else (value or "any",)) if one is not None
        ]  # fmt: skip
        return " ".join(["vertebra pick", *asked, f"--among {self.among}", f"--lock {path}"])


def _typed(name: str, bound: str | float) -> str:
    """A limit as an option takes it: a number in base units gets its unit."""
    unit = METRICS[rule.LIMITS[name]].unit
    if isinstance(bound, str):
        return shlex.quote(bound.replace(" ", ""))
    return f"{100 * bound!r}%" if unit == "fraction" else f"{bound!r}{unit if unit in ('s', 'B') else ''}"


# ------------------------------------------------------------------ made


def of(picked: Pick, question: Question, source: Table) -> Lock:
    """The lock of a choice. Raises InvalidInputError where there is none."""
    choice = picked.choice
    if choice is None:
        raise InvalidInputError(
            "No network surely meets the limits, so there is no choice to lock.",
            "relax a limit, or measure more: --budget",
        )
    weights = choice.figures["top1"].weights if "top1" in choice.figures else None
    conditions = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in {"batch_size": 1, "precision": None, **question.filters}.items()
        if name != "system" and (value is not None or name in ("batch_size", "precision"))
        and _USUAL.get(name, "") != value
    }  # fmt: skip
    return Lock(
        made_at=now(), vertebra=__version__, catalogue=shipped.digest(),
        machine=_machine(choice.conditions.get("system"), source),
        by=question.objective, limits={_NAME_OF[limit.metric]: _bound(limit) for limit in question.limits},
        demands={demand.name: demand.wanted for demand in question.demands},
        trust=question.trust, among=question.among, conditions=dict(sorted(conditions.items())),
        model=choice.model, licence=candidates.licence_of(choice.model, weights),
        form={name: choice.conditions[name] for name in FORM if name in choice.conditions},
        evidence=_evidence(choice, picked),
        runners_up=[_brief(row, picked) for row in picked.ranked[1 : 1 + _FEW]],
        falls=_falls(choice, picked), better=_better(picked), contenders=_contenders(picked),
    )  # fmt: skip


def _bound(limit: Limit) -> str | float:
    """The bound as it was typed, where that is read as the same number."""
    unit = METRICS[limit.metric].unit
    text = units.show_bound(limit.bound, unit)
    return text if units.parse(text, unit) == limit.bound else limit.bound


def _machine(system: str | None, source: Table) -> Mapping[str, Any] | None:
    """What is known of the machine: this one, or one that the table knows."""
    from vertebra.machine.system import describe

    if system is None:
        return None
    here = describe()
    known = here.to_dict() if here.id == system else source.system(system) or {}
    return {name: {**known, "id": system}.get(name) for name in _OF_MACHINE}


def _asked(picked: Pick) -> tuple[str, ...]:
    return tuple(dict.fromkeys((picked.objective, *(limit.metric for limit in picked.limits))))


def _evidence(choice: WideRow, picked: Pick) -> tuple[Measurement, ...]:
    """The rows of what was asked for and of what is shown, in the order of the metrics."""
    wanted: set[str] = set()
    for metric in (*_asked(picked), *display.GLANCE):
        parts = _COMPUTED_FROM.get(metric, (metric,))
        wanted |= set(parts) if all(part in choice.figures for part in parts) else {metric}
    return tuple(
        _portable(choice.figures[name]) for name in METRICS if name in wanted & choice.figures.keys()
    )


def _portable(row: Measurement) -> Measurement:
    """The row without the folders of this machine that a source or a file of weights may name."""
    return replace(row, run=None, source=_bare(row.source), weights=_bare(row.weights))


def _bare(text: str | None) -> str | None:
    is_path = text is not None and _ABSOLUTE.match(text) is not None
    return PureWindowsPath(str(text)).name or None if is_path else text


def _brief(row: WideRow, picked: Pick, *more: str) -> dict[str, Any]:
    """A network with its form and the figures that were asked for."""
    form = {name: row.conditions[name] for name in ("engine", "precision") if name in row.conditions}
    names = dict.fromkeys((*_asked(picked), *more))
    return {"model": row.model, **form, "figures": {name: _figure(row.figures.get(name)) for name in names}}


def _figure(one: Measurement | None) -> dict[str, Any] | None:
    if one is None:
        return None
    ends = {} if one.low is None or one.high is None else {"low": _short(one.low), "high": _short(one.high)}
    return {"value": _short(one.value), **ends, "origin": one.origin}


def _short(value: float) -> float:
    """Six digits: enough for a reader, and few lines that differ for nothing."""
    rounded = float(f"{value:.6g}")
    return int(rounded) if rounded.is_integer() else rounded


def _falls(choice: WideRow, picked: Pick) -> list[dict[str, Any]]:
    """At which figure each limit would be missed, and the objective would be the runner-up's."""
    found = [
        {"metric": limit.metric, "falls": "above" if limit.is_ceiling else "below",
         "bound": _short(limit.bound), "now": _figure(choice.figures.get(limit.metric))}
        for limit in picked.limits
    ]  # fmt: skip
    rival = picked.runner_up
    if rival is not None:
        bound = rival.figures[picked.objective].value
        side = "below" if METRICS[picked.objective].better == "higher" else "above"
        found.append({"metric": picked.objective, "falls": side, "bound": _short(bound), "then": rival.model,
                      "now": _figure(choice.figures.get(picked.objective))})  # fmt: skip
    return found


def _better(picked: Pick) -> list[dict[str, Any]]:
    """The better networks whose measured figures miss a limit, the nearest first, with the bounds that they
    would meet."""
    known = [
        item.row for item in picked.excluded
        if not item.unwanted and not next_to_measure.is_estimated(item.row, _asked(picked))
    ]  # fmt: skip
    near = sorted(known, key=lambda row: max((limit.miss(row) for limit in picked.limits), default=1.0))
    return [{**_brief(row, picked), "would_need": _needs(row, picked)} for row in near[:_FEW]]


def _needs(row: WideRow, picked: Pick) -> dict[str, float]:
    unmet = [(limit, limit.needed(row)) for limit in picked.limits if limit.verdict(row) != "met"]
    return {limit.metric: bound for limit, bound in unmet if bound is not None}


def _contenders(picked: Pick) -> list[dict[str, Any]]:
    """Better networks that were never measured here, and may meet the limits."""
    found = [
        (chance, item.row) for item in picked.excluded
        if not item.unwanted and next_to_measure.is_estimated(item.row, _asked(picked))
        and (chance := next_to_measure.chance(item.row, picked)) > 0
    ]  # fmt: skip
    found.sort(key=lambda pair: -pair[0])
    return [{**_brief(row, picked), "chance": round(chance, 2)} for chance, row in found[:_FEW]]


# ------------------------------------------------------------------ written


def check_place(path: Path) -> None:
    """Raise InvalidInputError where a lock can't be written, before anything is measured for it: no folder,
    or a file that is something else."""
    if not path.parent.is_dir():
        raise InvalidInputError(f"There is no folder {path.parent} for {path.name}.", "make the folder first")
    if path.is_dir():
        raise InvalidInputError(f"{path} is a folder, not a lockfile.", f"pass a file: {path / NAME}")
    if path.is_file() and path.stat().st_size:
        try:
            _loaded(path)
        except InvalidInputError:
            raise InvalidInputError(
                f"{path} already exists and isn't a lockfile of vertebra; it is not replaced.",
                "pass another name, or remove the file",
            ) from None


def write(lock: Lock, path: Path) -> None:
    """Write the lock, whole or not at all."""
    files.write_whole(path, (json.dumps(to_dict(lock), indent=2, ensure_ascii=False) + "\n").encode())


def to_dict(lock: Lock) -> dict[str, Any]:
    """The lock as plain data, in the order of the file."""
    asked = {
        "by": lock.by,
        "limits": dict(lock.limits),
        **{name: list(lock.demands.get(name.replace("_", " "), ())) for name in _QUESTION[2:5]},
        "trust": lock.trust,
        "among": lock.among,
        "conditions": dict(lock.conditions),
    }
    return {
        _VERSION_KEY: VERSION,
        "about": _ABOUT,
        "made": {"at": lock.made_at, "vertebra": lock.vertebra, "catalogue": lock.catalogue,
                 "machine": None if lock.machine is None else dict(lock.machine)},
        "asked": asked,
        "choice": {"model": lock.model, "licence": lock.licence, "form": dict(lock.form)},
        "evidence": [record_of(row) for row in lock.evidence],
        "runners_up": list(lock.runners_up),
        "overturned_by": {"figures": list(lock.falls), "better_if_faster": list(lock.better),
                          "contenders": list(lock.contenders)},
    }  # fmt: skip


# ------------------------------------------------------------------ read


def read(path: Path) -> Lock:
    """The lock in a file. Raises InvalidInputError where there is none, or it holds something else."""
    content = _loaded(path)
    try:
        lock = _lock(content)
        _ = lock.question, lock.row, metrics.find(lock.by)  # raises for what can't be
    except VertebraError as error:
        raise InvalidInputError(f"{path}: {error.message}", error.hint or _AGAIN) from None
    return lock


def _loaded(path: Path) -> dict[str, Any]:
    """The object in the file, of a version that can be read."""
    try:
        if path.is_file() and path.stat().st_size > _MOST_BYTES:
            raise ValueError(f"it has more than {_MOST_BYTES:,} bytes")
        content = json_text.parsed(path.read_text(encoding="utf-8"), pairs=_without_repeats)
    except FileNotFoundError:
        raise InvalidInputError(
            f"There is no lockfile {path}.",
            f"make one, for example: vertebra pick --fps 30 --memory 200MB --lock {path.name}",
        ) from None
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise InvalidInputError(f"{path} can't be read as a lockfile: {why}.", _AGAIN) from None
    version = content.get(_VERSION_KEY) if isinstance(content, dict) else None
    if not isinstance(version, int) or isinstance(version, bool):
        raise InvalidInputError(
            f'{path} isn\'t a lockfile of vertebra: it has no number "{_VERSION_KEY}".', _AGAIN
        )
    if version != VERSION:
        raise InvalidInputError(
            f"{path} is of version {version}; this vertebra reads version {VERSION}.",
            f"update vertebra, or {_AGAIN}",
        )
    return dict(content)


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"it has {json_text.shown(twice)} twice in one object")
    return found


def _lock(content: Mapping[str, Any]) -> Lock:
    made, asked, choice = (_part(content, name, dict) for name in ("made", "asked", "choice"))
    overturned = _part(content, "overturned_by", dict)
    for name in asked.keys() - set(_QUESTION):
        raise _wrong(f"asked.{name}", asked[name], f"only {', '.join(_QUESTION)}")
    return Lock(
        made_at=_text(made, "at"), vertebra=_text(made, "vertebra"), catalogue=_text(made, "catalogue"),
        machine=_machine_of(made), by=_text(asked, "by"), limits=_limits(asked),
        demands={name.replace("_", " "): texts for name in _QUESTION[2:5] if (texts := _texts(asked, name))},
        trust=None if asked.get("trust") is None else _one_of(_text(asked, "trust"), "trust", GRADES),
        among=_one_of(_text(asked, "among"), "among", candidates.AMONG),
        conditions=_conditions(_part(asked, "conditions", dict)), model=_text(choice, "model"),
        licence=None if choice.get("licence") is None else _text(choice, "licence"),
        form=_form(_part(choice, "form", dict)), evidence=_rows(_part(content, "evidence", list)),
        runners_up=_briefs(content, "runners_up"), falls=_objects(overturned, "figures"),
        better=_briefs(overturned, "better_if_faster"), contenders=_briefs(overturned, "contenders"),
    )  # fmt: skip


def _part(content: Mapping[str, Any], name: str, kind: type[Any]) -> Any:
    value = content.get(name)
    if not isinstance(value, kind):
        raise _wrong(name, value, "an object" if kind is dict else "a list")
    return value


def _text(content: Mapping[str, Any], name: str) -> str:
    value = content.get(name)
    if not isinstance(value, str) or not value.isprintable() or not 0 < len(value) <= 1000:
        raise _wrong(name, value, "a text of one line")
    return value


def _texts(content: Mapping[str, Any], name: str) -> tuple[str, ...]:
    value = _part(content, name, list)
    texts = tuple(_text({name: one}, name) for one in value)
    if name == "input_size" and not all(text.isdecimal() and len(text) < 6 for text in texts):
        raise _wrong(name, value, "a list of texts such as 224")
    return texts


def _one_of(value: str, name: str, known: Sequence[str]) -> str:
    if value not in known:
        raise _wrong(name, value, f"one of {', '.join(known)}")
    return value


def _wrong(name: str, value: Any, expected: str) -> InvalidInputError:
    return InvalidInputError(f"{name} is {json_text.shown(value)}; {expected} was expected.", _AGAIN)


def _machine_of(made: Mapping[str, Any]) -> Mapping[str, Any] | None:
    if made.get("machine") is None:
        return None
    machine = _part(made, "machine", dict)
    return {**dict.fromkeys(_OF_MACHINE), **machine, "id": _text(machine, "id")}


def _limits(asked: Mapping[str, Any]) -> dict[str, str | float]:
    limits = _part(asked, "limits", dict)
    for name, bound in limits.items():
        if isinstance(bound, bool) or not isinstance(bound, str | int | float):
            raise _wrong(f"limits.{name}", bound, "a number, or a text such as 50 ms,")
    return dict(limits)


#: The conditions that a pick can ask for.
_CONDITIONS = (*FORM, "dataset", "probed", "origin")


def _conditions(found: Mapping[str, Any]) -> dict[str, Any]:
    for name, value in found.items():
        several = value if isinstance(value, list) else [value]
        if name not in _CONDITIONS or not all(one is None or _is_plain(one) for one in several):
            raise _wrong(f"conditions.{name}", value, f"a value of {', '.join(_CONDITIONS)}")
    return {name: tuple(value) if isinstance(value, list) else value for name, value in found.items()}


def _form(found: Mapping[str, Any]) -> dict[str, Any]:
    for name, value in found.items():
        if name not in FORM or not _is_plain(value):
            raise _wrong(f"form.{name}", value, f"a value of {', '.join(FORM)}")
    return dict(found)


def _is_plain(value: Any) -> bool:
    if isinstance(value, str):
        return value.isprintable() and len(value) <= 1000
    return not isinstance(value, bool) and isinstance(value, int | float) and abs(value) < 2**53


def _rows(found: Iterable[Any]) -> tuple[Measurement, ...]:
    rows = []
    for place, values in enumerate(found):
        if not isinstance(values, dict):
            raise _wrong(f"evidence[{place}]", values, "an object")
        rows.append(row_of(values))
    if not rows or len({row.model for row in rows}) > 1:
        raise _wrong("evidence", [row.model for row in rows], "the rows of one network")
    return tuple(rows)


def _objects(content: Mapping[str, Any], name: str) -> tuple[Mapping[str, Any], ...]:
    found = _part(content, name, list)
    for one in found:
        if not isinstance(one, dict):
            raise _wrong(name, one, "a list of objects")
    return tuple(found)


def _briefs(content: Mapping[str, Any], name: str) -> tuple[Mapping[str, Any], ...]:
    """Objects that name a network, its engine and its precision."""
    found = _objects(content, name)
    for one in found:
        for key in ("model", *({"engine", "precision"} & one.keys())):
            _text(one, key)
    return found
