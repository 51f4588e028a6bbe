"""`vertebra predict`: the classes of pictures."""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import vertebra
from vertebra.cli.output import json_text
from vertebra.cli.progress import showing
from vertebra.cli.subject import given, trust_option, weights_options
from vertebra.cli.terminal import complain, line, put, say

if TYPE_CHECKING:
    from vertebra.inference.prediction import Answer, Prediction


@click.command("predict")
@click.argument("sources", nargs=-1, required=True)
@click.option(
    "-m", "--model", required=True, metavar="NAME|FOLDER", help="Name of a network, or folder of a Bundle."
)
@weights_options
@trust_option
@click.option("--engine", help="Engine to run. [default: eager; onnxruntime for a Bundle]")
@click.option(
    "--top",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="Classes to print for each picture.",
)
@click.option(
    "--batch-size", type=click.IntRange(min=1), help="Images in one call. [default: 1, or the only possible]"
)
@click.option(
    "--threads", type=click.IntRange(min=1), help="Threads of the engine. [default: physical cores]"
)
@click.option("--every", type=click.IntRange(min=1), metavar="N", default=1, show_default=True,
              help="For a video, predict every Nth frame.")  # fmt: skip
@click.option(
    "--upright/--as-stored",
    default=True,
    show_default=True,
    help="Rotate pictures by their EXIF orientation, or follow the weights' preprocessing.",
)
@click.option("--max-pixels", type=click.IntRange(min=1), metavar="N",
              help="Decode pictures of up to N pixels. [default: 134217728]")  # fmt: skip
@click.option(
    "--save", type=click.Path(path_type=Path), help="Write a contact sheet: .png, .jpg, .webp or .html."
)
@click.option("--features", type=click.Path(path_type=Path), help="Write the embeddings: .npz or .parquet.")
@click.option(
    "--on", metavar="ray[://HOST:PORT]", help="Answer on the nodes of this Ray cluster; pictures are files."
)
@click.option("--csv", "style", flag_value="csv", help="Print CSV, a line for each class.")
@click.option("--json", "style", flag_value="json", help="Print JSON, a line for each picture.")
@click.option("--text", "style", flag_value="text", default="text", hidden=True)
def command(
    sources: tuple[str, ...], model: str, top: int, every: int, save: Path | None, features: Path | None,
    style: str, **options: Any,
) -> None:  # fmt: skip
    """Classify SOURCES: pictures, folders, patterns, addresses, - (standard input), videos, camera:0.

    If a picture can't be read, the reason is printed, the others are classified, and the exit status is 1.
    """
    with contextlib.ExitStack() as stack:
        with showing() as progress:
            found = vertebra.predict(
                *sources, model=model, stream=True, top=top, every=every, save=save,
                features=False if features is None else features, progress=progress, **given(options),
            )  # fmt: skip
            stack.enter_context(contextlib.closing(found))
            first = list(itertools.islice(found, 1))  # the network is loaded: the bar ends before any answer
        failed = _print(itertools.chain(first, found), style)
    if failed:
        raise SystemExit(1)


def _print(found: Iterator[Prediction], style: str) -> int:
    """Print each prediction as soon as it is made, and return the number of errors."""
    failed = 0
    print_ = say if style == "text" else put
    if style == "csv":
        print_(_csv_line(_COLUMNS))
    for prediction in found:
        for text in _STYLES[style](prediction):
            print_(text)
        if prediction.error is not None:
            failed += 1
            complain(f"{line(prediction.source)}: {line(prediction.error)}")
    return failed


# ------------------------------------------------------------------ lines

_COLUMNS = ("source", "rank", "index", "id", "name", "probability", "error")


def _text(prediction: Prediction) -> Iterator[str]:
    """The picture's name and a line for each class. An error gives nothing: it is printed to standard
    error."""
    if prediction.error is not None:
        return
    yield line(prediction.source)
    for answer in prediction.top:
        yield f"  {answer.probability:7.2%}  {_called(answer)}"


def _called(answer: Answer) -> str:
    return f"class {answer.index}" if answer.name is None else line(answer.name)


def _json(prediction: Prediction) -> Iterator[str]:
    top = [
        {"index": answer.index, "id": answer.id, "name": answer.name, "probability": answer.probability}
        for answer in prediction.top
    ]
    line: dict[str, Any] = {"source": prediction.source, "top": top, "error": prediction.error}
    if prediction.assumed:
        line["assumed"] = list(prediction.assumed)
    yield json_text(line) + "\n"


def _csv(prediction: Prediction) -> Iterator[str]:
    if prediction.error is not None:
        yield _csv_line((prediction.source, None, None, None, None, None, prediction.error))
    for rank, answer in enumerate(prediction.top, 1):
        cells = (answer.index, answer.id, answer.name, answer.probability)
        yield _csv_line((prediction.source, rank, *cells, None))


def _csv_line(cells: tuple[Any, ...]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()


_STYLES: dict[str, Callable[[Prediction], Iterator[str]]] = {"text": _text, "json": _json, "csv": _csv}
