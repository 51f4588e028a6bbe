"""The fingerprint of a machine: real here, and read from made-up file trees of other machines."""

from __future__ import annotations

import dataclasses
import getpass
import importlib.metadata
import json
import os
import platform
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from vertebra.machine import system
from vertebra.machine.system import Gpu, System

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's own files")

EXAMPLE = System(
    cpu="AMD EPYC 9B14 96-Core Processor",
    architecture="x86_64",
    features=("avx2", "avx512f"),
    physical_cores=96,
    logical_cores=192,
    usable_cores=192,
    core_quota=None,
    memory_bytes=400 * 2**30,
    gpus=(Gpu("NVIDIA H200", 140 * 2**30, "570.1"),),
    os="Debian GNU/Linux 12 (bookworm)",
    kernel="Linux 6.1",
    python="CPython 3.11.7",
    virtual=None,
)


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_this_machine_is_described() -> None:
    here = system.describe()
    assert here.architecture == platform.machine().lower()
    assert here.logical_cores == os.cpu_count()
    assert 1 <= here.usable_cores <= (here.logical_cores or 1)
    assert here.memory_bytes is not None
    assert here.memory_bytes > 2**27
    assert platform.python_version() in here.python
    assert 1 <= system.default_threads() <= here.usable_cores


def test_the_description_is_plain_data() -> None:
    described = EXAMPLE.to_dict()
    assert described["id"] == EXAMPLE.id
    assert json.loads(json.dumps(described)) == described
    assert described["gpus"] == [{"name": "NVIDIA H200", "memory_bytes": 140 * 2**30, "driver": "570.1"}]


def test_an_id_is_readable_and_ends_in_a_hash() -> None:
    assert re.fullmatch(r"amd-epyc-9b14-96-cores-nvidia-h200-[0-9a-f]{8}", EXAMPLE.id)
    unknown = dataclasses.replace(EXAMPLE, cpu=None, physical_cores=None, gpus=())
    assert re.fullmatch(r"x86-64-unknown-cores-[0-9a-f]{8}", unknown.id)


@pytest.mark.parametrize(
    "other",
    [
        {"cpu": "AMD EPYC 9B15"},
        {"features": ("avx2",)},
        {"logical_cores": 96},
        {"core_quota": 4.0},
        {"memory_bytes": 200 * 2**30},
        {"gpus": (Gpu("NVIDIA H200", 140 * 2**30, "580.2"),)},
        {"os": "Debian 13"},
    ],
)
def test_other_hardware_limits_drivers_or_releases_are_another_system(other: dict[str, object]) -> None:
    assert dataclasses.replace(EXAMPLE, **other).id != EXAMPLE.id  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "other",
    [
        {"python": "CPython 3.12.1"},
        {"kernel": "Linux 6.2"},
        {"usable_cores": 1},
        {"memory_bytes": 400 * 2**30 - 5_000_000},
        {"os": "Debian GNU/Linux 12.9 (bookworm)"},
        {"gpus": (Gpu("NVIDIA H200", 143_700 * 2**20, "570.124.06"),)},
    ],
)
def test_what_changes_between_processes_or_boots_is_the_same_system(other: dict[str, object]) -> None:
    assert dataclasses.replace(EXAMPLE, **other).id == EXAMPLE.id  # type: ignore[arg-type]


GIB = 2**30


@pytest.mark.parametrize(
    ("reported", "installed"),
    [
        ((16_252_000 * 1024, 16_253_500 * 1024, int(15.4 * GIB), 16 * GIB), 16),
        ((int(7.6 * GIB), int(7.8 * GIB), 6 * GIB + 1), 8),
        ((int(62.7 * GIB), int(62.2 * GIB), 49 * GIB), 64),
        ((int(23.4 * GIB), 17 * GIB), 24),
        ((int(2.9 * GIB), 3 * GIB), 3),
        ((1, GIB), 1),
        ((int(755.4 * GIB), 768 * GIB), 768),
        ((int(1007.5 * GIB),), 1024),
    ],
)
def test_what_is_reported_of_the_memory_gives_what_is_installed(
    reported: tuple[int, ...], installed: int
) -> None:
    assert {system.installed_gib(number) for number in reported} == {installed}


