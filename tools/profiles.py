"""Make the profiles in the package again, and print the table of docs/flops.md.

Run `python tools/profiles.py` in a checkout, after a network of the zoo was added or changed.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path

from vertebra import zoo
from vertebra.measurements.shipped import profiles as shipped
from vertebra.measuring import citations
from vertebra.measuring.profiler import Profile, profile

_HEAD = (
    "| network | input | parameters | MACs | operations | 2020 rule, M params | printed | 2020 rule, G FLOPs "
    "| printed |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|"
)


def main() -> None:
    entries = zoo.models()
    profiles = {entry.name: profile_native(entry) for entry in entries}
    for file in dict.fromkeys(shipped.FILES.values()):
        held = [profiles[entry.name] for entry in entries if shipped.FILES[entry.collection] == file]
        Path(shipped.__file__).with_name(file).write_text(document(held), encoding="utf-8")
    print(table(profiles.values()))


def profile_native(entry: zoo.Model) -> Profile:
    """The profile of a network of the zoo at its native size."""
    builder = partial(zoo.build, entry.name)
    return profile(builder, model=entry.name, input_size=entry.input_size)


def document(profiles: Iterable[Profile]) -> str:
    """The text of the file in the package."""
    return shipped.encode(
        {one.model: {"totals": one.totals(), "stages": one.stages, "layers": one.layers} for one in profiles}
    )


def table(profiles: Iterable[Profile]) -> str:
    """True counts, the 2020 rule's and the printed ones, for the networks of that page."""
    printed = {(row.model, row.metric): row.value for row in citations.paddleclas()}
    lines = [_line(one, printed) for one in profiles if one.model_stat is not None]
    return "\n".join([_HEAD, *lines])


def _line(one: Profile, printed: dict[tuple[str, str], float]) -> str:
    stat = one.model_stat
    assert stat is not None, "only networks of the page have a line"
    cells = [
        one.model,
        f"{one.input_size}",
        f"{one.params:,}",
        f"{one.macs:,}",
        f"{2 * one.macs:,}",
        f"{stat.params / 1e6:.6f}",
        f"{printed[one.model, 'params'] / 1e6:.3f}",
        f"{stat.operations / 1e9:.6f}",
        f"{printed[one.model, 'operations'] / 1e9:.3f}",
    ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
