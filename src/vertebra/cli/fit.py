"""`vertebra fit`: the best backbone for one's own pictures, as a Bundle with one's own classes."""

from __future__ import annotations

from typing import Any

import click

import vertebra
from vertebra.cli.limits import limit_options
from vertebra.cli.output import emit, format_options, table_option
from vertebra.cli.progress import showing
from vertebra.cli.terminal import say
from vertebra.verbs.fit import FOLDS, LIMITS, NETWORKS

_FORMATS = ("folders", "list", "tar", "parquet", "idx", "imagenet")


@click.command("fit")
@click.argument("pictures")
@click.argument("models", nargs=-1, metavar="[MODEL]...")
@click.option("-o", "--output", metavar="FOLDER", help="Folder of the Bundle. [default: NAME-fitted]")
@limit_options(LIMITS)
@click.option(
    "--weights", multiple=True, metavar="MODEL=SOURCE",
    help="Weights of a network: a file, a hub folder, hf:… Repeatable. [default: published]",
)  # fmt: skip
@click.option("--networks", type=click.IntRange(min=1), default=NETWORKS, show_default=True,
              help="How many networks to compare where none is named.")  # fmt: skip
@click.option("--folds", type=click.IntRange(min=2), default=FOLDS, show_default=True,
              help="Folds of the cross-validation.")  # fmt: skip
@click.option("--group", metavar="COLUMN|folder",
              help="Keep pictures with the same value, or of the same folder, in one fold.")  # fmt: skip
@click.option("--balanced", is_flag=True, help="Weigh classes alike, however many pictures they have.")
@click.option("--licence", multiple=True, metavar="NAME",
              help="Only weights with this licence: apache-2.0, mit, …, or free (any use). "
              "Repeatable.")  # fmt: skip
@click.option("--family", multiple=True, metavar="NAME",
              help="Only this family of networks: resnet, … Repeatable.")  # fmt: skip
@click.option("--input-size", type=click.IntRange(min=1), multiple=True,
              help="Only networks with this input size. Repeatable.")  # fmt: skip
@click.option("--engine", multiple=True,
              help="Engine to run on. Repeatable. [default: onnxruntime and openvino]")  # fmt: skip
@click.option("--precision", metavar="NAME",
              help="Ship it in int8 or int8-weights, with an accuracy of its own.")  # fmt: skip
@click.option("--preprocess", metavar="NAME|FILE",
              help="Preprocessing: own, whole (nothing cropped), a protocol, a file. [default: the better]",
)  # fmt: skip
@click.option("--accept-unverified", is_flag=True, help="Allow weights that have no published digest.")
@click.option(
    "--anyway", is_flag=True, help="Ship a head that isn't surely better than a constant answer too."
)
@click.option("--finetune", metavar="TIME",
              help="Also train the best few on for this long: 30min. Ships if surely better.")  # fmt: skip
@click.option("--save", metavar="FOLDER", help="Write classes, confusion, networks and pictures' report.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the folds.")
@click.option("--format", type=click.Choice(_FORMATS), help="Layout of PICTURES. [default: detected]")
@click.option("--split", metavar="NAME", help="Split: train, val, … [default: train, else as eval]")
@click.option("--truth", metavar="FILE", help="List with the labels of a folder.")
@click.option("--name", metavar="TEXT", help="Name of the pictures. [default: the folder's name]")
@click.option("--strict", is_flag=True, help="Stop at the first picture that can't be read.")
@click.option("--conflicts", type=click.Choice(["refuse", "leave out"]), default="refuse", show_default=True,
              help="What to do with one picture in two classes.")  # fmt: skip
@table_option
@format_options
def command(
    pictures: str, models: tuple[str, ...], weights: tuple[str, ...], style: str, **options: Any
) -> None:
    """Choose the backbone that is best on PICTURES within limits, and ship it with your classes.

    The networks that may meet the limits on this machine compete on your pictures: their features are
    computed once, and a head is fitted on each and cross-validated. The winner becomes a Bundle with a head
    for your classes, measured here. No torch is needed.

    \b
      vertebra fit photos/ --fps 30 --memory 200MB
      vertebra fit photos/ --weights timm:resnet50=mine.safetensors -o flowers

    PICTURES is what eval reads: class folders, a list, tar shards, Parquet or idx files. Without a MODEL or
    --weights, networks of the field compete, the most accurate first.
    """
    from vertebra.cli import fitted

    given = {name: value for name, value in options.items() if value is not None and value != ()}
    with showing() as progress:
        done = vertebra.fit(pictures, *models, weights=_sources(weights), progress=progress, **given)
    emit([fitted.record(done)] if style != "text" else [], style, lambda: fitted.text(done))
    for name, error in done.failures.items():
        say(f"left out: {name}: {error.message}", err=True)


def _sources(texts: tuple[str, ...]) -> dict[str, str] | None:
    """The network and the source of each --weights."""
    found: dict[str, str] = {}
    for text in texts:
        name, sign, source = text.partition("=")
        if not (name and sign and source):
            raise click.UsageError(f"--weights {text}: MODEL=SOURCE was expected.")
        if name in found:
            raise click.UsageError(f"--weights has two sources for {name}.")
        found[name] = source
    return found or None
