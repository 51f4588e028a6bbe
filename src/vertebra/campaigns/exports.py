"""The Bundles that cases need: which ones, space for them, and their exports."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from vertebra import bundles, engines, units, zoo
from vertebra.campaigns.cases import totals
from vertebra.engines import Subject
from vertebra.errors import BundleError, InvalidInputError, MeasurementError, UnsuitableNetworkError
from vertebra.exporting import filled
from vertebra.exporting.process import Exporter
from vertebra.machine import leftovers, onnx_files
from vertebra.measuring.benchmarking import Case
from vertebra.progress import Listener, Progress, beating
from vertebra.zoo import adapters


class NeededBundle(NamedTuple):
    """What a Bundle must be: its engine, its precision, and its only batch size, or None for any. If `drawn`,
    it is made from the graph that ships, with drawn parameters."""

    engine: str
    precision: str
    batch_size: int | None
    drawn: bool = False


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder for Bundles, deleted at the end. Raises InvalidInputError if it can't be made."""
    leftovers.sweep(Path(tempfile.gettempdir()))
    try:
        folder = tempfile.TemporaryDirectory(prefix=leftovers.prefix())
    except OSError as error:
        raise InvalidInputError(
            f"Can't make a scratch folder in {tempfile.gettempdir()}: {error.strerror}.",
            "free some space, or set TMPDIR to another folder",
        ) from error
    with folder as path:
        yield Path(path)


def has_room(cases_: Iterable[Case]) -> bool:
    return shutil.disk_usage(tempfile.gettempdir()).free >= _bundles_bytes(cases_)


def _bundles_bytes(cases_: Iterable[Case]) -> float:
    """What the scratch folder must hold for the cases' Bundles, with some room to write them."""
    bundles = {(*subject_of(case), needed_bundle(case)): case for case in cases_ if _is_to_export(case)}
    return 1.2 * sum(map(_parameters_bytes, bundles.values()))


def subject_of(case: Case) -> tuple[str, str | None, int]:
    """What cases that are exported and measured together have in common: the network and its input size."""
    return case.model, case.network_sha256, case.input_size


def _parameters_bytes(case: Case) -> int:
    name = str(case.subject.arguments.get("name", case.model))
    if not adapters.is_file(name):
        return 4 * totals(case.model)["params"]
    found = onnx_files.read(adapters.network_file(name).path)
    return sum(path.stat().st_size for path in (found.path, *onnx_files.data_files(found)))


def prepared(
    cases_: Iterable[Case], exporter: Exporter, scratch: Path, progress: Listener
) -> Iterator[tuple[Case, MeasurementError | None]]:
    """Each case, ready to run, with the error that prevents it or None.

    If one of a network's engines reads Bundles, the network is exported, and all its engines are
    compared with that Bundle's reference.
    """
    for number, (_, group) in enumerate(groupby(cases_, key=subject_of)):
        here = list(group)
        yield from ((case, None) for case in here if case.subject.bundle is not None)
        same = [case for case in here if case.subject.bundle is None]
        if not same:
            continue
        if all(reads(case) != "bundle" for case in same):
            obstacle = _unsuitable(exporter, same)
            yield from ((case, obstacle) for case in same)
            continue
        needed = dict.fromkeys(needed_bundle(case) for case in same if reads(case) == "bundle")
        made = {one: scratch / f"bundle-{number}-{index}" for index, one in enumerate(needed)}
        verb = "filling" if all(one.drawn for one in needed) else "exporting"
        with beating(progress, Progress(f"{verb} {same[0].model}")):
            met = {one: obstacle_of(exporter, same[0], folder, one) for one, folder in made.items()}
        for case in same:
            own = needed_bundle(case) if reads(case) == "bundle" else next(iter(made))
            yield with_bundle(case, made[own], met[own])


def needed_bundle(case: Case) -> NeededBundle:
    """The Bundle that the case's engine opens: if possible the one in ONNX, which several engines share. A
    network's own file stays as it is, in whatever precision it is."""
    if adapters.is_file(case.model):
        return NeededBundle("onnxruntime", "float32", None)
    if _has_graph(case):
        formats = engines.find(case.engine).formats
        if "onnx" in formats and not case.precision.startswith("int"):
            return reference_for(case)
        if filled.makes(formats[0]) and case.precision == "float32":
            return NeededBundle(case.engine, "float32", None, drawn=True)
    return bundle_for(case.engine, case.precision, case.batch_size)


