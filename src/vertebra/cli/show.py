"""`vertebra show MODEL`: one network, its figures, stages, layers and history."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

import vertebra
from vertebra import units, zoo
from vertebra.bundles import Bundle, model_card
from vertebra.bundles.manifest import NATIVE
from vertebra.cli.output import columns, emit, format_options, pager_option, part, record, show, table_option
from vertebra.cli.tables import listed
from vertebra.cli.terminal import folded, room, say
from vertebra.cli.terminal import line as plain
from vertebra.errors import VertebraError
from vertebra.measurements import display
from vertebra.metrics import METRICS
from vertebra.reading.reports.trained import Trained, epochs
from vertebra.zoo import adapters

if TYPE_CHECKING:
    from vertebra.measurements import Measurement
    from vertebra.measuring.graphs import GraphProfile
    from vertebra.verbs.show import Portrait
    from vertebra.zoo import Model


#: Paragraphs aren't wider than this.
_WIDEST = 100


@click.command("show")
@click.argument("model", metavar="MODEL|BUNDLE|RUN")
@click.option("--layers", is_flag=True, help="Print every layer.")
@table_option
@format_options
@pager_option
def command(model: str, layers: bool, table: str | None, style: str) -> None:
    """Show everything known about one network: its paper and idea, figures, stages and layers.

    Layers and counts are for the network's own input size; figures are from the table.
    For a BUNDLE, every file is checked, then its model card and its rows are printed. For a RUN, a folder
    that train wrote or is writing, its epochs and its recipe are.
    """

    portrait = vertebra.show(model, table=table)
    if isinstance(portrait, Trained):
        _show_run(portrait, style)
        return
    if isinstance(portrait, Bundle):
        _show_bundle(portrait, style)
        return
    if style == "csv" or layers:
        emit([part(layer) for layer in portrait.layers], style)
    elif style == "json":
        pairs = zip(portrait.figures, portrait.shares, strict=True)
        figures = [{**record(row, style), "share_of_roofline": share} for row, share in pairs]
        parts = {"stages": map(part, portrait.stages), "layers": map(part, portrait.layers)}
        lists = {name: list(entries) for name, entries in parts.items()}
        stated = {} if portrait.counted is None else {"file": _stated(portrait.counted)}
        emit([{**asdict(portrait.model), **stated, "figures": figures, **lists}], style)
    else:
        show(_text(portrait))


def _show_run(run: Trained, style: str) -> None:
    lines = epochs(run.log)
    if style == "json":
        about = {"status": run.status, "best": run.best, "log": list(run.log)}
        about["outcomes"] = [dict(one) for one in run.outcomes]
        emit([{"folder": str(run.folder), **run.record, **about}], style)
    elif style == "csv":
        emit([dict(one) for one in lines], style)
    else:
        recipe = [{"field": name, "value": plain(str(value))} for name, value in run.record["recipe"].items()
                  if value not in ("", [])]  # fmt: skip
        parts = [plain(run.summary()), *map(plain, run.record.get("remarks", ()))]
        parts += [plain(str(one["line"])) for one in run.outcomes]
        tables = [columns(one) for one in (lines, recipe) if one]
        show("\n\n".join(["\n".join(parts), *tables]))


def _show_bundle(kept: Bundle, style: str) -> None:
    rows = kept.rows()
    if style == "json":
        emit(
            [
                {
                    **kept.manifest(),
                    "runs_native_code": kept.format in NATIVE,
                    "rows": [record(row, style) for row in rows],
                }
            ],
            style,
        )
    elif style == "csv":
        emit([record(row, style) for row in rows], style)
    else:
        say(model_card.text(kept.manifest()))  # not README.md, which anyone may have edited
        files = [
            {"file": name, "size": units.show(entry["bytes"], "B")} for name, entry in kept.files.items()
        ]
        say(columns(files))
        if rows:
            say("\n" + columns([record(row, style) for row in rows]))
        say(
            "Every file has the sha256 in the Bundle's own manifest. That doesn't show who made it.", err=True
        )


def _text(portrait: Portrait) -> str:
    model = portrait.model
    blocks = [
        *_history(model),
        _sizes(model),
        *_needs(model),
        *_of_file(portrait),
        "Figures\n" + _figures(portrait),
        *(["Stages\n" + columns([part(stage) for stage in portrait.stages])] if portrait.stages else []),
        *([f"{len(portrait.layers)} layers: vertebra show {model.name} --layers"] if portrait.layers else []),
    ]
    return "\n\n".join(blocks)


def _history(model: Model) -> list[str]:
    """Name, paper and idea of the network, as far as they are known: of other libraries' networks, not
    much."""
    called = f" ({', '.join(model.aliases)})" if model.aliases else ""
    family = f", family {model.family}" if model.family else ""
    paper = f'"{model.title}"' if model.title else ""
    paper += f", {model.first_author} and others, {model.year}. " if model.first_author else " "
    paper += model.url or (f"https://arxiv.org/abs/{model.arxiv_id}" if model.arxiv_id else "")
    further = f"This form: {model.further}" if model.further else ""
    others = adapters.others(model.name) if model.source == "vertebra" else ()
    offered = f"Other networks of this name: {', '.join(others)}" if others else ""
    lines = [f"{model.name}{called}{family}", _wrap(paper.strip())]
    lines += [_wrap(text) for text in (further, model.idea, model.place, offered)]
    return [text for text in lines if text]


def _sizes(model: Model) -> str:
    if model.fixed_size:
        return f"Input {model.input_size}x{model.input_size}, no other size"
    smallest = f", smallest {model.min_size}x{model.min_size}" if model.min_size > 1 else ""
    return f"Input {model.input_size}x{model.input_size}{smallest}"


def _stated(counted: GraphProfile) -> dict[str, Any]:
    """What a network's file states of itself, and what was counted in it."""
    fields = ("num_classes", "in_channels", "batch_size", "precision", "opset", "ends_in")
    counts = ("params", "buffers", "macs", "activations", "weight_bytes")
    return {name: getattr(counted, name) for name in (*fields, *counts)}


