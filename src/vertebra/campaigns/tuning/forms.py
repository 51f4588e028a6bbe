"""Forms of one network: its engine, precision, number of threads, layout and batch size."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from vertebra import engines, zoo
from vertebra.campaigns import cases as campaign_cases
from vertebra.campaigns import exports
from vertebra.campaigns.load import Load
from vertebra.errors import InvalidInputError, UnknownNameError
from vertebra.exporting import conversion
from vertebra.machine import system
from vertebra.measuring.benchmarking import Case
from vertebra.zoo import adapters
from vertebra.zoo.adapters import onnx

#: An engine -> the one that compiles the same machine code beforehand, and is quicker to try.
_TWINS = {"compile": "aotinductor"}


@dataclass(frozen=True)
class Form:
    """How a network is run. `layout` is None if the engine has only one."""

    engine: str
    precision: str = "float32"
    threads: int = 1
    layout: str | None = None
    batch_size: int = 1

    def __str__(self) -> str:
        parts = [self.engine, self.precision, f"{self.threads} thread{'s' * (self.threads > 1)}"]
        parts += [self.layout] if self.layout else []
        return ", ".join(parts + ([f"batches of {self.batch_size}"] if self.batch_size > 1 else []))

    @property
    def is_costly(self) -> bool:
        """Whether loading it runs a compiler."""
        info = engines.find(self.engine)
        return info.needs_compiler and info.reads == "builder"

    @property
    def has_bundle(self) -> bool:
        """Whether it can be shipped, because its engine opens Bundles."""
        return engines.find(self.engine).reads == "bundle"


def needed_bundle(form: Form) -> exports.NeededBundle:
    """What to export so that `form` can be run: the Bundle's engine, precision and only batch size."""
    return exports.bundle_for(form.engine, form.precision, form.batch_size)


def form_of(case: Case) -> Form:
    """The form that `case` measures."""
    return Form(case.engine, case.precision, case.threads, case.layout, case.batch_size)


def cases(
    model: str,
    chosen: Sequence[str] = (),
    *,
    precisions: Sequence[str] = ("float32",),
    batch_sizes: Sequence[int] = (1,),
    threads: Sequence[int] = (),
    input_size: int | None = None,
    beside: int | None = None,
) -> list[Case]:
    """One case for each form of `model` that can run on this machine's processor, on the engines `chosen` (on
    all that are installed, if none is named). `precisions` may be ("all",); without `threads`, their number
    goes from one to all cores.

    Raises what `campaigns.cases.cases` raises, and InvalidInputError if no form is left.
    """
    found = zoo.find(model)
    runners = [engines.require(name) for name in dict.fromkeys(chosen)] or [
        name
        for name in engines.available()
        if name != "null"
        and not (found.is_file and engines.find(name).reads == "builder")
        and (found.is_file or conversion.missing(name, found.name) is None)
    ]
    if not found.is_file:
        for name in runners:
            conversion.require(name, found.name)
    asked = _precisions(runners, precisions) if not found.is_file else _precisions_of_file(found, precisions)
    planned = [
        replace(case, layout=layout)
        for engine in runners
        for precision in asked
        if precision in engines.find(engine).precisions and "cpu" in engines.find(engine).devices
        for count in dict.fromkeys(threads or _thread_counts())
        for case in campaign_cases.cases(
            [found.name], [engine], precisions=[precision], batch_sizes=batch_sizes, threads=count,
            input_size=input_size, load=Load(beside=beside),
        )
        for layout in _layouts(engine)
    ]  # fmt: skip
    if not planned:
        raise InvalidInputError(
            f"{', '.join(runners)} can't run in {', '.join(asked)}.",
            "to see what each engine offers: vertebra list engines",
        )
    return planned


def left_out() -> list[str]:
    """A sentence for each engine whose runtime is here but not its converter, with how to install that."""
    missing = {name: conversion.missing(name) for name in engines.available()}
    return [f"{name} was left out: {why}" for name, why in missing.items() if why is not None]


def _precisions(runners: Iterable[str], asked: Sequence[str]) -> list[str]:
    offered = list(dict.fromkeys(one for name in runners for one in engines.find(name).precisions))
    known = {one for info in engines.known() for one in info.precisions}
    if "int8" in asked:
        raise InvalidInputError(
            "int8 needs calibration pictures before it can be timed.",
            "make a Bundle: vertebra export MODEL --precision int8 --calibrate FOLDER",
        )
    for one in asked:
        if one not in (*known, "all"):
            raise UnknownNameError.of("precision", one, known, "vertebra list engines")
    every = [one for one in offered if one not in ("int8", "tf32")]  # TF32 exists on cards only
    return every if "all" in asked else list(dict.fromkeys(asked))


def _precisions_of_file(found: zoo.Model, asked: Sequence[str]) -> list[str]:
    """A file's own precision; of a float32 one, those too that an engine converts it to."""
    own = onnx.precision(onnx.graph(adapters.network_file(found.name).path))
    if own == "float32":
        return _precisions(engines.available(), asked)
    if tuple(asked) not in (("float32",), ("all",), (own,)):  # the first is the default
        raise InvalidInputError(
            f"The network in {found.name} is in {own}; {', '.join(asked)} was asked for.",
            "leave the precision out",
        )
    return [own]


def _thread_counts() -> list[int]:
    """All physical cores, then powers of two below."""
    most = system.default_threads()
    return [most, *(2**power for power in reversed(range(most.bit_length())) if 2**power < most)]


def _layouts(engine: str) -> tuple[str | None, ...]:
    layouts = engines.find(engine).layouts
    return layouts if len(layouts) > 1 else (None,)


def parent(form: Form, forms: Sequence[Form]) -> Form | None:
    """The form among `forms` by which `form` is judged before it is tried: the same with the most threads in
    its engine's first layout; for that one, a twin. None if there is none."""
    family = [other for other in forms if _family(other) == _family(form)]
    leader = max(family, key=lambda other: other.threads, default=form)
    if leader != form:
        return leader
    twin = replace(form, engine=_TWINS.get(form.engine, form.engine), layout=None)
    return twin if twin != form and twin in forms else None


def _family(form: Form) -> tuple[object, ...]:
    return form.engine, form.precision, form.batch_size
