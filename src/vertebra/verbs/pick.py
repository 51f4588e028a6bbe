"""`vertebra.pick`: the best network under limits, with reasons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vertebra import choosing, recommendation
from vertebra.verbs import given
from vertebra.verbs.given import TableLike

if TYPE_CHECKING:
    from vertebra.campaigns.campaign import Watcher
    from vertebra.verification import Verified


def pick(
    *,
    objective: str = "top1",
    table: TableLike = None,
    filters: dict[str, Any] | None = None,
    trust: str = "B",
    among: str = "table",
    verify: str | float | None = None,
    licence: str | Sequence[str] = (),
    family: str | Sequence[str] = (),
    input_size: int | Sequence[int] = (),
    **limits: str | float,
) -> recommendation.Pick:
    """Choose a network under `limits`, such as latency="10ms", memory="700MB", top1="75%".

    Limits are named as the keys of `recommendation.LIMITS`; text is read with its unit, a number is in base
    units. `objective` is a metric or such a key. `licence` (of the weights, "apache-2.0"), `family` and
    `input_size` say which may be chosen. `filters` are conditions (column=value); dataset="folder" and
    probed="folder" say which images the accuracies are of, origin="evaluated" who found them out. A network
    for which a figure graded worse than `trust` speaks isn't chosen. With `among="catalogue"`, every network
    whose accuracy is published is a candidate, priced from those that were measured on this machine; with
    `verify`, a time, those that the answer hangs on are measured first (see `verified`).
    """
    asked: dict[str, Any] = {"objective": objective, "trust": trust, "filters": filters or {}, **limits}
    asked |= {"licence": licence, "family": family, "input_size": input_size}
    if verify is not None:
        return verified(verify, table=table, **asked).pick
    return choosing.pick(given.table(table, create=False), _question(among=among, **asked))


def verified(
    budget: str | float, *, table: TableLike = None, watcher: Watcher | None = None, **asked: Any
) -> Verified:
    """`pick` (whose other options are taken here) among every network whose accuracy is published, measuring
    what the answer hangs on; see `choosing.verified`.

    The candidates that could change the answer are measured, best promise first, until none is left or
    `budget` is spent. What is measured is appended to the table.
    """
    filters = dict(asked.pop("filters", {}))
    engine = filters.pop("engine", None)
    question = _question(**asked, filters=filters)
    engines = () if engine is None else given.several(engine)
    from vertebra.verbs import picking

    return picking.verified(
        given.table(table), question, given.seconds(budget), engines=engines, watcher=watcher
    )


def _question(
    *,
    objective: str,
    trust: str,
    filters: Mapping[str, Any],
    licence: str | Sequence[str] = (),
    family: str | Sequence[str] = (),
    input_size: int | Sequence[int] = (),
    among: str = "catalogue",
    **limits: str | float,
) -> choosing.Question:
    return choosing.ask(
        limits, objective=objective, licence=given.several(licence), family=given.several(family),
        input_size=given.several(input_size), trust=trust, among=among, filters=filters,
    )  # fmt: skip
