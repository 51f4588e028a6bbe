"""What a training compresses, as the loop's hooks: a teacher, rounding to eight bits, fewer channels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from vertebra import units, zoo
from vertebra.data import labels
from vertebra.errors import InvalidInputError, WeightsError
from vertebra.training import distillation, fake_quantisation, pruning
from vertebra.training.job import Hooks
from vertebra.zoo.compressed import Compressed

if TYPE_CHECKING:
    from vertebra.data.labels import LabelSet
    from vertebra.training.recipe import Recipe


@dataclass(frozen=True)
class Compression:
    """What was asked for. `teacher` is a network's name, with `teacher_weights` as `zoo.build` takes them
    (None: published); its `share` of the loss and the `temperature` are those of `distillation.loss`.
    `quantise` is where ranges come from, `prune` the share of multiply-adds to take out."""

    teacher: str | None = None
    teacher_weights: str | Path | None = None
    share: float = distillation.SHARE
    temperature: float = distillation.TEMPERATURE
    quantise: fake_quantisation.Source | None = None
    prune: float | None = None

    def __bool__(self) -> bool:
        return any(one is not None for one in (self.teacher, self.quantise, self.prune))


def asked(options: Mapping[str, Any]) -> Compression:
    """The compression that options of `train` ask for. Raises InvalidInputError where they contradict."""
    given = {name: options.get(name) for name in ("teacher", "teacher_weights", "quantise", "prune")}
    share = given["prune"]
    given["prune"] = units.parse(share, "fraction") if isinstance(share, str) else share
    made = Compression(
        **given, share=options["teacher_share"], temperature=options["temperature"]
    )  # fmt: skip
    if made.teacher is None and made.teacher_weights is not None:
        raise InvalidInputError("The teacher's weights were given without its name.", "add --teacher NAME")
    if made.quantise is not None and made.prune is not None:
        raise InvalidInputError(
            "A network that has just lost channels can't be rounded well.",
            "train twice: first with --prune, then --quantise with --weights RUN",
        )
    distillation.check(made.share, made.temperature)
    if made.quantise is not None:
        fake_quantisation.check(made.quantise)
    if made.prune is not None:
        pruning.check(made.prune)
    if made.teacher is not None and made.teacher_weights is None:
        published(made.teacher)
    return made


def hooks(
    wanted: Compression,
    *,
    recipe: Recipe,
    classes: tuple[str, ...],
    steps: int,
    compiles: bool = False,
) -> tuple[Hooks, tuple[str, ...]]:
    """The loop's hooks for a training of `steps` batches in each process, and lines on them for people.

    Raises InvalidInputError for a teacher that doesn't know the classes, and for what doesn't go together.
    """
    given: dict[str, Any] = {}
    told: list[str] = []
    names: list[str] = []
    if wanted.teacher is not None:
        teacher, lines = _teacher(wanted, recipe, classes)
        given["loss"] = distillation.loss(teacher, temperature=wanted.temperature, share=wanted.share)
        told += lines
        names.append(_called(wanted))
    if wanted.quantise is not None:
        if recipe.amp != "none" or compiles:
            raise InvalidInputError(
                "Training in eight bits computes in float32, operator by operator.",
                "leave out --compile and amp: --set amp=none",
            )
        source = wanted.quantise
        given["prepare"] = lambda network: fake_quantisation.prepare(network, steps=steps, source=source)
        given["saved"] = fake_quantisation.saved
        given["stated"] = _ranges
        told.append(f"trained in eight bits with {source} ranges, batch norms folded")
        names.append(f"eight bits, {source} ranges")
    if wanted.prune is not None:
        prune, size = wanted.prune, recipe.input_size
        given["prepare"] = lambda network: pruning.prune(network, prune, input_size=size).network
        told.append(f"pruned by {wanted.prune:.0%} of the multiply-adds before the first step")
        names.append(f"pruned by {wanted.prune:g}")
    return Hooks(**given, name="; ".join(names)), tuple(told)


def _ranges(network: nn.Module) -> dict[str, Any]:
    return Compressed(ranges=fake_quantisation.ranges(network)).to_dict()


def _called(wanted: Compression) -> str:
    weights = "" if wanted.teacher_weights is None else f" with {wanted.teacher_weights}"
    return f"teacher {wanted.teacher}{weights}, share {wanted.share:g}, temperature {wanted.temperature:g}"


def _teacher(
    wanted: Compression, recipe: Recipe, classes: tuple[str, ...]
) -> tuple[distillation.Teacher, list[str]]:
    assert wanted.teacher is not None
    source = wanted.teacher_weights or published(wanted.teacher)
    facts = zoo.facts(wanted.teacher, source)
    columns = distillation.columns(_labels(facts), facts.num_classes, classes)
    adaptation = distillation.adapt(facts.preprocess, recipe.evaluation)
    network = zoo.build(wanted.teacher, weights=source)
    told = [f"taught by {facts.model} with {facts.weights}: {wanted.share:.0%} of the loss", *adaptation.told]
    if len(columns) < facts.num_classes:
        told.append(f"{len(columns)} of the teacher's {facts.num_classes} outputs are used")
    return distillation.Teacher(network, columns, adaptation), told


def _labels(facts: Any) -> LabelSet | None:
    if facts.label_names is not None:
        return labels.from_names(facts.label_names, name="its weights")
    if facts.labels is None or "labels" in facts.assumed:
        return None
    return labels.resolve(facts.labels)


def published(name: str) -> str:
    """The source of the preferred weights of a network."""
    from vertebra.zoo import weights

    found = zoo.find(name)
    if found.is_file:
        raise InvalidInputError(f"{name} is a file; a teacher is a network that can be built.")
    if found.source != "vertebra":
        return "pretrained"
    known = weights.records(found.name)
    if not known:
        raise WeightsError(
            f"No weights are published for the teacher {name}.", "pass them: --teacher-weights FILE|RUN"
        )
    return known[0].name