@pytest.mark.parametrize(
    ("releases", "others"),
    [
        (("Ubuntu 22.04.4 LTS", "Ubuntu 22.04.5 LTS"), ("Ubuntu 22.10", "Ubuntu 24.04.1 LTS")),
        (("Debian GNU/Linux 12 (bookworm)", "Debian GNU/Linux 12.9 (bookworm)"), ("Debian GNU/Linux 13",)),
        (("macOS 15.1", "macOS 15.6.1"), ("macOS 14.7", "macOS 10.15.7")),
        (("macOS 10.15.6", "macOS 10.15.7"), ("macOS 10.14.6",)),
        (("Rocky Linux 9.4 (Blue Onyx)", "Rocky Linux 9.6 (Blue Onyx)"), ("Rocky Linux 8.10",)),
        (("Rocky Linux 8.9", "Rocky Linux 8.10"), ("AlmaLinux 8.9",)),
        (("Windows 11",), ("Windows 10",)),
        (("Arch Linux",), ("Linux",)),
    ],
)
def test_a_point_release_is_the_same_system_and_a_release_is_not(
    releases: tuple[str, ...], others: tuple[str, ...]
) -> None:
    ids = [{dataclasses.replace(EXAMPLE, os=name).id for name in names} for names in (releases, others)]
    assert len(ids[0]) == 1
    assert not ids[0] & ids[1]


def test_a_description_gives_the_system_back() -> None:
    assert System.from_dict(json.loads(json.dumps(EXAMPLE.to_dict()))) == EXAMPLE
    with pytest.raises(KeyError):
        System.from_dict({"id": "mine"})


def test_another_process_here_gives_the_same_id_whatever_its_affinity() -> None:
    source = str(Path(system.__file__).parents[2])
    narrow = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); "
        if sys.platform == "linux"
        else ""
    )
    code = f"{narrow}from vertebra.machine import system\n"
    code += "print(system.describe().id, system.default_threads())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": source},
    )
    name, threads = done.stdout.split()
    assert name == system.describe().id
    if sys.platform == "linux":
        assert threads == "1"


def test_nobody_is_named() -> None:
    told = json.dumps(system.describe().to_dict()).lower()
    for private in (platform.node(), getpass.getuser(), str(Path.home())):
        assert len(private) < 4 or not re.search(rf"\b{re.escape(private.lower())}\b", told)


def test_versions_are_those_of_the_installed_ones() -> None:
    assert system.library_versions(["pytest", "no-such-distribution"]) == {
        "pytest": importlib.metadata.version("pytest")
    }


# ------------------------------------------------------------------ other machines


