"""Count every network again, update the counts in the package, and compare them with published ones.

Run `python tools/catalogue.py` in a checkout with timm and torchvision, after either was updated. It takes
minutes: every network is built and traced on torch's meta device, where nothing is allocated or computed.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import fields
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from vertebra import zoo
from vertebra.errors import VertebraError
from vertebra.measurements import shipped
from vertebra.measurements.shipped import Count, catalogue, published
from vertebra.zoo import adapters

if TYPE_CHECKING:
    from vertebra.measuring.profiler import Profile

#: Counts of networks in the variants that figures are published for, if those differ from ours.
AS_PUBLISHED = Path(__file__).resolve().parents[1] / "tests" / "catalogue_as_published.csv"


class Form(NamedTuple):
    """A network as its library published its counts: with that number of classes, at that size."""

    model: str
    input_size: int
    num_classes: int
    params: int
    macs: int
    macs_fvcore: int


class Outcome(NamedTuple):
    """The result for one network; `failure` is the reason if something is missing."""

    model: str
    count: Count | None = None
    form: Form | None = None
    failure: str | None = None


#: Why our counts and the published ones differ, by the beginning of a network's name.
REASONS = {
    "timm:ecaresnext50t_32x4d": "timm has since deepened it from 2, 2, 2, 2 blocks to 3, 4, 6, 3",
    "timm:sequencer2d": "fvcore doesn't see its LSTMs",
    "timm:convmixer": 'fvcore doesn\'t see its depthwise convolutions, which are padded "same"',
    "timm:vit_dwee": 'fvcore doesn\'t see its depthwise convolutions, which are padded "same"',
    "timm:vit_dpwee": 'fvcore doesn\'t see its depthwise convolutions, which are padded "same"',
    "timm:vit_dlittle": 'fvcore doesn\'t see its depthwise convolutions, which are padded "same"',
    "timm:ghostnetv3": "published of the form with its branches fused",
    "timm:shvit": "published of the form with its branches fused",
    "timm:tnt_": "unexplained: timm's code of today makes what we count",
    "timm:hieradet_small": "unexplained: timm's code of today makes what we count",
    "timm:vitamin_small": "unexplained: timm's code of today makes what we count",
    "timm:fastvit_mci": "unexplained: timm's code of today makes what we count",
}
TOLERANCE = 0.02


class Difference(NamedTuple):
    """A published count that differs from ours: parameters in M, MACs in G by the publisher's rule."""

    model: str
    what: str
    published: float
    ours: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("only", nargs="*", help="count these again, and keep the rest [default: all]")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="processes at once")
    parser.add_argument(
        "--check", action="store_true", help="compare the counts in the package, count nothing"
    )
    arguments = parser.parse_args()
    if not arguments.check:
        outcomes = list(count(arguments.only or names(), arguments.jobs))
        write(outcomes, keep=bool(arguments.only))
        failures = [outcome for outcome in outcomes if outcome.failure]
        print(f"{len(outcomes)} networks, {len(failures)} not counted, or not as published:")
        print("\n".join(f"  {outcome.model}: {outcome.failure}" for outcome in failures))
        catalogue.counts.cache_clear()
    compared, found = compare()
    print(f"{compared} networks have published counts; {len({one.model for one in found})} differ:")
    print(table(found))


def compare() -> tuple[int, list[Difference]]:
    """How many networks have published counts, and which of those differ from ours.

    Parameters must agree to the last digit published, MACs by the publisher's rule within 2 % and
    half of the last digit.
    """
    forms = {form.model: form for form in _forms()}
    differences, compared = [], set()
    for line in published.printed("complexity.csv.gz"):
        ours = _ours(line["model"], int(line["input_size"]), forms)
        if ours is None or (line["model"] in compared and not line["weights"]):
            continue
        compared.add(line["model"])
        differences += _differences(line, *ours)
    return len(compared), list(dict.fromkeys(differences))


def _forms() -> Iterator[Form]:
    for line in AS_PUBLISHED.read_text(encoding="utf-8").splitlines()[1:]:
        model, *figures = line.split(",")
        yield Form(model, *map(int, figures))


def _ours(model: str, input_size: int, forms: dict[str, Form]) -> tuple[list[int], list[int]] | None:
    """Our parameters and MACs of the published variant, by each way of counting; None if not counted."""
    form, count = forms.get(model), shipped.counts().get(model)
    if form is not None:
        return ([form.params], [form.macs_fvcore, form.macs]) if form.input_size == input_size else None
    if count is None or count.input_size != input_size:
        return None
    macs = [count.macs_fvcore] if model.startswith("timm:") else [count.macs]
    return [count.params, count.params + count.unused_params], macs


