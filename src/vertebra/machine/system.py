"""The machine that measures: what affects its results, and a name for it.

No host name, user name or serial number is read. What can't be known here is None.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

#: Instruction sets that change how fast a network runs: the kernel's name of the flag -> ours.
FEATURES = {
    "avx": "avx", "fma": "fma", "f16c": "f16c", "avx2": "avx2", "avx_vnni": "avx_vnni", "avx512f": "avx512f",
    "avx512_vnni": "avx512_vnni", "avx512_bf16": "avx512_bf16", "avx512_fp16": "avx512_fp16",
    "amx_tile": "amx_tile", "amx_int8": "amx_int8", "amx_bf16": "amx_bf16", "asimd": "neon",
    "asimddp": "dotprod", "i8mm": "i8mm", "bf16": "bf16", "sve": "sve", "sve2": "sve2",
}  # fmt: skip

_ROOT = Path("/")
_NOISE = re.compile(
    r"\((?:r|tm)\)|@.*|\bwith radeon.*|\b(?:cpu|processor|\d+-core|\d+th gen|corporation)\b", re.IGNORECASE
)
_NVIDIA_SMI_TIMEOUT_S = 10.0
#: Version 1 of cgroups writes "no limit" as a number near 2**63.
_NO_LIMIT = 2**60


@dataclass(frozen=True)
class Gpu:
    """A graphics card, as its driver names it."""

    name: str
    memory_bytes: int | None
    driver: str | None


@dataclass(frozen=True, kw_only=True)
class System:
    """The properties of a machine that results depend on.

    `usable_cores` is what this process may use: `logical_cores` less affinity and the container's
    quota (`core_quota`, in cores). `memory_bytes` is the machine's, or the container's where it
    has less. `virtual` names what lies between this process and the hardware.
    """

    cpu: str | None
    architecture: str
    features: tuple[str, ...]
    physical_cores: int | None
    logical_cores: int | None
    usable_cores: int
    core_quota: float | None
    memory_bytes: int | None
    gpus: tuple[Gpu, ...]
    os: str
    kernel: str
    python: str
    virtual: str | None

    @property
    def id(self) -> str:
        """A readable name and a hash of hardware, limits, the OS's major version and the drivers' branches.

        The same in every process here: affinity, kernel build, Python and libraries are not part of it; nor
        is what an update or a boot changes without making anything faster or slower.
        """
        parts = [
            self.cpu or self.architecture,
            f"{self._cores()}-cores",
            *(gpu.name for gpu in self.gpus[:1]),
        ]
        slug = "-".join(filter(None, (_slug(part) for part in parts)))
        digest = hashlib.sha256(json.dumps(self._identity(), sort_keys=True).encode()).hexdigest()
        return f"{slug}-{digest[:8]}"

    @classmethod
    def from_dict(cls, described: Mapping[str, Any]) -> System:
        """The system that `to_dict` described, here or in an earlier version. Raises KeyError, TypeError or
        ValueError where it is something else."""
        values = {name: described[name] for name in cls.__dataclass_fields__}
        gpus = tuple(Gpu(**gpu) for gpu in values["gpus"])
        return cls(**{**values, "features": tuple(values["features"]), "gpus": gpus})

    def to_dict(self) -> dict[str, Any]:
        """The description as plain data, id first."""
        described = {
            name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()
        }
        return {"id": self.id, **described}

    def _cores(self) -> str:
        return "unknown" if self.physical_cores is None else str(self.physical_cores)

    def _identity(self) -> dict[str, Any]:
        identity = asdict(self)
        for name in ("usable_cores", "kernel", "python"):
            del identity[name]
        identity["memory_bytes"] = installed_gib(self.memory_bytes)
        identity["os"] = _major(self.os)
        for gpu in identity["gpus"]:
            gpu["memory_bytes"] = installed_gib(gpu["memory_bytes"])
            gpu["driver"] = gpu["driver"] and gpu["driver"].partition(".")[0]
        return identity


def installed_gib(reported_bytes: int | None) -> int | None:
    """The least of 1, 2, 3, 4, 6, 8, 12, 16, 24, … GiB that holds what was reported.

    The kernel, the firmware and a driver keep a part for themselves, which differs from boot to boot; modules
    have sizes at these steps or far from them.
    """
    if reported_bytes is None:
        return None
    steps = (size for power in range(40) for size in (2**power, 3 * 2 ** (power - 1)) if size >= 1)
    return next(int(size) for size in steps if size * 2**30 >= reported_bytes and size == int(size))


def _major(name: str) -> str:
    """A system's name with its major version: "Ubuntu 22.04", "Debian GNU/Linux 12", "macOS 15".

    Ubuntu's and its relatives' have the year and the month, and macOS 10 was eleven systems.
    """
    found = re.match(r"(.*?)\s*v?(\d+)(?:\.(\d+))?", re.sub(r"\(.*?\)", "", name).strip())
    if found is None:
        return name
    word, major, minor = found.groups()
    is_month = minor in ("04", "10") and int(major) >= 12
    two = is_month or (minor is not None and (word, major) == ("macOS", "10"))
    return f"{word} {major}.{minor}" if two else f"{word} {major}"


@cache
def describe() -> System:
    """The machine that this process runs on. Imports no runtime; asks `nvidia-smi` where there is one."""
    return System(
        cpu=_cpu(),
        architecture=platform.machine().lower(),
        features=_features(),
        physical_cores=_physical_cores(),
        logical_cores=os.cpu_count(),
        usable_cores=_usable_cores(),
        core_quota=_core_quota(),
        memory_bytes=_memory_bytes(),
        gpus=_gpus(),
        os=_operating_system(),
        kernel=f"{platform.system()} {platform.release()}",
        python=f"{platform.python_implementation()} {platform.python_version()}",
        virtual=_virtual(),
    )


def default_threads() -> int:
    """Physical cores that this process may use: within its affinity and its container's quota."""
    cores = _own_physical_cores() or _physical_cores() or os.cpu_count() or 1
    return max(1, min(cores, _usable_cores()))