@linux
@pytest.mark.parametrize(
    ("cpuinfo", "cpu", "features"),
    [
        (
            "processor\t: 0\nmodel name\t: Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz\n"
            "flags\t\t: fpu avx avx2 avx512f avx512_vnni avx512_bf16 amx_tile amx_bf16 hypervisor\n",
            "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz",
            ("avx", "avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_bf16"),
        ),
        (
            "processor\t: 0\nFeatures\t: fp asimd asimddp\nCPU part\t: 0xd08\n\n"
            "Model\t\t: Raspberry Pi 4 Model B\n",
            "Raspberry Pi 4 Model B",
            ("neon", "dotprod"),
        ),
    ],
    ids=["xeon", "raspberry pi"],
)
def test_processor_and_features_are_read(
    tmp_path: Path, cpuinfo: str, cpu: str, features: tuple[str, ...]
) -> None:
    root = tree(tmp_path, {"proc/cpuinfo": cpuinfo})
    assert system._cpu(root) == cpu
    assert system._features(root) == features
    expected = "virtual machine" if "hypervisor" in cpuinfo else None
    assert (system._virtual(root) or "").replace("wsl, ", "") == (expected or "")


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({}, None),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "150000 100000\n"}, 1.5),
        (
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/b/cpu.max": "max 100000\n",
                "sys/fs/cgroup/a/cpu.max": "200000 100000\n",
            },
            2.0,
        ),
        ({"proc/self/cgroup": "0::/not/seen/inside\n", "sys/fs/cgroup/cpu.max": "50000 100000\n"}, 0.5),
        (
            {
                "proc/self/cgroup": "4:cpu,cpuacct:/docker/1f\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "300000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            3.0,
        ),
        (
            {
                "proc/self/cgroup": "4:cpu,cpuacct:/\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            None,
        ),
        ({"proc/self/cgroup": "nonsense\n", "sys/fs/cgroup/cpu.max": "\n"}, None),
    ],
    ids=["none", "v2", "v2 parent", "v2 inside a container", "v1", "v1 unlimited", "nonsense"],
)
def test_a_quota_of_cores_is_read(
    tmp_path: Path, files: dict[str, str], quota: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tree(tmp_path, files)
    assert system._core_quota(root) == quota
    monkeypatch.setattr(system, "_affinity", lambda: {0, 1, 2, 3})
    assert system._usable_cores(root) == (4 if quota is None else max(1, int(quota)))


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "67108864\n"}, 67108864),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max\n"}, None),
        (
            {"proc/self/cgroup": "9:memory:/\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "67108864\n"},
            67108864,
        ),
        (
            {
                "proc/self/cgroup": "9:memory:/\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            },
            None,
        ),
    ],
    ids=["v2", "v2 unlimited", "v1", "v1 unlimited"],
)
def test_a_containers_memory_is_read(tmp_path: Path, files: dict[str, str], limit: int | None) -> None:
    import psutil

    expected = limit if limit is not None else psutil.virtual_memory().total
    assert system._memory_bytes(tree(tmp_path, files)) == expected


def test_two_threads_of_one_core_are_one_physical_core(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    siblings = {0: "0,2", 1: "1,3", 2: "0,2", 3: "1,3"}
    root = tree(
        tmp_path,
        {
            f"sys/devices/system/cpu/cpu{number}/topology/thread_siblings_list": f"{text}\n"
            for number, text in siblings.items()
        },
    )
    for allowed, cores in (({0, 1, 2, 3}, 2), ({0, 2}, 1), ({0, 1}, 2), ({0, 9}, None)):
        monkeypatch.setattr(system, "_affinity", lambda allowed=allowed: allowed)
        assert system._own_physical_cores(root) == cores
    assert system._physical_cores(root) == 2


def _program(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@linux
def test_graphics_cards_are_told_by_the_drivers_own_tool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    _program(
        tmp_path, "nvidia-smi", "echo 'NVIDIA H200, 143771, 570.124.06'; echo 'NVIDIA T4, [N/A], 570.124.06'"
    )
    assert system._gpus() == (
        Gpu("NVIDIA H200", 143771 * 2**20, "570.124.06"),
        Gpu("NVIDIA T4", None, "570.124.06"),
    )


@linux
@pytest.mark.parametrize("script", ["exit 9", "echo 'NVIDIA-SMI has failed'", "sleep 30"])
def test_a_tool_that_fails_or_hangs_leaves_no_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(system, "_NVIDIA_SMI_TIMEOUT_S", 0.2)
    _program(tmp_path, "nvidia-smi", script)
    assert system._gpus() == ()


def test_the_fingerprint_imports_no_runtime() -> None:
    source = str(Path(system.__file__).parents[2])
    code = (
        "import sys; from vertebra.machine import system; system.describe(); "
        "print({'torch', 'numpy', 'psutil'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": source},
    )
    assert done.stdout.strip() == ("set()" if sys.platform == "linux" else "{'psutil'}")


def test_cores_and_memory_are_counted_as_psutil_counts_them() -> None:
    import psutil

    assert system._physical_cores() == psutil.cpu_count(logical=False)
    assert system._physical_bytes(Path("/")) == psutil.virtual_memory().total
