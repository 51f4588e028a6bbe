"""A Ray cluster, which somebody else started: its address, and the connection to it."""

from __future__ import annotations

import importlib.util
import os
import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vertebra.errors import InvalidInputError, MissingRuntimeError, VertebraError

#: Seconds for a cluster to accept a connection.
PATIENCE_S = 10.0
#: How to start one whose nodes measure.
START = "ray start --head"


def checked(address: str) -> str | None:
    """The address of the cluster that `--on` names; None for the one that runs here. Raises
    InvalidInputError for anything else."""
    if not re.fullmatch(r"ray(://[^\s/]+:\d+)?", address):
        raise InvalidInputError(
            f'"{address[:100]}" names no Ray cluster.', "write --on ray, or --on ray://HOST:10001"
        )
    return None if address == "ray" else address


def require(*libraries: str) -> None:
    """Raise MissingRuntimeError unless Ray is installed, with those of its `libraries` that have needs of
    their own: "data", "train", "serve"."""
    needs = {"data": ("pyarrow", "pandas"), "train": ("pyarrow", "pydantic"), "serve": ("fastapi", "uvicorn")}
    try:
        is_there = importlib.util.find_spec("ray") is not None
    except ValueError:  # a module without a spec
        is_there = False
    if not is_there:
        raise MissingRuntimeError.of("--on ray", "Ray", "ray")
    for library in libraries:
        for module in needs[library]:
            if importlib.util.find_spec(module) is None:
                raise MissingRuntimeError.of(f"--on ray here needs ray[{library}] and so", module, "ray")


@contextmanager
def connected(on: str, *libraries: str, start: str = START) -> Iterator[Any]:
    """Ray, connected to the cluster that `on` names ("ray" or "ray://HOST:PORT"), until the block ends. A
    connection that the caller has is used and stays.

    Raises MissingRuntimeError without Ray, and InvalidInputError where no cluster answers; `start` is the
    command that starts one.
    """
    address = checked(on)
    require(*libraries)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    is_ours = not ray.is_initialized()
    if is_ours:
        _connect(ray, address, start)
    try:
        yield ray
    finally:
        if is_ours:
            ray.shutdown()


def _connect(ray: Any, address: str | None, start: str) -> None:
    import logging

    where = "here" if address is None else f"at {address}"
    hint = f"start one with: {start}"
    try:
        _knock(address)
        ray.init(address or "auto", log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # Ray raises what its layers below raise
        raise InvalidInputError(f"No Ray cluster answers {where} ({last_line(error)}).", hint) from error


def _knock(address: str | None) -> None:
    """Raise OSError where nothing accepts a connection: Ray itself would try for minutes."""
    told = (address or os.environ.get("RAY_ADDRESS") or _current()).removeprefix("ray://")
    host, colon, port = told.rpartition(":")
    if colon and port.isdecimal():
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE_S).close()
        except OverflowError as error:
            raise OSError(f"{port} isn't a port") from error


def _current() -> str:
    """The address of the cluster that was started here last, as Ray notes it; else nothing."""
    try:
        return Path("/tmp/ray/ray_current_cluster").read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def last_line(error: BaseException) -> str:
    """The end of what an error of Ray says."""
    lines = str(error).strip().splitlines()
    return lines[-1].strip().rstrip(".")[:300] if lines else type(error).__name__


def raised(error: BaseException) -> VertebraError | None:
    """The error of ours that a task of Ray ended with, if it did."""
    seen: BaseException | None = error
    for _ in range(10):
        if seen is None or isinstance(seen, VertebraError):
            return seen
        seen = getattr(seen, "cause", None) or seen.__cause__
    return None


def processors(ray: Any) -> list[int]:
    """The processors of each node that is there and has any."""
    nodes: list[Mapping[str, Any]] = ray.nodes()
    counts = [int(node["Resources"].get("CPU", 0)) for node in nodes if node["Alive"]]
    return [count for count in counts if count]


def threads_as(asked: str | None) -> None:
    """Give this process the OMP_NUM_THREADS of the caller: Ray sets it to the processors of a task, and
    engines go by it."""
    if asked is None:
        os.environ.pop("OMP_NUM_THREADS", None)
    else:
        os.environ["OMP_NUM_THREADS"] = asked
