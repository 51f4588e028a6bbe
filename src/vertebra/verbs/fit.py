"""`vertebra.fit`: the best backbone for one's own pictures within limits, with a head for their classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vertebra.errors import InvalidInputError
from vertebra.reading.choice import candidates, precisions
from vertebra.verbs import given, notebook
from vertebra.verbs.given import TableLike
from vertebra.zoo import adapters

if TYPE_CHECKING:
    from vertebra.data.preprocess import Preprocess
    from vertebra.progress import Listener
    from vertebra.reading.reports.fitted import Fitted

#: How many networks of the field are compared where none is named.
NETWORKS = 5
FOLDS = 5


@adapters.as_shipped()  # a graph needs nothing of the libraries, whose import takes seconds
def fit(
    pictures: str | Path,
    *models: str,
    output: str | Path | None = None,
    weights: Mapping[str, str | Path] | None = None,
    networks: int = NETWORKS,
    folds: int = FOLDS,
    group: str | None = None,
    balanced: bool = False,
    licence: str | Sequence[str] = (),
    family: str | Sequence[str] = (),
    input_size: int | Sequence[int] = (),
    engine: str | Sequence[str] = (),
    precision: str | None = None,
    preprocess: str | Path | Preprocess | None = None,
    accept_unverified: bool = False,
    anyway: bool = False,
    finetune: str | float | None = None,
    save: str | Path | None = None,
    seed: int = 0,
    format: str | None = None,
    split: str | None = None,
    truth: str | Path | None = None,
    name: str | None = None,
    strict: bool = False,
    conflicts: str = "refuse",
    table: TableLike = None,
    progress: Listener | None = None,
    **limits: Any,
) -> Fitted:
    """Choose the backbone that is best on labelled `pictures` within `limits`, such as fps=30 and
    memory="200MB", fit a head for their classes, and write both as a Bundle into `output` (by default
    NAME-fitted).

    Compared are `models`, or those of `weights`, which has a source of weights for each of some networks; if
    none is named, up to `networks` of the field with the highest published accuracies that may meet the
    limits here and whose weights can be had, of the `licence`, `family` and `input_size` asked for. They are
    measured on each `engine` first (by default ONNX Runtime and OpenVINO), and the Bundle is again.

    Pictures are prepared as for each network's weights, and the network that is chosen is also tried on whole
    pictures, squeezed to its size; this choice too is made inside the folds. A `preprocess` holds for every
    network instead, and no other is tried: "own", "whole", a protocol's name, a JSON file or a record.

    In the `precision` int8 or int8-weights the winner ships rounded, calibrated on the pictures, with an
    accuracy of its own: each fold is answered by a network that was fitted and rounded without it.

    The head is a logistic regression on the frozen features, cross-validated in `folds` that keep
    near-duplicates together, and pictures of one `group`: a column of the list, or "folder". `balanced`
    weighs classes alike. The networks are chosen inside the folds too. `accept_unverified` allows published
    weights without a digest, `save` is a folder for the details, and `anyway` also ships a head that isn't
    surely better than always answering the largest class. `format`, `split` (training's, if there is one),
    `truth` and `name` are those of `data.open`; one picture in two classes is refused unless `conflicts` is
    "leave out". A `licence` is of published weights, so it can't be asked of files of your own.

    With `finetune`, a time, the best few networks are trained on inside it, in the same folds, and one ships
    in place of the fitted head only where it is surely right more often.

    Raises InvalidInputError, before anything long runs, for pictures that can't be learnt from, limits that
    no network meets, and networks without weights; MeasurementError for a head that learnt nothing.
    """
    from vertebra.inference import resolving
    from vertebra.verbs import contenders, fitting, rounded, shipping

    asked = tuple(models), dict(weights or {})
    chosen = precision or precisions.USUAL
    engines = rounded.engines(chosen, contenders.runners(given.several(engine) if engine else ()))
    question = candidates.ask(
        _checked(limits), licence=given.several(licence), family=given.several(family),
        input_size=given.several(input_size),
        filters={"precision": (precisions.USUAL, None), "engine": engines},
    )  # fmt: skip
    if networks < 1:
        raise InvalidInputError(f"{networks} networks were asked for; at least 1 is needed.")
    search = contenders.Search(
        question, given.table(table), engines, {"accept_unverified": accept_unverified},
        slack=rounded.slack(chosen), progress=notebook.listener(progress),
        preprocess=None if preprocess is None else resolving.preprocess(preprocess),
    )  # fmt: skip
    budget_s = None if finetune is None else given.seconds(finetune)
    if budget_s is not None:
        from vertebra.verbs import finetuning

        finetuning.check(chosen)
    data = fitting.opened(pictures, format=format, split=split, truth=truth, name=name)
    place = fitting.place(output, data)
    contenders.check(*asked)
    only = None if any(asked) else contenders.at_hand(search)
    sorted_ = fitting.look(
        data, count=folds, group=group, seed=seed, strict=strict, conflicts=conflicts,
        progress=search.progress,
    )  # fmt: skip
    rounded.check(chosen, sorted_)
    if any(asked):
        found = contenders.named(*asked, search)
    else:
        found = contenders.of_the_field(networks, search, only=only)
    if not found.contenders:
        raise fitting.nobody(found.failures, question.limits, named=any(asked))
    with fitting.Networks() as loaded:
        job = fitting.Job(data, sorted_, found, search, balanced, seed, loaded, chosen)
        raced = fitting.race(job)
        if not (anyway or raced.nested.learnt):
            raise fitting.nothing_learnt(raced)
        done = shipping.ship(job, raced, place, anyway=anyway)
    if budget_s is not None:
        done = finetuning.contend(job, raced, done, place, budget_s)
    if save is not None:
        done.save(save)
    return done


#: Limits of a network on this machine, or of its size.
LIMITS = ("latency", "fps", "memory", "size", "params", "macs", "operations")


def _checked(limits: Mapping[str, Any]) -> dict[str, Any]:
    strange = next((one for one in limits if one not in LIMITS), None)
    if strange is not None:
        raise InvalidInputError(f'fit has no limit "{strange}".', f"limits: {', '.join(LIMITS)}")
    return {one: bound for one, bound in limits.items() if bound is not None}
