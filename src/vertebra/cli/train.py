"""`vertebra train`: a network learns your classes from your pictures, and loses no work."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import click

import vertebra
from vertebra.cli.output import columns, emit, format_options, table_option
from vertebra.cli.progress import showing
from vertebra.cli.terminal import line
from vertebra.reading.reports.trained import INTERRUPTED, PLANNED, epochs
from vertebra.verbs.train import CHECKPOINT_S, HOLD_OUT, RECIPE, TEACHER_SHARE, TEMPERATURE

if TYPE_CHECKING:
    from vertebra.reading.reports.trained import Trained

_FORMATS = ("folders", "list", "tar", "parquet", "idx", "imagenet")


@click.command("train")
@click.argument("model", required=False)
@click.argument("pictures", required=False)
@click.option("--recipe", default=RECIPE, show_default=True, metavar="NAME|FILE",
              help="published, modern, finetune, head, or a .py file.")  # fmt: skip
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE",
              help="Another value of the recipe: epochs=30, lr=0.01, … Repeatable.")  # fmt: skip
@click.option("-o", "--output", metavar="FOLDER", help="Folder of the run. [default: NAME-trained]")
@click.option("--resume", metavar="RUN", help="Continue the run in this folder, to the bit.")
@click.option("--weights", metavar="SOURCE",
              help="Start from these: a file, a run, hf:… [default: published, if so]")  # fmt: skip
@click.option("--sha256", metavar="DIGEST", help="Digest that the file of the weights must have.")
@click.option("--accept-unverified", is_flag=True, help="Allow weights that have no published digest.")
@click.option("--ema/--no-ema", default=None,
              help="Averaged or raw weights of a file with both. [default: averaged]")  # fmt: skip
@click.option("--validation", metavar="SPLIT|PLACE",
              help="Pictures to evaluate on. [default: split val, else a part held out]")  # fmt: skip
@click.option("--hold-out", type=float, default=HOLD_OUT, show_default=True, metavar="SHARE",
              help="Share that is held out where there are none to evaluate on.")  # fmt: skip
@click.option("--group", metavar="COLUMN|folder",
              help="Hold out pictures with the same value together, or of a folder.")  # fmt: skip
@click.option("--conflicts", type=click.Choice(["refuse", "leave out"]), default="refuse", show_default=True,
              help="What to do with one picture in two classes.")  # fmt: skip
@click.option("--strict", is_flag=True, help="Stop at the first picture that can't be read.")
@click.option("--inspect/--no-inspect", default=True,
              help="Look at every picture first. [default: look]")  # fmt: skip
@click.option("--format", type=click.Choice(_FORMATS), help="Layout of PICTURES. [default: detected]")
@click.option("--split", metavar="NAME", help="Split to train on. [default: train, else as eval]")
@click.option("--truth", metavar="FILE", help="List with the labels of a folder.")
@click.option("--name", metavar="TEXT", help="Name of the pictures. [default: the folder's name]")
@click.option("--workers", type=click.IntRange(min=0), metavar="N",
              help="Threads that prepare pictures. [default: as --threads]")  # fmt: skip
@click.option("--threads", type=click.IntRange(min=1), metavar="N",
              help="Threads that compute. [default: cores, shared by processes]")  # fmt: skip
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True,
              help="Where to compute.")  # fmt: skip
@click.option("--teacher", metavar="NAME", help="Learn from this network's answers too.")
@click.option("--teacher-weights", metavar="SOURCE",
              help="The teacher's: a file, a run, hf:… [default: published]")  # fmt: skip
@click.option("--teacher-share", type=float, default=TEACHER_SHARE, show_default=True, metavar="SHARE",
              help="The teacher's share of the loss, up to 1.")  # fmt: skip
@click.option("--temperature", type=float, default=TEMPERATURE, show_default=True, metavar="T",
              help="Soften both networks' answers by this.")  # fmt: skip
@click.option("--quantise", type=click.Choice(["moving", "learnt"]),
              help="Train in eight bits: how activations get their ranges.")  # fmt: skip
@click.option("--prune", metavar="SHARE", help="First take out this share of the multiply-adds: 50%.")
@click.option("--compile", is_flag=True, help="Compile the network with torch.compile.")
@click.option("--checkpoint", default=f"{CHECKPOINT_S:g}s", show_default=True, metavar="TIME",
              help="Time between checkpoints; longer if one takes over 1 % of it.")  # fmt: skip
@click.option("--on", metavar="ray[://HOST:PORT]", help="Train on the nodes of this Ray cluster.")
@click.option("--processes", type=click.IntRange(min=1), metavar="N",
              help="Processes on the cluster of --on. [default: one a node]")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Show the recipe, steps, time and memory; train nothing.")
@table_option
@format_options
def command(
    model: str | None, pictures: str | None, changes: tuple[str, ...], style: str, **options: Any
) -> None:
    """Train MODEL on PICTURES: every step repeatable, every minute kept.

    Each epoch is evaluated; the best weights are written with their preprocessing and classes, so that eval,
    predict and export take the run's folder as --weights. Ctrl-C stops after the step under way with a
    checkpoint; so does `kill`, and whatever else ends the process, the last checkpoint is whole.

    \b
      vertebra train squeezenet1_1 photos/ -o flowers
      vertebra train squeezenet1_1 photos/ --recipe modern --set epochs=60
      vertebra train --resume flowers
      torchrun --nproc-per-node 2 -m vertebra train resnet50_acnet photos/

    PICTURES is what eval reads: class folders, a list, tar shards, Parquet or idx files.
    """
    given = {name: value for name, value in options.items() if value is not None}
    with showing() as progress:
        done = vertebra.train(model, pictures, set=_changes(changes), progress=progress, **given)
    if done.record:
        emit([record(done)] if style != "text" else [], style, lambda: text(done))
    if done.status == INTERRUPTED:
        raise click.exceptions.Exit(130)


def _changes(texts: tuple[str, ...]) -> dict[str, str]:
    """The key and the value of each --set."""
    found: dict[str, str] = {}
    for one in texts:
        key, sign, value = one.partition("=")
        if not (key and sign):
            raise click.UsageError(f"--set {one}: KEY=VALUE was expected.")
        if key in found:
            raise click.UsageError(f"--set has two values for {key}.")
        found[key] = value
    return found


def record(done: Trained) -> dict[str, Any]:
    """The result for programs, in base units."""
    if done.status == PLANNED:
        return dict(done.record)
    low, high = done.interval or (None, None)
    best = done.best or {}
    return {
        "run": str(done.folder),
        "status": done.status,
        "model": done.record["model"],
        "recipe": done.record["recipe"]["name"],
        "top1": done.accuracy,
        "top1_low": low,
        "top1_high": high,
        "images": best.get("total"),
        "epoch": best.get("epoch"),
        "averaged": best.get("weights") == "averaged" if best else None,
        "weights": str(done.weights) if best else None,
        "seconds": done.seconds,
        "waited": done.waited,
        "outcomes": [dict(one) for one in done.outcomes],
    }


def text(done: Trained) -> str:
    """The answer for people."""
    if done.status == PLANNED:
        return _planned(done)
    place = shlex.quote(str(done.folder))
    if done.status == INTERRUPTED:
        return line(f"Stopped with a checkpoint. To go on: vertebra train --resume {place}")
    found = [line(done.summary()), "", columns(epochs(done.log))]
    found += [f"\n{line(str(one['line']))}" for one in done.outcomes]
    model = shlex.quote(str(done.record["model"]))
    found += [
        "",
        "What to do with it:",
        f"  vertebra eval {model} PICTURES --weights {place}",
        f"  vertebra predict PICTURE -m {model} --weights {place}",
        f"  vertebra export {model} --weights {place} -o {place}-bundle",
    ]
    return "\n".join(found)


def _planned(done: Trained) -> str:
    fields = [{"field": name, "value": line(str(value))} for name, value in done.record["recipe"].items()
              if value not in ("", (), [])]  # fmt: skip
    told = [line(one) for one in done.record["told"]]
    return "\n".join([*told, "", columns(fields)])
