"""Whether the machine is one process's own, by a scheduler's words and the kernel's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from vertebra.machine import system, tenancy
from vertebra.measurements import Measurement, display
from vertebra.measurements.views import latest

MACHINE = replace(system.describe(), logical_cores=64, physical_cores=32, core_quota=None)


def kernel(root: Path, cpuset: str = "", partition: str = "", *, version: int = 2) -> Path:
    """The kernel's files of a process in a group with such a set."""
    (root / "proc/self").mkdir(parents=True)
    line = "0::/box" if version == 2 else "4:cpuset:/box"
    (root / "proc/self/cgroup").write_text(f"{line}\n")
    folder = root / ("sys/fs/cgroup/box" if version == 2 else "sys/fs/cgroup/cpuset/box")
    folder.mkdir(parents=True)
    name = "cpuset.cpus.effective" if version == 2 else "cpuset.effective_cpus"
    (folder / name).write_text(f"{cpuset}\n")
    if partition:
        (folder / "cpuset.cpus.partition").write_text(f"{partition}\n")
    return root


@pytest.mark.parametrize(
    ("environment", "exclusive", "why"),
    [
        ({"SLURM_JOB_ID": "7", "SLURM_CPUS_ON_NODE": "64"}, True, "SLURM gave the job all 64 processors"),
        ({"SLURM_JOB_ID": "7", "SLURM_JOB_CPUS_PER_NODE": "64(x2)"}, True, "all 64"),
        ({"SLURM_JOB_ID": "7", "SLURM_CPUS_ON_NODE": "8"}, False, "SLURM gave the job 8 of 64 processors"),
        ({"SLURM_JOB_ID": "7", "SLURM_CPUS_ON_NODE": "32"}, None, "all cores, or half of 64"),
        ({"SLURM_JOB_ID": "7"}, None, "SLURM doesn't say"),
        ({"SLURM_CPUS_ON_NODE": "64"}, None, "no SLURM job, and no container's limit"),
    ],
)
def test_slurm_says_whose_the_machine_is(
    tmp_path: Path, environment: dict[str, str], exclusive: bool | None, why: str
) -> None:
    found = tenancy.look(MACHINE, environment, tmp_path)
    assert (found.exclusive, why in found.why) == (exclusive, True)


@pytest.mark.parametrize(
    ("cpuset", "partition", "version", "exclusive", "why"),
    [
        ("0-63", "", 2, None, "no container's limit"),
        ("0-3,8", "member", 2, False, "a container's set of 5 of 64 processors"),
        ("4-7", "isolated", 2, False, "a group's own 4 of 64 processors"),
        ("0-15", "", 1, False, "a container's set of 16 of 64 processors"),
        ("", "", 2, None, "no container's limit"),
    ],
)
def test_the_kernel_says_what_a_container_may_use(
    tmp_path: Path, cpuset: str, partition: str, version: int, exclusive: bool | None, why: str
) -> None:
    found = tenancy.look(MACHINE, {}, kernel(tmp_path, cpuset, partition, version=version))
    assert (found.exclusive, why in found.why) == (exclusive, True)


def test_a_quota_of_less_than_the_machine_is_a_shared_machine(tmp_path: Path) -> None:
    found = tenancy.look(replace(MACHINE, core_quota=2.5), {}, tmp_path)
    assert str(found) == "machine: shared (a container's quota of 2.5 of 64 processors)"
    assert tenancy.look(replace(MACHINE, core_quota=64.0), {}, tmp_path).exclusive is None
    assert tenancy.look(replace(MACHINE, logical_cores=None), {}, tmp_path).exclusive is None
    unknown = "machine: unknown whether others use it (no SLURM job, and no container's limit)"
    assert str(tenancy.look(MACHINE, {}, tmp_path)) == unknown


def test_a_row_says_it_and_an_older_one_without_it_is_the_same_figure() -> None:
    old = Measurement(
        model="m", metric="latency", value=0.2, origin="benched", system="box", device="cpu", engine="eager",
        precision="float32", batch_size=1, input_size=224, measured_at="2026-01-01",
    )  # fmt: skip
    new = replace(old, value=0.1, exclusive=False, measured_at="2026-01-02")
    assert latest([old, new]) == [new]
    assert display.known(new)["exclusive"] == "no"
    assert "exclusive" not in display.known(old)
