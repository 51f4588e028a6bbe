"""The Bundles that cases need: which they are, room for them, and their exports."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from vertebra import engines, units
from vertebra.benchmarking import Case
from vertebra.campaigns.cases import totals
from vertebra.engines import Subject
from vertebra.errors import InvalidInputError, MeasurementError, UnsuitableNetworkError
from vertebra.exporting.process import Exporter
from vertebra.progress import Listener, Progress


class NeededBundle(NamedTuple):
    """What a Bundle must be: the engine that it is made for, its precision, and the only batch size that it
    takes; None for any."""

    engine: str
    precision: str
    batch_size: int | None


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder for Bundles, gone at the end. Raises InvalidInputError where there is no room for one."""
    try:
        folder = tempfile.TemporaryDirectory(prefix="vertebra-")
    except OSError as error:
        raise InvalidInputError(
            f"No scratch folder can be made in {tempfile.gettempdir()}: {error.strerror}.",
            "free some space, or name another folder with TMPDIR",
        ) from error
    with folder as path:
        yield Path(path)


def has_room(cases_: Iterable[Case]) -> bool:
    return shutil.disk_usage(tempfile.gettempdir()).free >= _bundles_bytes(cases_)


def _bundles_bytes(cases_: Iterable[Case]) -> float:
    """What the scratch folder must hold for the cases' Bundles, with some room to write them."""
    bundles = {(case.model, needed_bundle(case)) for case in cases_ if _is_to_export(case)}
    return 1.2 * sum(4 * totals(model)["params"] for model, _ in bundles)


def prepared(
    cases_: Iterable[Case], exporter: Exporter, scratch: Path, progress: Listener
) -> Iterator[tuple[Case, MeasurementError | None]]:
    """Each case, ready to run, with what stands in its way or None.

    Where one of a network's engines reads Bundles, the network is exported, and all its engines are
    compared with that Bundle's reference.
    """
    for number, (_, group) in enumerate(groupby(cases_, key=lambda case: (case.model, case.input_size))):
        here = list(group)
        yield from ((case, None) for case in here if case.subject.bundle is not None)
        same = [case for case in here if case.subject.bundle is None]
        if not same:
            continue
        if all(reads(case) != "bundle" for case in same):
            obstacle = _unsuitable(exporter, same)
            yield from ((case, obstacle) for case in same)
            continue
        progress(Progress(f"exporting {same[0].model}"))
        needed = dict.fromkeys(needed_bundle(case) for case in same if reads(case) == "bundle")
        made = {one: scratch / f"bundle-{number}-{index}" for index, one in enumerate(needed)}
        met = {one: obstacle_of(exporter, same[0], folder, one) for one, folder in made.items()}
        for case in same:
            own = needed_bundle(case) if reads(case) == "bundle" else next(iter(made))
            yield with_bundle(case, made[own], met[own])


def needed_bundle(case: Case) -> NeededBundle:
    """The Bundle that the case's engine opens: the one in ONNX, which several share, where it can."""
    return bundle_for(case.engine, case.precision, case.batch_size)


def bundle_for(engine: str, precision: str, batch_size: int) -> NeededBundle:
    """The Bundle that an engine opens for these conditions. One whose own format is ONNX shortens the types
    of the float32 network itself."""
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
    """Why no engine should run the network that the cases share with these parameters; None where all may."""
    case = next((case for case in same if reads(case) == "builder"), None)
    if case is None:
        return None
    try:
        exporter.check(case.subject, input_size=case.input_size, in_channels=case.in_channels)
    except UnsuitableNetworkError as error:
        return error
    except MeasurementError:
        return None  # whatever else is wrong with the network, its own process will tell
    return None


def obstacle_of(
    exporter: Exporter, case: Case, folder: Path, needed: NeededBundle
) -> MeasurementError | None:
    """Why the case's network can't be exported into `folder`; None once it is there."""
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
    """The case, whose network's export met `obstacle`: only one that lies in the network itself stands in the
    way of engines that need no Bundle."""
    if reads(case) == "bundle":
        return replace(case, subject=Subject(model=case.model, bundle=str(folder))), obstacle
    if obstacle is None:
        return replace(case, reference=str(folder)), None
    return case, obstacle if isinstance(obstacle, UnsuitableNetworkError) else None


def check_room(wanted: Iterable[Case]) -> None:
    """Raise InvalidInputError where the scratch folder can't hold the largest Bundle that is needed."""
    needed = max((_bundles_bytes([case]) for case in wanted), default=0)
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if free < needed:
        told = units.show(free, "B"), units.show(needed, "B")
        raise InvalidInputError(
            f"The folder {tempfile.gettempdir()} has room for {told[0]}; an export needs {told[1]}.",
            "free some space, or name another folder with TMPDIR",
        )
