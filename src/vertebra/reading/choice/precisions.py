"""Other precisions than float32: which accuracy a form in one has, and what one would buy."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vertebra import metrics, units
from vertebra.measurements import Measurement, Table, WideRow
from vertebra.measurements.subjects import Subject, is_of_catalogue, subject
from vertebra.measurements.views import NEEDING_A_MACHINE
from vertebra.reading.choice.rule import Demand, Limit

#: The precision whose accuracy is published.
USUAL = "float32"
#: Asked for, it lets every precision be chosen.
ANY = "any"

#: What is said of trained weights in one precision.
_OF_WEIGHTS = ("top1", "top5", "accuracy_density")

#: Precision -> the processor's feature that makes it fast, and the share of float32's time that it takes with
#: it: the median of four networks at batch size 1 on OpenVINO, on a Xeon with AMX.
_BY_FEATURE = {"bfloat16": ("amx_bf16", 0.46), "int8": ("amx_int8", 0.24)}
_ENGINE = "openvino"
#: Networks measured in both precisions from which a share is taken.
_FEWEST = 3
#: The limits that a faster form meets sooner.
_OF_TIME = ("latency", "fps")


#: How often a form classed pictures otherwise than float32, and of how many pictures that must be to count.
_OTHERWISE, FEWEST_PICTURES = "top1_disagreement", 200
#: At most this many forms are named in a note.
_FEW = 3
#: A comparison with float32, and the published accuracy of the same weights.
_Pair = tuple[Measurement, Measurement]


def believed(
    rows: Iterable[WideRow], known: Iterable[Measurement] = (), told: list[str] | None = None
) -> list[WideRow]:
    """`rows` without published accuracies beside another precision than float32: nobody published those.

    A form in another precision without an accuracy of its own has float32's published one, of the same
    weights, less the most that it may disagree with float32: by a comparison among the rows `known`, on this
    engine, of at least FEWEST_PICTURES pictures. Forms compared on fewer are said in `told`."""
    compared: dict[Subject, list[Measurement]] = defaultdict(list)
    published: dict[str, list[Measurement]] = defaultdict(list)
    for one in known:
        if one.metric == _OTHERWISE:
            compared[subject(one)].append(one)
        elif one.metric == "top1" and one.origin == "published" and one.network_sha256 is None:
            published[one.model].append(one)
    found: list[WideRow] = []
    short: dict[str, int] = {}
    for row in rows:
        is_usual = row.conditions.get("precision", USUAL) == USUAL
        own = row if is_usual else _own(row)
        if not is_usual and "top1" not in own.figures:
            counted, images = _bounded(own, compared, published)
            short |= {_form(own): images} if images else {}
            own = counted or own
        found.append(own)
    if told is not None and short:
        told.append(_too_few(short))
    return found


def _bounded(
    row: WideRow,
    compared: Mapping[Subject, Sequence[Measurement]],
    published: Mapping[str, Sequence[Measurement]],
) -> tuple[WideRow | None, int]:
    """`row` with the accuracy that it has at least; else, where it was compared on too few pictures to have
    one, their number."""
    own = next((one for one in row.figures.values() if one.metric in NEEDING_A_MACHINE), None)
    if own is None or not is_of_catalogue(own):
        return None, 0
    pairs = [
        (one, usual) for one in compared.get(subject(own), ()) if _is_of(row, one)
        for usual in published.get(one.model, ()) if _is_same(one, usual)
    ]  # fmt: skip
    if not pairs:
        return None, 0
    images = max(one.samples or 0 for one, _ in pairs)
    if images < FEWEST_PICTURES:
        return None, images
    best = max(map(_least, _by_weights(pairs)), key=lambda one: one.value)
    figures = {**row.figures, "top1": best}
    params = row.value("params")
    if params:
        density = {"metric": "accuracy_density", "value": best.value / (params / 1e6)}
        figures["accuracy_density"] = Measurement.restored({**vars(best), **density})
    return replace(row, figures=figures), 0


def _by_weights(pairs: Iterable[tuple[Measurement, Measurement]]) -> Iterator[_Pair]:
    """For each of the weights the comparison of the most pictures, with the lowest of the accuracies that are
    published for them."""
    groups = defaultdict(list)
    for one, usual in pairs:
        if (one.samples or 0) >= FEWEST_PICTURES:
            groups[one.weights].append((one, usual))
    for group in groups.values():
        yield min(group, key=lambda pair: (-(pair[0].samples or 0), -_most(pair[0]), pair[1].value))


def _most(one: Measurement) -> float:
    """The largest share of pictures that may be classed otherwise: the upper end of the interval."""
    return one.value if one.high is None else one.high


def _least(pair: _Pair) -> Measurement:
    """The accuracy that the form has at least, with how it is known."""
    one, usual = pair
    images, otherwise = one.samples or 0, round(one.value * (one.samples or 0))
    accuracy, share = units.show(usual.value, "fraction"), units.show(_most(one), "fraction")
    why = (
        f"published {accuracy} in float32, less {share.replace('%', 'points')}: in {one.precision} "
        f"{otherwise:,} of {images:,} images were classed otherwise, at most {share} of all (95 % interval)"
    )
    changed = {"value": max(0.0, usual.value - _most(one)), "low": None, "high": None, "origin": "derived",
               "precision": one.precision, "engine": one.engine, "network_sha256": one.network_sha256,
               "grade_reasons": (why,)}  # fmt: skip
    return Measurement.restored({**vars(usual), **changed})


def _is_same(one: Measurement, usual: Measurement) -> bool:
    """Whether a published accuracy is of the weights that were compared, at the same input size; the weights
    of our own networks are published with and without the network's name before them."""
    return (
        one.weights in (usual.weights, f"{usual.model}.{usual.weights}")
        and usual.precision in (None, USUAL)
        and usual.input_size in (None, one.input_size)
    )


