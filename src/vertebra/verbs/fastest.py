"""`vertebra.fastest`: the fastest form of one network on this machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vertebra import metrics, zoo
from vertebra.errors import InvalidInputError, MeasurementError
from vertebra.measurements import Table
from vertebra.reading import roofline
from vertebra.verbs import given
from vertebra.verbs.export import export
from vertebra.verbs.given import TableLike

if TYPE_CHECKING:
    from vertebra.campaigns.tuning import Found
    from vertebra.progress import Listener


def fastest(
    model: str,
    *,
    engines: str | Sequence[str] = (),
    precision: str | Sequence[str] = "float32",
    batch_size: int | Sequence[int] = 1,
    threads: int | Sequence[int] = (),
    input_size: int | None = None,
    budget: str | float = "60s",
    seed: int = 0,
    export: str | Path | None = None,
    table: TableLike = None,
    progress: Listener | None = None,
    **options: Any,
) -> Found:
    """The fastest form of one network on this machine: engine, precision, threads, layout and batch size.

    Tried are the forms of `engines` (of all that are here), in each `precision` ("all": every one but eight
    bits), of each `batch_size`, with numbers of `threads` from one to all cores; they are compared by their
    time for an image. Slower ones are dropped on the way, and it ends within `budget`. Every form is compared
    with eager's float32 before it is timed, and what is measured is appended to the table.

    With `export`, the fastest form that a Bundle can hold is written into that folder, with weights as
    `options` say, which are those of `resolving.resolve`: without published weights, untrained must be said.
    """
    from vertebra.campaigns import tuning
    from vertebra.inference import resolving

    if resolving.is_bundle(model):
        raise InvalidInputError(f"{model} is a Bundle, whose form is chosen.", "name the network")
    if export is None and options:
        raise InvalidInputError(
            "Weights are for a Bundle that is exported.", "name a folder: --export FOLDER"
        )
    if export is not None and input_size is not None:
        raise InvalidInputError("A Bundle has its network's own input size.", "leave the input size out")
    cases = tuning.cases(
        model, given.several(engines), precisions=given.several(precision),
        batch_sizes=given.several(batch_size), threads=given.several(threads), input_size=input_size,
    )  # fmt: skip
    if export is not None:
        # Whatever is wrong with the weights is an error before the search.
        resolving.resolve(model, progress=progress, **options)
        if not any(tuning.form_of(case).has_bundle for case in cases):
            raise InvalidInputError(
                "None of these engines opens Bundles, so nothing can be exported.",
                "name one that does: vertebra list engines",
            )
    into = given.table(table)
    search = partial(
        tuning.fastest, cases, into, budget_s=given.seconds(budget), seed=seed, progress=progress
    )
    found = search() if export is None else _shipped(search, Path(export), options | {"progress": progress})
    notes = () if engines or zoo.find(model).is_file else tuple(tuning.left_out())
    return replace(found, notes=notes, shares=_shares(found, into))


def _shares(found: Found, table: Table) -> tuple[float | None, ...]:
    machine = table.latest(model=metrics.MACHINE)
    rows = [trial.latency for trial in found.trials]
    return tuple(None if row is None else roofline.shares_of([row], machine)[0] for row in rows)


def _shipped(search: Callable[[], Found], folder: Path, options: dict[str, Any]) -> Found:
    """What `search` finds, with the best form that a Bundle can hold written into `folder`, its rows beside
    it."""
    from vertebra import bundles
    from vertebra.campaigns import tuning

    with bundles.draft(folder) as draft:  # first of all: nothing is searched for a place that can't be
        found = search()
        best = found.to_ship()
        if best is None:
            raise MeasurementError(
                "No form that a Bundle can hold gave a figure, so nothing was exported.",
                "give the search more time, or export one yourself: vertebra export",
            )
        engine, precision, batch_size = tuning.needed_bundle(best.form)
        made: dict[str, Any] = {"engine": engine, "precision": precision, "batch_size": batch_size}
        kept = export(found.model, draft, **made, **options)
        bundles.write_rows(kept, found.rows_of(best))
    return replace(found, bundle=folder)
