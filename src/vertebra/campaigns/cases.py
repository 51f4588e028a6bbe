"""The cases to measure, which of them are missing in the table, and what each costs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import product

from vertebra import engines, zoo
from vertebra.bundles import Bundle, native
from vertebra.campaigns.load import Load, checked_threads
from vertebra.engines import Subject
from vertebra.errors import InvalidInputError, MissingRuntimeError
from vertebra.exporting import filled
from vertebra.machine import system
from vertebra.measurements import Measurement, shipped
from vertebra.measuring.benchmarking import Case
from vertebra.measuring.benchmarking.results import conditions
from vertebra.zoo import adapters, names

#: Untrained parameters are as fast as trained ones; the seed makes them the same in every process.
SEED = 0
#: To estimate a process's memory: what a runtime holds, and bytes of activations per MAC.
_RUNTIME_BYTES, _BYTES_PER_MAC = 600_000_000, 0.05
#: Counts assumed for a network without shipped ones: those of a ResNet-50, rounded.
_ORDINARY = {"macs": 4_000_000_000, "params": 25_000_000, "input_size": 224}

#: Every case that was measured has a row of one of these metrics.
_ANSWERS = ("latency", "sustained_rate", "failure")


def cases(
    models: Sequence[str],
    chosen: Sequence[str] = (),
    *,
    batch_sizes: Sequence[int] = (1,),
    input_size: int | None = None,
    threads: int | None = None,
    precisions: Sequence[str] = (),
    device: str = "cpu",
    load: Load | None = None,
) -> list[Case]:
    """One case for each of `models` on each of the engines `chosen` (all that can run here, if none is
    named), in each precision, at each batch size and number of streams. Without `precisions` they are
    float32, and a file's own.

    Raises UnknownNameError, MissingRuntimeError (a named engine that isn't installed) and
    InvalidInputError (an impossible size, batch, number of threads or load), before anything runs.
    """
    runners = [engines.require(name) for name in dict.fromkeys(chosen)] or found_here()
    threads, load = checked_threads(threads), load or Load()
    known = {found.name: found for found in map(zoo.find, models)}
    ways = {
        asked: _ways(runners, asked, device, load, named=bool(chosen))
        for asked in {_precisions(model, precisions) for model in known.values()}
    }
    for model in known.values():
        _check_batches(model, batch_sizes)
    if load.end_to_end and (input_size is not None or tuple(batch_sizes) != (1,)):
        raise InvalidInputError(
            "--end-to-end times one picture at a time, at the network's own input size.",
            "leave out the batch size and the input size, or --end-to-end",
        )
    return [
        replace(_case(model, input_size, threads, load), engine=engine, batch_size=batch_size, device=device,
                precision=precision, streams=streams)
        for model in known.values()
        for engine, precision, streams in ways[_precisions(model, precisions)]
        if chosen or not model.is_file or engines.find(engine).reads == "bundle"
        for batch_size in dict.fromkeys(batch_sizes)
    ]  # fmt: skip


def bundle_cases(
    kept: Bundle,
    chosen: Sequence[str] = (),
    *,
    batch_sizes: Sequence[int] = (),
    input_size: int | None = None,
    threads: int | None = None,
    precisions: Sequence[str] = (),
    device: str = "cpu",
    load: Load | None = None,
    trust_code: bool = False,
) -> list[Case]:
    """Cases as `cases` makes them, for the network in a Bundle as it is: on the engines `chosen` (all here
    that open it, if none is named), in its own precision and at its own batch size if it has one and no other
    is asked for. Raises InvalidInputError for conditions that it doesn't support, and BundleError if it is
    native code that may not be loaded."""
    native.check(kept, trust_code=trust_code)
    opening = [name for name in engines.available() if kept.format in engines.find(name).formats]
    runners = [engines.require(name) for name in dict.fromkeys(chosen)] or opening
    threads, load = checked_threads(threads), load or Load()
    batches = tuple(dict.fromkeys(batch_sizes)) or (kept.batch_size or 1,)
    _check_bundle(kept, runners, precisions, batches, input_size)
    ways = _ways(runners, precisions or (kept.precision,), device, load, named=bool(chosen))
    record = None if kept.preprocess is None else asdict(kept.preprocess)
    if load.end_to_end and (record is None or batches != (1,)):
        raise InvalidInputError(
            f"--end-to-end needs a batch size of 1 and a Preprocess in the Bundle {kept.folder}.",
            "leave out the batch size, or --end-to-end",
        )
    return [
        Case(model=kept.model, engine=engine,
             subject=Subject(kept.model, bundle=str(kept.folder), trust_code=trust_code),
             input_size=kept.input_size, batch_size=batch_size, num_classes=kept.num_classes,
             in_channels=kept.in_channels, precision=precision, threads=threads, device=device,
             weights=kept.weights, network_sha256=kept.network_sha256,
             scenario=load.scenario, streams=streams, arrival_rate=load.arrival_rate,
             latency_bound_s=load.latency_bound_s, preprocess=record if load.end_to_end else None,
             beside=load.beside or None,
             operations=_operations_of(kept))
        for engine, precision, streams in ways
        for batch_size in batches
    ]  # fmt: skip


def _check_bundle(
    kept: Bundle,
    runners: Sequence[str],
    precisions: Sequence[str],
    batch_sizes: Sequence[int],
    input_size: int | None,
) -> None:
    """Raise InvalidInputError if a Bundle is asked for what its files don't support."""
    strange = [name for name in runners if kept.format not in engines.find(name).formats]
    if strange:
        raise InvalidInputError(
            f'{kept.folder} is a Bundle of the format "{kept.format}", which {strange[0]} can\'t open.',
            f"engines that can: {', '.join(kept.engines)}",
        )
    rounded = kept.precision if kept.precision.startswith("int8") else None
    for name, own, asked in (
        ("batch size", kept.batch_size, batch_sizes),
        ("input size", kept.input_size, [input_size or kept.input_size]),
        ("precision", rounded, precisions),
    ):
        others = [value for value in asked if value != own]
        if own is not None and others:
            raise InvalidInputError(
                f"The {name} of the Bundle {kept.folder} is {own}; {others[0]} was asked for.",
                "leave it out, or export the network again",
            )


def _case(model: names.Model, input_size: int | None, threads: int, load: Load) -> Case:
    """The network at batch size 1, with the null engine for now."""
    size = native_or(model, input_size)
    called = zoo.name_in_rows(model)
    case = Case(
        model=called,
        engine="null",
        subject=Subject(model=called, builder=zoo.BUILDER, arguments={"name": model.name, "seed": SEED}),
        weights=called.partition(":")[2] if model.is_file else None,
        network_sha256=adapters.content_sha256(model.name) if model.is_file else None,
        input_size=size,
        threads=threads,
        scenario=load.scenario,
        arrival_rate=load.arrival_rate,
        latency_bound_s=load.latency_bound_s,
        beside=load.beside or None,
        preprocess=asdict(zoo.facts(model.name).preprocess) if load.end_to_end else None,
        operations=_operations(model.name, size),
    )
    if input_size is not None and not model.is_file and filled.is_needed():
        filled.explain(case.subject, size)
    return _as_stated(case, model) if model.is_file else case


def _as_stated(case: Case, model: names.Model) -> Case:
    """The case of a network's file, with what the file states of its input and output."""
    from vertebra.zoo import adapters
    from vertebra.zoo.adapters import onnx

    seen = onnx.signature(adapters.network_file(model.name).path)
    return replace(case, num_classes=seen.num_classes, in_channels=seen.in_channels)


def _precisions(model: names.Model, asked: Sequence[str]) -> tuple[str, ...]:
    """The precisions to measure the network in. Raises InvalidInputError for those that it can't have without
    being quantised first."""
    own = "float32"
    if model.is_file:
        from vertebra.zoo import adapters
        from vertebra.zoo.adapters import onnx

        own = onnx.precision(onnx.graph(adapters.network_file(model.name).path))
    chosen = tuple(dict.fromkeys(asked)) or (own,)
    others = [one for one in chosen if one != own]
    if own != "float32" and others:
        raise InvalidInputError(
            f"The network in {model.name} is in {own}; {others[0]} was asked for.", "leave the precision out"
        )
    if "int8" in others:
        raise InvalidInputError(
            "int8 needs calibration pictures, and none are given here.",
            "measure a Bundle: vertebra export MODEL -o FOLDER --precision int8 --calibrate PICTURES, then "
            "vertebra bench FOLDER",
        )
    return chosen


def _operations_of(kept: Bundle) -> float | None:
    """The operations of a Bundle's network, if they are known: with another head nobody counted it."""
    if kept.pruned is not None:
        return 2.0 * float(kept.pruned["macs"])
    if kept.fitted is not None or kept.model not in shipped.models():
        return None
    return _operations(kept.model, kept.input_size)


def _operations(model: str, size: int) -> float | None:
    """Those of one image, scaled from the shipped count; None for another library's network."""
    if ":" in model:
        return None
    totals = shipped.totals(model)
    return 2.0 * totals["macs"] * (size / totals["input_size"]) ** 2


def _ways(
    runners: Sequence[str], precisions: Iterable[str], device: str, load: Load, *, named: bool
) -> list[tuple[str, str, int]]:
    """Engine, precision and number of streams of each way to run. An engine that doesn't support one is an
    error if it was named, and left out if not."""
    ways = []
    for engine, precision, streams in product(runners, precisions, load.streams):
        info = engines.find(engine)
        lacks = _lacks(info, precision, device)
        if lacks is None:
            ways.append((engine, precision, streams))
        elif named:
            raise lacks
    if not runners:
        raise MissingRuntimeError(
            "No engine is installed that could measure a network.",
            'install one with: pip install "vertebra[openvino]"',
        )
    if not ways:
        raise InvalidInputError(
            f"No engine here runs in {', '.join(precisions)} on {device}.",
            "to see what each engine offers: vertebra list engines",
        )
    if device == "cuda" and not system.cuda_cards():
        raise InvalidInputError(
            "No CUDA card was found here: NVIDIA's driver is missing or reports none.",
            "leave out the device to measure on the processor",
        )
    return ways


def _lacks(info: engines.EngineInfo, precision: str, device: str) -> InvalidInputError | None:
    for condition, asked, offered in (
        ("precision", precision, info.precisions),
        ("device", device, info.devices),
    ):
        if asked not in offered:
            return InvalidInputError(
                f'The engine "{info.name}" has no {condition} "{asked}".',
                f"it offers: {', '.join(offered)}",
            )
    return None


def _check_batches(model: names.Model, batch_sizes: Sequence[int]) -> None:
    """Raise InvalidInputError if the network's file takes only one batch size and another is asked for."""
    if not model.is_file:
        return
    from vertebra.zoo import adapters
    from vertebra.zoo.adapters import onnx

    fixed = onnx.signature(adapters.network_file(model.name).path).batch_size
    wrong = [batch_size for batch_size in batch_sizes if fixed not in (None, batch_size)]
    if wrong:
        raise InvalidInputError(
            f"The network in {model.name} takes batches of {fixed}; {wrong[0]} was asked for.",
            f"use --batch-size {fixed}, or export the network with a free batch size",
        )


#: The largest side of an image, in pixels: beyond it, sizes in bytes overflow in some runtime.
LARGEST = 65_535


def native_or(model: names.Model, input_size: int | None) -> int:
    """`input_size`, or the model's own. Raises InvalidInputError if the network can't take it."""
    if input_size is not None and model.fixed_size and input_size != model.input_size:
        raise InvalidInputError(
            f"{model.name} can't take images of {input_size}x{input_size} pixels.",
            f"{model.input_size}x{model.input_size} is the only size that works",
        )
    if input_size is not None and input_size < model.min_size:
        raise InvalidInputError(
            f"{model.name} can't take images of {input_size}x{input_size} pixels.",
            f"the smallest that works is {model.min_size}; its own size is {model.input_size}",
        )
    if input_size is not None and input_size > LARGEST:
        raise InvalidInputError(
            f"Images of {input_size}x{input_size} pixels are too large.",
            f"the largest are {LARGEST}x{LARGEST}",
        )
    return model.input_size if input_size is None else input_size


def found_here() -> list[str]:
    """The engines that can run here and are measured if none is named."""
    return [name for name in engines.available() if name != "null" and engines.find(name).usual]


def remaining(wanted: Iterable[Case], rows_: Iterable[Measurement]) -> list[Case]:
    """The cases without a row for this machine and the runtime's installed version. A failure counts as a row
    only while the libraries that convert for its engine have the same versions too."""
    wanted, here = list(wanted), system.describe().id
    installed = {name: _installed(name) for name in {case.engine for case in wanted}}
    answers: dict[tuple[object, ...], list[Measurement]] = defaultdict(list)
    for row in rows_:
        is_answer = row.metric in _ANSWERS and row.system == here and row.engine in installed
        if is_answer and _is_current(row, *installed[str(row.engine)]):
            answers[row.model, row.network_sha256, row.engine].append(row)
    return [
        case for case in wanted
        if not any(_fits(row, case) for row in answers[case.model, case.network_sha256, case.engine])
    ]  # fmt: skip


def _installed(engine: str) -> tuple[str | None, Mapping[str, str]]:
    """The version of an engine's runtime, and those of the libraries that convert for it."""
    return engines.version(engine), system.library_versions(engines.find(engine).converters)


def _is_current(row: Measurement, runtime: str | None, converters: Mapping[str, str]) -> bool:
    """Whether the row was measured with the versions given. A failure from before converters' versions were
    recorded counts as one without converters."""
    info = engines.find(str(row.engine))
    if next((row.versions[name] for name in info.distributions if name in row.versions), None) != runtime:
        return False
    recorded = {name: found for name, found in row.versions.items() if name in info.converters}
    return row.metric != "failure" or recorded == converters


def _fits(row: Measurement, case: Case) -> bool:
    """Whether the row's conditions are those of the case. A failure has them as asked for; a figure has the
    layout and provider that the engine chose, and is valid for other weights too."""
    asked = conditions(case)
    if row.metric == "failure":
        asked["weights"] = case.weights
    else:
        open_ = [name for name in ("layout", "provider") if asked[name] is None]
        asked = {name: value for name, value in asked.items() if name not in open_}
    return all(getattr(row, name) == value for name, value in asked.items())


def multiply_accumulates(case: Case) -> float:
    """About how many the case's forward pass takes: the shipped count, scaled to its size and batch."""
    counts = totals(case.model)
    return case.batch_size * counts["macs"] * (case.input_size / counts["input_size"]) ** 2


def totals(model: str) -> Mapping[str, int]:
    """The shipped counts, or an ordinary network's if none ship, as for a file: used only for estimates."""
    has_counts = model in shipped.models() or shipped.catalogue.find(model) is not None
    return shipped.totals(model) if has_counts else _ORDINARY


def expected_bytes(case: Case) -> float:
    """About what the case's process holds: the runtime, the weights as read and as the engine lays them out,
    and activations in proportion to the work."""
    counts = totals(case.model)
    return _RUNTIME_BYTES + 12 * counts["params"] + _BYTES_PER_MAC * multiply_accumulates(case)
