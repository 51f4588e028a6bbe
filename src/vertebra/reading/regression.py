"""READ: whether a comparison holds as a gate: its outcome, its summary, and both as Markdown or JUnit's XML.

Three outcomes: it holds, something is certainly worse, or too little could be judged to say so. What wasn't
judged is counted first, because a gate that judges nothing would pass for ever.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from vertebra import metrics, units
from vertebra.measurements import Measurement, display
from vertebra.reading.comparison import Compared, Comparison, Verdict

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

Outcome = Literal["holds", "worse", "too little judged"]

#: outcome -> exit status of the command; 2 is left to misuse and errors.
STATUS: dict[Outcome, int] = {"holds": 0, "worse": 1, "too little judged": 3}
#: The least share of the figures that must be judged for a gate to hold.
REQUIRED_SHARE = 0.8
_COUNTED: dict[Verdict, str] = {
    "better": "better", "different": "different", "fixed": "fixed", "failed": "failed",
    "no detectable difference": "without a detectable difference",
}  # fmt: skip
_CHANGED = ("worse", "better", "different", "failed", "fixed")
#: At most this many cases are named in a sentence.
_FEW = 6
#: What XML 1.0 can't hold.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Gate:
    """A comparison and what it must meet: nothing worse by more than `tolerance` (a share), at least the
    share `require_judged` of the figures judged, and no case missing if `require_all`."""

    compared: Compared
    tolerance: float = 0.0
    require_all: bool = False
    require_judged: float = REQUIRED_SHARE

    @property
    def outcome(self) -> Outcome:
        """`worse` goes first: more figures judged would not mend it."""
        if self.compared.regressions(self.tolerance) or (self.require_all and self.compared.missing):
            return "worse"
        return "holds" if self.compared.judged_share >= self.require_judged else "too little judged"

    @property
    def status(self) -> int:
        """The exit status: 0 holds, 1 worse, 3 too little judged."""
        return STATUS[self.outcome]

    @property
    def suspects(self) -> list[Comparison]:
        """Figures that weren't judged, though all of their interval is worse by more than the tolerance."""
        return [one for one in self.compared if one.is_suspect(self.tolerance)]

    @property
    def changed(self) -> list[Comparison]:
        """The figures that really differ, and the suspects."""
        return [one for one in self.compared if one.verdict in _CHANGED or one.is_suspect(self.tolerance)]

    def summary(self) -> list[str]:
        """The outcome and the counts, one sentence or two an entry; what wasn't judged goes first."""
        lines = [self._counts(), self._suspicion(), *self._absent(), self._once(), self._conclusion()]
        return [line for line in lines if line]

    def _counts(self) -> str:
        every, judged = len(self.compared.judgeable), len(self.compared.judged)
        kinds = Counter(one.verdict for one in self.compared)
        parts = [f"{len(self.compared.regressions(self.tolerance))} worse{self._beyond()}"]
        parts += [f"{kinds[verdict]} {text}" for verdict, text in _COUNTED.items() if kinds[verdict]]
        unjudged = f"Not judged: {every - judged} of {display.count(every, 'figure')}."
        return f"{unjudged} Judged: {judged} ({', '.join(parts)})."

    def _beyond(self) -> str:
        return f" by more than {100 * self.tolerance:g} %" if self.tolerance else ""

    def _suspicion(self) -> str:
        suspects = self.suspects
        if not suspects:
            return ""
        verb = "is" if len(suspects) == 1 else "are"
        what = f"{len(suspects)} of the figures not judged {verb} worse{self._beyond()}"
        return f"Warning: {what} with all of the interval: {_few(map(_figure, suspects))}."

    def _absent(self) -> list[str]:
        sides = (("Missing", "first", self.compared.missing), ("New", "second", self.compared.new))
        found = [(word, side, cases(rows)) for word, side, rows in sides if rows]
        return [
            f"{word}: {display.count(len(names), 'case')} that only the {side} side has: {_few(names)}."
            for word, side, names in found
        ]

    def _once(self) -> str:
        once = len(self.compared) - len(self.compared.judgeable)
        return f"Measured once, and never judged: {display.count(once, 'figure')}." if once else ""

    def _conclusion(self) -> str:
        share = f"{100 * self.compared.judged_share:.0f} % judged, {100 * self.require_judged:g} % required"
        gone = (
            " Cases are missing, and all are required." if self.require_all and self.compared.missing else ""
        )
        return f"Outcome: {self.outcome} ({share}).{gone}"