def reference_for(case: Case) -> NeededBundle:
    """The Bundle in ONNX with which the engines of the case's network are compared."""
    return NeededBundle("onnxruntime", "float32", None, drawn=_has_graph(case))


def _has_graph(case: Case) -> bool:
    """Whether the case measures an untrained network of which a graph ships for its input size."""
    asked = case.subject.arguments
    plain = case.subject.builder == zoo.BUILDER and set(asked) <= {"name", "seed"}
    return plain and case.in_channels == 3 and filled.found(case.model, case.input_size) is not None


def bundle_for(engine: str, precision: str, batch_size: int) -> NeededBundle:
    """The Bundle that an engine opens for these conditions. An engine whose own format is ONNX converts
    the float32 network to lower precisions itself."""
    formats = engines.find(engine).formats
    shared = precision == "float32" or (formats[:1] == ("onnx",) and not precision.startswith("int"))
    if "onnx" in formats and shared:
        return NeededBundle("onnxruntime", "float32", None)
    return NeededBundle(engine, precision, batch_size)


def _is_to_export(case: Case) -> bool:
    return reads(case) == "bundle" and case.subject.bundle is None


def reads(case: Case) -> str:
    return engines.find(case.engine).reads


def _unsuitable(exporter: Exporter, same: Sequence[Case]) -> MeasurementError | None:
    """Why no engine should run the cases' network with these parameters; None if all may."""
    case = next((case for case in same if reads(case) == "builder"), None)
    if case is None:
        return None
    try:
        exporter.check(case.subject, input_size=case.input_size, in_channels=case.in_channels)
    except UnsuitableNetworkError as error:
        return error
    except MeasurementError:
        return None  # anything else that is wrong with the network shows in its own process
    return None


def obstacle_of(
    exporter: Exporter, case: Case, folder: Path, needed: NeededBundle
) -> MeasurementError | None:
    """Why the case's network can't be exported into `folder`; None once it is exported."""
    try:
        exporter.export(
            case.subject, folder, input_size=case.input_size, in_channels=case.in_channels,
            **needed._asdict(),
        )  # fmt: skip
    except MeasurementError as error:
        return error
    return None


def with_bundle(
    case: Case, folder: Path, obstacle: MeasurementError | None
) -> tuple[Case, MeasurementError | None]:
    """The case after its network's export, which failed with `obstacle` or not: engines that need no Bundle
    are affected only if the fault is in the network itself, and get the parameters of the Bundle."""
    graph = _graph_of(folder) if obstacle is None else None
    if reads(case) == "bundle":
        return replace(case, subject=Subject(model=case.model, bundle=str(folder)), graph=graph), obstacle
    if obstacle is None:
        drawn = {"name": case.subject.arguments.get("name"), "drawn": True}
        subject = case.subject if graph is None else replace(case.subject, arguments=drawn)
        return replace(case, subject=subject, reference=str(folder)), None
    return case, obstacle if isinstance(obstacle, UnsuitableNetworkError) else None


def _graph_of(folder: Path) -> str | None:
    """The library and version of the graph that the Bundle was made from, if it was. One that can't be read
    is the error of the process that opens it."""
    try:
        graph = bundles.read(folder, verify=False).graph
    except BundleError:
        return None
    return None if graph is None else f"{graph['library']} {graph['version']}"


def check_room(wanted: Iterable[Case]) -> None:
    """Raise InvalidInputError if the scratch folder can't hold the largest Bundle that is needed."""
    needed = max((_bundles_bytes([case]) for case in wanted), default=0)
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if free < needed:
        shown = units.show(free, "B"), units.show(needed, "B")
        raise InvalidInputError(
            f"The folder {tempfile.gettempdir()} has room for {shown[0]}; an export needs {shown[1]}.",
            "free some space, or set TMPDIR to another folder",
        )
