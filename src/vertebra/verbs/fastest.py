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
from vertebra.verbs import given, notebook
from vertebra.verbs.export import export
from vertebra.verbs.given import TableLike

if TYPE_CHECKING:
    from vertebra.campaigns.tuning import Found
    from vertebra.progress import Listener


def fastest(
    model: str,
    *,
    engine: str | Sequence[str] = (),
    precision: str | Sequence[str] = "float32",
    batch_size: int | Sequence[int] = 1,
    threads: int | Sequence[int] = (),
    input_size: int | None = None,
    beside: int | None = None,
    budget: str | float = "60s",
    seed: int = 0,
    export: str | Path | None = None,
    table: TableLike = None,
    progress: Listener | None = None,
    engines: str | Sequence[str] | None = None,
    **options: Any,
) -> Found:
    """The fastest form of one network on this machine: engine, precision, threads, layout and batch size.

    It tries each `engine` (by default all installed; `engines` is an earlier name) in each `precision`
    ("all": every one except int8), with each `batch_size` and number of `threads` (by default from one to all
    cores), and compares the time per image. Slower forms are dropped early; the search ends within `budget`.
    With `beside`, as many busy threads run meanwhile, which may change which form is fastest.
    The outputs of every form are compared with eager's in float32 before it is timed. All rows are appended
    to the table.

    With `export`, the fastest form that a Bundle can have is written into that folder. `options` are those of
    `resolving.resolve` and choose its weights; a network without published weights needs untrained=True.
    """
    from vertebra.campaigns import tuning
    from vertebra.inference import resolving

    if resolving.is_bundle(model):
        raise InvalidInputError(f"{model} is a Bundle, which has only one form.", "name the network")
    if export is None and options:
        raise InvalidInputError("Weights are only for an exported Bundle.", "add --export FOLDER")
    if export is not None and input_size is not None:
        raise InvalidInputError("A Bundle has the network's own input size.", "leave --input-size out")
    progress = notebook.listener(progress)
    engines = given.several(given.renamed(engine, engines, ()))
    cases = tuning.cases(
        model, engines, precisions=given.several(precision),
        batch_sizes=given.several(batch_size), threads=given.several(threads), input_size=input_size,
        beside=beside,
    )  # fmt: skip
    if export is not None:
        # An error in the weights is found before the search.
        resolving.resolve(model, progress=progress, **options)
        if not any(tuning.form_of(case).has_bundle for case in cases):
            raise InvalidInputError(
                "None of these engines can open Bundles, so nothing can be exported.",
                "name one that can: vertebra list engines",
            )
    into = given.table(table)
    search = partial(
        tuning.fastest, cases, into, budget_s=given.seconds(budget), seed=seed, progress=progress
    )
    options |= {"progress": progress}
    found = search() if export is None else _shipped(search, model, Path(export), options)
    notes = () if engines or zoo.find(model).is_file else tuple(tuning.left_out())
    return replace(found, notes=notes, shares=_shares(found, into))


def _shares(found: Found, table: Table) -> tuple[float | None, ...]:
    machine = table.latest(model=metrics.MACHINE)
    rows = [trial.latency for trial in found.trials]
    return tuple(None if row is None else roofline.shares_of([row], machine)[0] for row in rows)


def _shipped(search: Callable[[], Found], model: str, folder: Path, options: dict[str, Any]) -> Found:
    """The result of `search`, with the fastest form of `model` that a Bundle can have written into `folder`,
    its rows included."""
    from vertebra import bundles
    from vertebra.campaigns import tuning

    with bundles.draft(folder) as draft:  # first: no search if the folder can't be written
        found = search()
        best = found.to_ship()
        if best is None:
            raise MeasurementError(
                "No form that a Bundle can have was timed, so nothing was exported.",
                "give the search more time, or export one yourself: vertebra export",
            )
        needed = tuning.needed_bundle(best.form)
        made: dict[str, Any] = {
            "engine": needed.engine, "precision": needed.precision, "batch_size": needed.batch_size,
        }  # fmt: skip
        if zoo.find(model).is_file:
            made = {}  # its Bundle keeps the file as it is
        kept = export(model, draft, **made, **options)
        bundles.write_rows(kept, found.rows_of(best))
    return replace(found, bundle=folder)