def library_versions(names: Iterable[str]) -> dict[str, str]:
    """Versions of the installed ones among the distributions `names`; imports none of them."""
    import importlib.metadata

    versions = {}
    for name in names:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # what is absent has no version
    return versions


def _slug(text: str) -> str:
    plain = _NOISE.sub(" ", text).lower()
    return re.sub(r"[^a-z0-9]+", "-", plain)[:40].strip("-")


# ------------------------------------------------------------------ processor


def _text(path: Path) -> str | None:
    """The text of one of the kernel's files, or None where it doesn't exist or may not be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\x00\n ")
    except OSError:
        return None


def _output(*command: str, timeout_s: float = 5.0) -> str | None:
    """What a program prints, or None where it is missing, fails or hangs."""
    program = shutil.which(command[0])
    if program is None:
        return None
    try:
        done = subprocess.run(
            [program, *command[1:]],
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            errors="replace",
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _cpuinfo(root: Path, *keys: str) -> str | None:
    """The first value under one of `keys`, in their order, in /proc/cpuinfo."""
    text = _text(root / "proc/cpuinfo") or ""
    pairs = [line.partition(":")[::2] for line in text.splitlines()]
    for key in keys:
        for name, value in pairs:
            if name.strip() == key and value.strip():
                return value.strip()
    return None


def _cpu(root: Path = _ROOT) -> str | None:
    """The processor's own name, or the board's where the processor has none (ARM)."""
    if sys.platform == "darwin":
        return _output("sysctl", "-n", "machdep.cpu.brand_string")
    if sys.platform == "win32":
        return _windows_cpu()
    model = _cpuinfo(root, "model name", "cpu model", "Model")
    return model or _text(root / "proc/device-tree/model") or platform.processor() or None


def _windows_cpu() -> str | None:
    if sys.platform != "win32":
        return None
    import winreg

    key = r"HARDWARE\DESCRIPTION\System\CentralProcessor\0"
    try:
        with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, key) as processor:
            return str(winreg.QueryValueEx(processor, "ProcessorNameString")[0]).strip()
    except OSError:
        return platform.processor() or None


def _features(root: Path = _ROOT) -> tuple[str, ...]:
    flags = (_cpuinfo(root, "flags", "Features") or "").split()
    return tuple(name for flag, name in FEATURES.items() if flag in flags)


def _physical_cores(root: Path = _ROOT) -> int | None:
    """Distinct cores by the kernel's lists of those that share one, as psutil counts them; it takes a moment
    to import."""
    topology = root / "sys/devices/system/cpu"
    for name in ("core_cpus_list", "thread_siblings_list"):
        siblings = {_text(path) for path in topology.glob(f"cpu[0-9]*/topology/{name}")}
        if siblings and None not in siblings:
            return len(siblings)
    import psutil

    cores: int | None = psutil.cpu_count(logical=False)
    return cores


def _affinity() -> set[int] | None:
    """The processors that this process may run on, or None where the system doesn't report it."""
    if sys.platform == "linux":
        return os.sched_getaffinity(0)
    return None


def _usable_cores(root: Path = _ROOT) -> int:
    allowed = _affinity()
    cores = float(len(allowed) if allowed else os.cpu_count() or 1)
    quota = _core_quota(root)
    return max(1, int(cores if quota is None else min(cores, quota)))


def _own_physical_cores(root: Path = _ROOT) -> int | None:
    """Distinct cores among the processors of this process's affinity; None where Linux doesn't report it."""
    allowed = _affinity()
    if not allowed:
        return None
    topology = root / "sys/devices/system/cpu"
    siblings = {_text(topology / f"cpu{number}/topology/thread_siblings_list") for number in allowed}
    return None if None in siblings else len(siblings)