def _differences(line: dict[str, str], params: list[int], macs: list[int]) -> Iterator[Difference]:
    million, billion = float(line["params_m"]), float(line["gmacs"])
    half = 0.5 * 10.0 ** -len(line["params_m"].partition(".")[2])
    if all(abs(one / 1e6 - million) > half + 1e-9 for one in params):
        yield Difference(line["model"], "parameters, M", million, params[-1] / 1e6)
    half = 0.005 if line["model"].startswith("timm:") else 0.0005
    if all(abs(one / 1e9 - billion) > TOLERANCE * billion + half for one in macs):
        yield Difference(line["model"], "MACs, G", billion, macs[0] / 1e9)


def table(found: Iterable[Difference]) -> str:
    """The table of docs/profile.md: every difference with its reason."""
    head = "| network | count | published | ours | why |\n|---|---|--:|--:|---|"
    lines = [
        f"| {one.model} | {one.what} | {one.published:g} | {one.ours:.4g} | {reason(one.model)} |"
        for one in found
    ]
    return "\n".join([head, *lines])


def reason(model: str) -> str:
    """Why the counts of a network differ; empty if unknown."""
    return next((why for start, why in REASONS.items() if model.startswith(start)), "")


def write(outcomes: Iterable[Outcome], *, keep: bool = False) -> None:
    """Write the counts in the package, and those compared with published ones; with `keep`, others stay."""
    counts = dict(shipped.counts()) if keep else {}
    forms = {form.model: form for form in _forms()} if keep else {}
    for outcome in outcomes:
        for held, one in ((counts, outcome.count), (forms, outcome.form)):
            if one is not None:
                held[outcome.model] = one
    Path(catalogue.__file__).with_name(catalogue.FILE).write_text(
        catalogue.encode(counts.values()), encoding="utf-8"
    )
    lines = [",".join(map(str, line)) for line in (Form._fields, *forms.values())]
    AS_PUBLISHED.write_text("\n".join([*lines, ""]), encoding="utf-8")


def names() -> list[str]:
    """Every network here: ours, torchvision's and timm's."""
    foreign = [f"{source}:{name}" for source in ("torchvision", "timm") for name in adapters.known(source)]
    return [model.name for model in zoo.models()] + foreign


def count(chosen: Iterable[str], jobs: int) -> Iterator[Outcome]:
    """The outcome of each of `chosen`, in order, by `jobs` processes."""
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), _prepare) as pool:
        for done, outcome in enumerate(pool.map(count_one, chosen, chunksize=4), 1):
            print(f"\r{done} done", end="", file=sys.stderr, flush=True)
            yield outcome
    print(file=sys.stderr)


def _prepare() -> None:
    import torch

    for library in adapters.LIBRARIES:
        adapters.load(library)
    torch.set_num_threads(1)
    gc.freeze()  # what the libraries hold is not garbage


def count_one(name: str) -> Outcome:
    """The counts of one network at its native size, and in the variant that figures are published for."""
    try:
        model = zoo.find(name)
        one = profiler_of(partial(zoo.build, name), name, model.input_size)
    except VertebraError as error:
        return Outcome(name, failure=error.message)
    counted = Count(**{field.name: getattr(one, field.name) for field in fields(Count)})
    try:
        return Outcome(name, counted, _as_published(model))
    except VertebraError as error:
        return Outcome(name, counted, failure=error.message)


def profiler_of(builder: Callable[[], Any], name: str, input_size: int) -> Profile:
    from vertebra.measuring import profiler

    return profiler.profile(builder, model=name, input_size=input_size)


def _as_published(model: zoo.Model) -> Form | None:
    """The published variant, or None if it has a thousand classes and the native size."""
    sizes = _published_sizes().get(model.name, (model.input_size,))
    size = model.input_size if model.input_size in sizes else sizes[0]
    classes = 1000
    if model.source == "timm":
        import timm

        classes = timm.models.get_pretrained_cfg(model.name.partition(":")[2]).num_classes
    if (size, classes) == (model.input_size, 1000) or model.name not in _published_sizes():
        return None
    builder = partial(_with_classes, model.name, classes)
    one = profiler_of(builder, model.name, size)
    return Form(model.name, size, classes, one.params + one.unused_params, one.macs, one.macs_fvcore)


def _with_classes(name: str, classes: int) -> Any:
    import timm

    return timm.create_model(name.partition(":")[2], num_classes=classes)


@cache
def _published_sizes() -> dict[str, tuple[int, ...]]:
    sizes: dict[str, tuple[int, ...]] = {}
    for line in published.printed("complexity.csv.gz"):
        sizes[line["model"]] = (*sizes.get(line["model"], ()), int(line["input_size"]))
    return sizes


if __name__ == "__main__":
    main()