def _too_few(short: Mapping[str, int]) -> str:
    named = [f"{form} ({images:,})" for form, images in short.items()]
    more = f" and {len(named) - _FEW} more" if len(named) > _FEW else ""
    return (
        f"Not counted, because they were compared with float32 on fewer than {FEWEST_PICTURES} images: "
        f"{', '.join(named[:_FEW])}{more}"
    )


def _form(row: WideRow) -> str:
    return f"{row.model} in {row.conditions.get('precision')} on {row.conditions.get('engine')}"


def _is_of(row: WideRow, one: Measurement) -> bool:
    """Whether a comparison with float32 is of this form."""
    return all(
        getattr(one, name) in (None, row.conditions.get(name))
        for name in ("engine", "precision", "device", "input_size")
    )


def _own(row: WideRow) -> WideRow:
    kept = {
        name: figure for name, figure in row.figures.items()
        if name not in _OF_WEIGHTS or figure.origin != "published"
    }  # fmt: skip
    return row if len(kept) == len(row.figures) else replace(row, figures=kept)


@dataclass(frozen=True)
class Gain:
    """What a precision would buy: `row` (in float32) could meet the limits in it, as it takes `share` of the
    time of float32 on `engine`. `basis` says where the share is from."""

    precision: str
    engine: str
    share: float
    basis: str
    row: WideRow


def gains(
    source: Table,
    rows: Sequence[WideRow],
    choice: WideRow | None,
    objective: str,
    limits: Sequence[Limit],
    demands: Sequence[Demand],
    load: Mapping[str, Any],
) -> list[Gain]:
    """What other precisions would buy over `choice` among the float32 `rows` of one load, where this machine
    or the table says how fast they are; only where a limit on the time is asked for, and accuracy is the
    objective."""
    if objective != "top1" or not any(limit.metric in _OF_TIME for limit in limits):
        return []
    found = []
    best_first = sorted(
        (row for row in rows if row.value(objective) is not None),
        key=lambda row: (-row.figures[objective].value, row.value("latency") or 0.0, row.model),
    )
    bar = 0.0 if choice is None else choice.figures[objective].value
    for precision, (engine, share, basis) in _shares(source, load).items():
        for row in best_first:
            if row.figures[objective].value <= bar:
                break
            if row.conditions.get("engine") == engine and _would_meet(row, share, limits, demands):
                found.append(Gain(precision, engine, share, basis, row))
                break
    return found


def _would_meet(row: WideRow, share: float, limits: Iterable[Limit], demands: Iterable[Demand]) -> bool:
    return all(demand.holds(row) for demand in demands) and all(
        limit.verdict(_faster(row, limit, share)) == "met" for limit in limits
    )


def _faster(row: WideRow, limit: Limit, share: float) -> WideRow:
    """`row` with the figure of `limit` as it would be in that share of the time."""
    figure = row.figures.get(limit.metric)
    if limit.metric not in _OF_TIME or figure is None:
        return row
    factor = share if metrics.find(limit.metric).better == "lower" else 1 / share
    ends = {
        name: end * factor for name in ("value", "low", "high") if (end := getattr(figure, name)) is not None
    }
    return replace(row, figures={limit.metric: Measurement.restored({**vars(figure), **ends})})


def _shares(source: Table, load: Mapping[str, Any]) -> dict[str, tuple[str, float, str]]:
    """Precision -> the engine, the share of float32's time, and where that is from: from networks that were
    measured in both, else from this processor's features."""
    found = _measured_shares(source, load)
    for precision, (feature, share) in _BY_FEATURE.items():
        if precision not in found and _is_here(feature, load):
            basis = f"estimated from this processor's {feature}"
            found[precision] = (_ENGINE, share, basis)
    return found


def _is_here(feature: str, load: Mapping[str, Any]) -> bool:
    """Whether the processor has it, the question is about this machine, and the engine is installed."""
    from vertebra.machine import system

    here = system.describe()
    asked = load.get("engine")
    is_asked = asked is None or _ENGINE in ((asked,) if isinstance(asked, str) else asked)
    is_here = load.get("system") in (None, here.id) and load.get("device") in (None, "cpu")
    if not (is_here and is_asked and feature in here.features):
        return False
    from vertebra import engines

    return engines.missing(_ENGINE) is None


def _measured_shares(source: Table, load: Mapping[str, Any]) -> dict[str, tuple[str, float, str]]:
    asked = {name: value for name, value in load.items() if name != "precision" and value is not None}
    times: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    for row in source.comparable(("latency",), **asked):
        if row.metric == "latency" and row.origin == "benched" and row.precision is not None:
            times[str(row.engine), row.precision][row.model] = row.value
    found: dict[str, tuple[str, float, str]] = {}
    for (engine, precision), own in sorted(times.items()):
        usual = times.get((engine, USUAL), {})
        both = [own[model] / usual[model] for model in own if usual.get(model)]
        if precision == USUAL or len(both) < _FEWEST:
            continue
        import statistics

        share = statistics.median(both)
        if share < min(1.0, found[precision][1] if precision in found else 1.0):
            basis = f"the median of {len(both)} networks measured in both"
            found[precision] = (engine, share, basis)
    return found