# ------------------------------------------------------------------ containers


def cgroups(root: Path, controller: str) -> Iterator[Path]:
    """The folders that limit this process, own first: of cgroups version 2, and of `controller` in version 1.

    Inside a container the path may be the host's and not exist; the root then holds the limit.
    """
    for line in (_text(root / "proc/self/cgroup") or "").splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers and controller not in controllers.split(","):
            continue
        mount = root / "sys/fs/cgroup" / (controllers and controller)
        own = Path(path.strip("/"))
        yield from (mount / folder for folder in (own, *own.parents))


def _core_quota(root: Path = _ROOT) -> float | None:
    """The least quota, in cores, that a cgroup sets for this process; None where there is none."""
    quotas = [_quota(folder) for folder in cgroups(root, "cpu")]
    return min((quota for quota in quotas if quota is not None), default=None)


def _quota(folder: Path) -> float | None:
    whole = _text(folder / "cpu.max")
    parts = (
        whole.split()
        if whole
        else [_text(folder / f"cpu.cfs_{part}_us") or "" for part in ("quota", "period")]
    )
    if len(parts) != 2 or not all(part.isdecimal() for part in parts) or int(parts[1]) == 0:
        return None  # "max" in version 2 and -1 in version 1 mean "no limit"
    return int(parts[0]) / int(parts[1])


def _memory_bytes(root: Path = _ROOT) -> int | None:
    physical = _physical_bytes(root)
    files = (
        folder / name
        for folder in cgroups(root, "memory")
        for name in ("memory.max", "memory.limit_in_bytes")
    )
    texts = [_text(file) for file in files]
    limits = [int(text) for text in texts if text and text.isdecimal() and 0 < int(text) < _NO_LIMIT]
    return min([physical, *limits])


def _physical_bytes(root: Path) -> int:
    """The machine's memory, from the kernel's own file where there is one, as psutil has it."""
    found = re.search(r"^MemTotal:\s*(\d+) kB$", _text(root / "proc/meminfo") or "", re.MULTILINE)
    if found is not None:
        return int(found[1]) * 1024
    import psutil

    return int(psutil.virtual_memory().total)


def _virtual(root: Path = _ROOT) -> str | None:
    """What is known to lie between this process and the hardware."""
    signs = {
        "wsl": "microsoft" in platform.release().lower(),
        "virtual machine": "hypervisor" in (_cpuinfo(root, "flags") or "").split(),
        "container": (root / ".dockerenv").exists() or (root / "run/.containerenv").exists(),
    }
    return ", ".join(sign for sign, seen in signs.items() if seen) or None


# ------------------------------------------------------------------ graphics cards, operating system


def _gpus() -> tuple[Gpu, ...]:
    """NVIDIA's cards by `nvidia-smi`; no runtime is imported for it."""
    return tuple(_gpu(*cells) for cells in query_nvidia("gpu", ("name", "memory.total", "driver_version")))


#: Asks the driver itself, which goes by CUDA_VISIBLE_DEVICES.
_COUNT_CARDS = """
import ctypes, os
cuda, count = ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1"), ctypes.c_int()
print(0 if cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(count)) else count.value)
"""


def cuda_cards() -> int:
    """How many cards CUDA may use here; 0 without a driver. Asked in a process of its own, so that this one
    holds none of a card's memory."""
    return int(_output(sys.executable, "-c", _COUNT_CARDS, timeout_s=_NVIDIA_SMI_TIMEOUT_S) or 0)


def query_nvidia(what: str, columns: Sequence[str]) -> list[list[str]]:
    """A line of cells for each of `what` (gpu, compute-apps), as `nvidia-smi` prints it in its own units
    without their names; no line where there is no such program, or it fails."""
    query = f"--query-{what}={','.join(columns)}"
    text = _output("nvidia-smi", query, "--format=csv,noheader,nounits", timeout_s=_NVIDIA_SMI_TIMEOUT_S)
    lines = csv.reader((text or "").splitlines(), skipinitialspace=True)
    return [[cell.strip() for cell in cells] for cells in lines if len(cells) == len(columns)]


def _gpu(name: str, memory_mib: str, driver: str) -> Gpu:
    memory = int(memory_mib) * 2**20 if memory_mib.isdecimal() else None
    return Gpu(name, memory, driver or None)


def _operating_system() -> str:
    """Name and release, such as "Debian GNU/Linux 12 (bookworm)", "macOS 15.1" or "Windows 11"."""
    if sys.platform == "darwin":
        return f"macOS {platform.mac_ver()[0]}"
    if sys.platform == "win32":
        return f"Windows {platform.release()}"
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        return platform.system()
    return release.get("PRETTY_NAME", platform.system())