def cases(rows: Iterable[Measurement]) -> list[str]:
    """The cases of `rows`, each once, in words."""
    return list(dict.fromkeys(_case(row) for row in rows))


def _case(row: Measurement) -> str:
    where = f" on {row.engine}" if row.engine else ""
    batch = f", batch size {row.batch_size}" if row.batch_size is not None else ""
    data = f", {row.dataset}" if row.dataset else ""
    number = f", {row.precision}" if row.precision not in (None, "float32") else ""
    beside = f", beside {row.beside} busy threads" if row.beside else ""
    return f"{row.model}{where}{number}{batch}{beside}{data}"


def _figure(one: Comparison) -> str:
    times = "" if one.ratio is None else f" ({one.ratio:.2f} times)"
    return f"{metrics.find(one.metric).label} of {_case(one.second)}{times}"


def _few(names: Iterable[str]) -> str:
    every = list(names)
    more = f"; and {len(every) - _FEW} more" if len(every) > _FEW else ""
    return "; ".join(every[:_FEW]) + more


# ------------------------------------------------------------------ for a build server


def markdown(gate: Gate, figures: Sequence[Comparison]) -> str:
    """The summary and a table of `figures`, for a build's page or a pull request's comment."""
    lines = [f"### vertebra compare: {gate.outcome}", "", *(f"- {escaped(line)}" for line in gate.summary())]
    if figures:
        heads = ("case", "figure", "first", "second", "ratio", "95 % interval", "verdict")
        lines += [
            "",
            cells(heads),
            cells(["---"] * len(heads)),
            *(cells(_columns(one)) for one in figures),
        ]
    return "\n".join(lines) + "\n"


def _columns(one: Comparison) -> list[str]:
    first, second = values(one)
    interval = "" if one.low is None else f"{one.low:.3f} to {one.high:.3f}"
    ratio = "" if one.ratio is None else f"{one.ratio:.3f}"
    return [_case(one.second), metrics.find(one.metric).label, first, second, ratio, interval, one.verdict]


def values(one: Comparison) -> tuple[str, str]:
    """Both values as text; empty for a failure, which has none."""
    if one.metric == "failure":
        return "", ""
    unit = metrics.find(one.metric).unit
    return units.show(one.first.value, unit), units.show(one.second.value, unit)


def cells(texts: Iterable[str]) -> str:
    """A line of a table in Markdown."""
    return f"| {' | '.join(map(escaped, texts))} |"


def escaped(text: str) -> str:
    """Text without meaning in Markdown or HTML, in one line."""
    plain = re.sub(r"([\\`*_\[\]|~])", r"\\\1", " ".join(text.split()))
    return plain.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def junit(gate: Gate) -> bytes:
    """JUnit's XML: a test for each figure and each missing case. A regression is a failure; what wasn't
    judged is skipped, and so is a missing case, unless all are required. A last test fails if too little was
    judged.
    """
    from xml.etree import ElementTree

    tests = [_test(f"{_case(one.second)}: {metrics.find(one.metric).label}", *_result(one, gate))
             for one in gate.compared]  # fmt: skip
    kind = "failure" if gate.require_all else "skipped"
    tests += [_test(name, kind, "only the first side has this case") for name in cases(gate.compared.missing)]
    little = gate.outcome == "too little judged"
    tests.append(_test("enough figures are judged", "failure" if little else None, gate.summary()[-1]))
    found = Counter(kind for kind, _ in tests)
    counts = {"tests": str(len(tests)), "failures": str(found["failure"]), "skipped": str(found["skipped"])}
    suite = ElementTree.Element("testsuite", {"name": "vertebra compare", **counts, "errors": "0"})
    suite.extend(element for _, element in tests)
    content: bytes = ElementTree.tostring(suite, encoding="utf-8", xml_declaration=True)
    return content


def _result(one: Comparison, gate: Gate) -> tuple[str | None, str]:
    text = "; ".join([" → ".join(filter(None, values(one))), one.verdict, *one.notes])
    if one.is_regression(gate.tolerance):
        return "failure", text
    return ("skipped" if one.verdict == "not judged" else None), text


def _test(name: str, kind: str | None, text: str) -> tuple[str | None, Element]:
    from xml.etree import ElementTree

    test = ElementTree.Element("testcase", {"classname": "vertebra.compare", "name": _xml(name)})
    if kind is not None:
        ElementTree.SubElement(test, kind, {"message": _xml(text)})
    return kind, test


def _xml(text: str) -> str:
    return _NOT_XML.sub("�", text)
