"""`vertebra eval`: accuracy on labelled pictures, of a probe on its features (--probe), or how often another
precision classes pictures otherwise (--against)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import vertebra
from vertebra import metrics
from vertebra.cli.output import columns, emit, format_options, record, table_option
from vertebra.cli.progress import showing
from vertebra.cli.subject import given, trust_option, weights_by_model, weights_options_of_several
from vertebra.cli.terminal import say
from vertebra.measurements import display

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vertebra.measurements import Measurement
    from vertebra.measuring.evaluation import Pictures
    from vertebra.reading.reports.evaluated import Evaluated
    from vertebra.verbs.evaluate import Compared, Probed

#: How many unreadable images are named on the terminal; --save and --report name more.
_NAMED = 10

_FORMATS = ("folders", "list", "tar", "parquet", "idx", "imagenet")


@click.command("eval")
@click.argument("arguments", nargs=-1, required=True, metavar="MODEL DATA | --probe DIR MODEL...")
@click.option(
    "--probe",
    "probed",
    metavar="DIR",
    help="Train a linear probe on the features of each MODEL, on the pictures in DIR.",
)
@click.option(
    "--folds",
    type=click.IntRange(min=2),
    default=5,
    show_default=True,
    help="Folds of the cross-validation of --probe.",
)
@weights_options_of_several
@trust_option
@click.option("--engine", help="Engine to run. [default: eager; onnxruntime for a Bundle]")
@click.option(
    "--precision", metavar="NAME", help="Precision to run in: bfloat16, float16, … [default: float32]"
)
@click.option(
    "--against",
    metavar="float32|BUNDLE",
    help="Count the pictures classed otherwise than in float32; no labels needed.",
)
@click.option(
    "--batch-size", type=click.IntRange(min=1), help="Images in one call. [default: 32, or the only possible]"
)
@click.option(
    "--threads", type=click.IntRange(min=1), help="Threads of the engine. [default: physical cores]"
)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the first N pictures.")
@click.option("--strict", is_flag=True, help="Stop at the first picture that can't be read.")
@click.option("--format", type=click.Choice(_FORMATS), help="Layout of DATA. [default: detected]")
@click.option("--split", metavar="NAME", help="Split: train, val, test, … [default: val, else test]")
@click.option(
    "--truth", type=click.Path(path_type=Path), metavar="FILE", help="List with the labels of a folder."
)
@click.option("--name", metavar="TEXT", help="Name of the data in the table. [default: the folder's name]")
@click.option("--verify", is_flag=True, help="Check the digest of an official archive first.")
@click.option("--save", type=click.Path(path_type=Path), metavar="FOLDER",
              help="Write classes (CSV), confusion matrix and a picture of the worst mistakes.")  # fmt: skip
@click.option(
    "--report", type=click.Path(path_type=Path), metavar="FILE", help="Write it all as an HTML page."
)
@click.option(
    "--shard", metavar="K/N", help="Only share K of N of the pictures; with --probe, of the networks."
)
@click.option(
    "--on", metavar="ray[://HOST:PORT]", help="Answer on the nodes of this Ray cluster; pictures are files."
)
@table_option
@format_options
def command(
    arguments: tuple[str, ...], probed: str | None, against: str | None, folds: int, limit: int | None,
    shard: str | None, on: str | None, verify: bool, weights: tuple[str, ...], save: Path | None,
    report: Path | None, table: str | None, style: str, **options: Any,
) -> None:  # fmt: skip
    """Measure the accuracy of MODEL, a network's name or a Bundle, on the labelled pictures in DATA.

    \b
      vertebra eval squeezenet1_1 imagenet/val --report squeezenet.html
      vertebra eval my-bundle/ my-test-set/ --engine openvino
      vertebra eval --probe my-pictures/ alexnet timm:resnet50.a1_in1k
      vertebra eval my-int8-bundle/ my-pictures/ --against float32

    DATA is a folder with a folder for each class, a list, tar shards, Parquet, idx files or an archive of
    ImageNet. With --labels index, class n of DATA is output n of the network; names are ignored.
    """
    given_options = {**given(options), "strict": options["strict"], "table": table}
    models = arguments if probed is not None else arguments[:1]
    given_options |= given({"weights": weights_by_model(weights, models)})
    if probed is not None:
        _refuse(
            {"--limit": limit, "--save": save, "--report": report,
             "--precision": options["precision"], "--against": against, "--on": on},
            "--probe",
        )  # fmt: skip
        _probe(probed, arguments, style, folds=folds, shard=shard, **given_options)
        return
    if len(arguments) != 2:
        raise click.UsageError(f"MODEL and DATA are needed, not {len(arguments)} arguments.")
    if isinstance(given_options.get("weights"), dict):
        given_options["weights"] = given_options["weights"][arguments[0]]
    given_options |= {"limit": limit, "verify": verify}
    if against is not None:
        _refuse({"--save": save, "--report": report, "--shard": shard, "--on": on}, "--against")
        _compare(*arguments, style, against=against, **given_options)
        return
    _evaluate(*arguments, style, save, report, shard=shard, on=on, **given_options)


def _refuse(unusable: dict[str, Any], other: str) -> None:
    for name, value in unusable.items():
        if value is not None:
            raise click.UsageError(f"{name} can't be combined with {other}.")


def _compare(model: str, data: str, style: str, **options: Any) -> None:
    with showing() as progress:
        done = vertebra.disagreement(model, data, progress=progress, **options)
    emit(_records(done, None, style), style, lambda: _compared_text(done))
    found = done.found
    _print_unreadable(found.unreadable, found.num_unreadable, found.classed_otherwise.total)


def _compared_text(done: Compared) -> str:
    from vertebra import units
    from vertebra.reading.choice.precisions import FEWEST_PICTURES

    [row], found = done, done.found
    share, low_high = found.classed_otherwise, display.interval(row)
    most = units.show(share.interval[1], "fraction").replace("%", "points")
    head = (
        f"{row.model} ({row.weights}) in {row.precision} on {done.engine}, against float32 on "
        f"{done.reference}: {share.total:,} images in {found.seconds:.1f} s"
    )
    told = (
        f"Classed otherwise: {share.right:,} of {share.total:,}, {units.show(share.value, 'fraction')} "
        f"(95 % interval {low_high})."
    )
    copies = [f"Left out: {found.copies:,} that are exact copies of others."] if found.copies else []
    if share.total < FEWEST_PICTURES:
        use = f"vertebra pick doesn't count it: that needs at least {FEWEST_PICTURES} images."
    else:
        use = (
            f"vertebra pick --precision any counts float32's published accuracy less {most} for this form, "
            "where these weights have one."
        )
    return "\n".join([head, "", told, *copies, f"Origin: evaluated; {row.protocol}.", use])


def _evaluate(
    model: str, data: str, style: str, save: Path | None, report: Path | None, **options: Any
) -> None:

    if save is not None or report is not None:
        from vertebra.reading import charts

        charts.require()
    with showing() as progress:
        done = vertebra.evaluate(model, data, progress=progress, **options)
    pictures = done.evaluation.pictures
    joined = done.joined
    rows = done.rows if joined is None else [*done.rows, *joined.rows]
    emit(_records(rows, pictures, style), style, lambda: _text(done))
    if joined is not None:
        _log(f"{joined}.")
    _print_left_out(pictures, style)
    _print_unreadable(done.evaluation.unreadable, done.evaluation.num_unreadable, done.evaluation.total)
    if save is not None:
        done.save(save)
        _log(f"written into {save}")
    if report is not None:
        _log(f"written to {done.report(report)}")


def _records(rows: Sequence[Measurement], pictures: Pictures | None, style: str) -> list[dict[str, Any]]:
    """The rows as they are printed; in JSON with what they are of."""
    more = {"data": pictures.record()} if style == "json" and pictures is not None else {}
    return [{**record(row, style), **more} for row in rows]


def _print_left_out(pictures: Pictures | None, style: str) -> None:
    """What the data were, where the answer has no room for it."""
    if pictures is not None and style == "csv":
        for line in pictures.lines():
            _log(line)


def _log(text: str) -> None:
    say(text, err=True)


def _text(done: Evaluated) -> str:
    found = done.evaluation
    row = done.rows[0]
    head = (
        f"{done.model} ({row.weights}) on {found.dataset}, split {found.split}: {found.total:,} images "
        f"in {found.seconds:.1f} s, {found.total / found.seconds:.3g} images/s"
    )
    results = columns(list(map(_line, done.rows)))
    if done.joined is not None and done.joined.rows:
        whole = done.joined.rows
        results += f"\n\nAll {done.joined.of} shares together, {whole[0].samples or 0:,} images:\n\n"
        results += columns(list(map(_line, whole)))
    how = f"Origin: evaluated with {done.engine}, {row.precision}; {row.protocol}."
    data = found.pictures.lines() if found.pictures is not None else ()
    return "\n".join([head, "", results, "", *_worst(done), *data, how])


def _line(row: Measurement) -> dict[str, Any]:
    from vertebra import units

    metric = metrics.METRICS[row.metric]
    return {
        "metric": metric.label,
        "value": units.show(row.value, metric.unit),
        "95 % interval": display.interval(row),
    }


def _worst(done: Evaluated, most: int = 5) -> list[str]:
    """The classes with the lowest accuracy, if pictures of several classes were missed."""
    from vertebra import units

    classes = [one for one in done.evaluation.classes() if one.right < one.images]
    if len(done.evaluation.classes()) < 2 or not classes:
        return []
    classes.sort(key=lambda one: (one.recall, -one.images, one.index))
    lines = [
        {
            "worst classes": one.name,
            "top-1": units.show(one.recall, "fraction"),
            "images": one.images,
            "most often predicted as": one.confused_with,
        }
        for one in classes[:most]
    ]
    return [columns(lines), ""]


def _print_unreadable(unreadable: Sequence[tuple[str, str]], count: int, total: int) -> None:
    for name, reason in unreadable[:_NAMED]:
        _log(f"unreadable: {name}: {reason}")
    if count > _NAMED:
        _log(f"unreadable: {count - _NAMED} more")
    if count:
        _log(f"{count} images couldn't be read; the results are of the other {total:,}")


def _probe(data: str, models: tuple[str, ...], style: str, **options: Any) -> None:

    with showing() as progress:
        rows = vertebra.probe(data, *models, progress=progress, **options)
    emit(_records(rows, rows.pictures, style), style, lambda: _probe_text(rows) if rows else "(nothing)")
    _print_left_out(rows.pictures, style)
    _print_unreadable(rows.unreadable, len(rows.unreadable), rows[0].samples or 0 if rows else 0)
    for model, error in rows.failures.items():
        _log(f"error: {model}: {error.message}")
        if error.hint:
            _log(f"hint: {error.hint}")
    if rows.failures:
        raise SystemExit(1)


def _probe_text(rows: Probed) -> str:
    from vertebra import units

    ordered = sorted(rows, key=lambda row: -row.value)
    lines = [
        {
            "model": row.model,
            "weights": row.weights,
            "top-1 of a probe": units.show(row.value, "fraction"),
            "95 % interval": display.interval(row),
            "images": row.samples,
        }
        for row in ordered
    ]
    first = rows[0]
    how = f"{first.split} cross-validated on {first.dataset}; {'; '.join(first.grade_reasons)}."
    data = "\n".join(rows.pictures.lines() if rows.pictures is not None else ())
    return f"{columns(lines)}\n\n{data}\nOrigin: {how}\nTo choose by it: vertebra pick --probe 90%"
