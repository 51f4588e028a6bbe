"""Whether this machine is one process's own, or others may use it: what a scheduler and the kernel say of it.

Only what is stated counts. A machine that nobody divided may still be shared by people, so that is unknown.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from vertebra.machine import system
from vertebra.machine.system import System

_ROOT = Path("/")
#: What the kernel calls a set of processors that only its own group may use.
_OWN = ("root", "isolated")


@dataclass(frozen=True)
class Tenancy:
    """Whether nothing else may use the machine (None: unknown), and how that is known, in words."""

    exclusive: bool | None
    why: str

    def __str__(self) -> str:
        what = {True: "exclusive", False: "shared", None: "unknown whether others use it"}[self.exclusive]
        return f"machine: {what} ({self.why})"


@cache
def here() -> Tenancy:
    """The tenancy of the machine that this process runs on."""
    return look(system.describe(), os.environ)


def look(machine: System, environment: Mapping[str, str], root: Path = _ROOT) -> Tenancy:
    """The tenancy of a machine by a scheduler's `environment` and the kernel's files below `root`."""
    all_ = machine.logical_cores
    if all_ is None:
        return Tenancy(None, "the number of processors is unknown")
    if "SLURM_JOB_ID" in environment:
        return _of_slurm(environment, all_, machine.physical_cores)
    quota, own = machine.core_quota, _cpuset(root)
    if quota is not None and quota < all_:
        return Tenancy(False, f"a container's quota of {quota:g} of {all_} processors")
    if own is not None and len(own[0]) < all_:
        kind = "a group's own" if own[1] in _OWN else "a container's set of"
        return Tenancy(False, f"{kind} {len(own[0])} of {all_} processors")
    return Tenancy(None, "no SLURM job, and no container's limit")


def _of_slurm(environment: Mapping[str, str], all_: int, physical: int | None) -> Tenancy:
    """What SLURM gave the job of this node. Where it counts cores, a node's cores are all that it has."""
    text = environment.get("SLURM_CPUS_ON_NODE") or environment.get("SLURM_JOB_CPUS_PER_NODE", "")
    found = re.match(r"\d+", text)
    if found is None:
        return Tenancy(None, "SLURM doesn't say how many processors the job has")
    given = int(found[0])
    if given >= all_:
        return Tenancy(True, f"SLURM gave the job all {all_} processors")
    if given == physical:
        return Tenancy(None, f"SLURM gave the job {given}: all cores, or half of {all_} processors")
    return Tenancy(False, f"SLURM gave the job {given} of {all_} processors")


def _cpuset(root: Path) -> tuple[set[int], str] | None:
    """The processors that this process's group may use, and the kind of the set; None without one."""
    for folder in system.cgroups(root, "cpuset"):
        for name in ("cpuset.cpus.effective", "cpuset.effective_cpus"):
            if text := _text(folder / name):
                return numbers(text), _text(folder / "cpuset.cpus.partition")
    return None


def _text(path: Path) -> str:
    """The text of one of the kernel's files; empty where there is none."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def numbers(text: str) -> set[int]:
    """The numbers in the kernel's lists of processors.

    >>> sorted(numbers("0-2,7"))
    [0, 1, 2, 7]
    """
    found = re.findall(r"(\d+)(?:-(\d+))?", text)
    return {number for first, last in found for number in range(int(first), int(last or first) + 1)}