def _of_file(portrait: Portrait) -> list[str]:
    if portrait.counted_not is not None:
        return [_wrap(f"Not counted: {portrait.counted_not}")]
    counted = portrait.counted
    if counted is None:
        return []
    batch = "any" if counted.batch_size is None else f"{counted.batch_size} only"
    ends = "no softmax" if counted.ends_in != "Softmax" else "a softmax"
    ends = "a sigmoid for each class" if counted.ends_in in ("Sigmoid", "HardSigmoid") else ends
    size = units.show(counted.weight_bytes, "B")
    return [
        f"{counted.num_classes:,} classes, {counted.in_channels} channels, batch {batch}, "
        f"{counted.precision}, opset {counted.opset}, {ends} at its end",
        f"{counted.params:,} parameters ({size}), {counted.macs:,} MACs",
    ]


def _needs(model: Model) -> list[str]:
    """Licence, accuracy and preprocessing of another library's weights; ours are in `docs/weights.md`."""
    if model.source not in adapters.LIBRARIES:
        return []
    try:
        facts = zoo.facts(model.name, "pretrained")
    except VertebraError as error:
        return [_wrap(f"Weights: {error.message}")]
    way = facts.preprocess
    accuracy = f", top-1 {facts.top1:.1%}" if facts.top1 is not None else ""
    return [
        _wrap(
            f"Weights {facts.weights}, licence {facts.licence or 'not stated'}, {facts.num_classes} classes"
            f"{accuracy}. Pictures are resized to {way.resize} ({way.interpolation}) and cropped to "
            f"{way.input_size[0]}x{way.input_size[1]}, mean {way.mean}, standard deviation {way.std}. "
            f"Source: {facts.source}."
        )
    ]


def _wrap(text: str) -> str:
    return "\n".join(folded(text, min(room() or _WIDEST, _WIDEST)))


def _figures(portrait: Portrait) -> str:
    """What was measured, then the rest, by conditions; a figure that several editions print is shown once."""
    alike: dict[tuple[Any, ...], list[Measurement]] = {}
    shares = {id(row): share for row, share in zip(portrait.figures, portrait.shares, strict=True)}
    for row in portrait.figures:
        where = [row.conditions().get(name) for name in ("system", "precision", "batch_size", "input_size")]
        alike.setdefault((row.metric, row.value, row.origin, *where), []).append(row)
    lines = [_figure(group, shares[id(group[0])]) for group in alike.values()]
    measured = [line for line in lines if line["origin"].startswith("benched")]
    others = [line for line in lines if line not in measured]
    others.sort(key=lambda line: str(line["origin"]).startswith("published"))
    tables = [columns(_gathered(lines), grouped=True) for lines in (measured, others) if lines]
    return "\n\n".join(tables)


def _gathered(lines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """`lines` with those under the same conditions together, in the order of the first of each."""
    together: dict[str, list[dict[str, Any]]] = {}
    for line in lines:
        together.setdefault(listed(line["under"]), []).append(line)
    return [line for group in together.values() for line in group]


def _figure(group: Sequence[Measurement], share: float | None) -> dict[str, Any]:
    row = max(group, key=lambda row: len(row.conditions()))
    metric = METRICS[row.metric]
    # One edition whose figure is undisputed is enough.
    disputed = all(row.disputed for row in group)
    return {
        "figure": metric.label,
        "value": display.quantity(row),
        "exact": f"{row.value:,.0f}" if metric.unit == "count" else None,
        "of roofline": None if share is None else f"{share:.0%}",
        "grade": row.grade,
        "origin": row.origin + (f" ({len(group)} editions)" if len(group) > 1 else ""),
        "under": row.conditions(),
        "note": row.disputed if disputed else None,
    }
