"""Measure image-classification networks on this machine, and choose the best one within limits.

Every verb of the command is a function here with the same name, except `evaluate` for `eval`:
`vertebra.survey()`, `vertebra.pick(latency="10ms")`. Heavy modules are imported when they are first used.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # as type checkers know it, without the import of typing

# No telemetry. ONNX Runtime (from 1.29 on) and OpenVINO identify this machine and send events to their makers
# as soon as they are imported. The variable turns that of ONNX Runtime off, in child processes too. OpenVINO
# and NNCF send nothing if the module openvino_telemetry isn't installed; None makes its import fail.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from vertebra._version import __version__ as __version__
    from vertebra.measurements import Measurement, Table
    from vertebra.progress import Progress
    from vertebra.verbs.bench import bench
    from vertebra.verbs.chart import chart
    from vertebra.verbs.check import check
    from vertebra.verbs.cite import cite
    from vertebra.verbs.compare import compare
    from vertebra.verbs.doctor import doctor
    from vertebra.verbs.evaluate import disagreement, evaluate, probe
    from vertebra.verbs.export import export
    from vertebra.verbs.fastest import fastest
    from vertebra.verbs.fit import fit
    from vertebra.verbs.list import list as list
    from vertebra.verbs.merge import merge
    from vertebra.verbs.pick import pick
    from vertebra.verbs.predict import predict
    from vertebra.verbs.profile import profile
    from vertebra.verbs.report import report
    from vertebra.verbs.serve import asgi, serve
    from vertebra.verbs.show import show
    from vertebra.verbs.submit import submit
    from vertebra.verbs.survey import survey
    from vertebra.verbs.table import table
    from vertebra.verbs.train import train
    from vertebra.verbs.write_job import write_job
    from vertebra.zoo import build

#: public name -> its module, which is imported at the first use
_PUBLIC = {
    "__version__": "vertebra._version",
    "Measurement": "vertebra.measurements",
    "Progress": "vertebra.progress",
    "Table": "vertebra.measurements",
    "asgi": "vertebra.verbs.serve",
    "bench": "vertebra.verbs.bench",
    "build": "vertebra.zoo",
    "chart": "vertebra.verbs.chart",
    "check": "vertebra.verbs.check",
    "cite": "vertebra.verbs.cite",
    "compare": "vertebra.verbs.compare",
    "disagreement": "vertebra.verbs.evaluate",
    "doctor": "vertebra.verbs.doctor",
    "evaluate": "vertebra.verbs.evaluate",
    "export": "vertebra.verbs.export",
    "fastest": "vertebra.verbs.fastest",
    "fit": "vertebra.verbs.fit",
    "list": "vertebra.verbs.list",
    "merge": "vertebra.verbs.merge",
    "pick": "vertebra.verbs.pick",
    "predict": "vertebra.verbs.predict",
    "probe": "vertebra.verbs.evaluate",
    "profile": "vertebra.verbs.profile",
    "report": "vertebra.verbs.report",
    "serve": "vertebra.verbs.serve",
    "show": "vertebra.verbs.show",
    "submit": "vertebra.verbs.submit",
    "survey": "vertebra.verbs.survey",
    "table": "vertebra.verbs.table",
    "train": "vertebra.verbs.train",
    "write_job": "vertebra.verbs.write_job",
}

# Without `list`: `from vertebra import *` would hide the builtin. `vertebra.list` works like the others.
__all__ = [
    "Measurement", "Progress", "Table", "asgi", "bench", "build", "chart", "check", "cite", "compare",
    "disagreement", "doctor", "evaluate", "export", "fastest", "fit", "merge", "pick", "predict", "probe",
    "profile", "report", "serve", "show", "submit", "survey", "table", "train",
    "write_job",
]  # fmt: skip


#: Modules by the names that earlier versions had for them -> where they are now.
_MOVED = {
    "vertebra.charts": "vertebra.reading.charts",
    "vertebra.labels": "vertebra.data.labels",
    "vertebra.preprocess": "vertebra.data.preprocess",
    "vertebra.reports": "vertebra.reading.reports",
    "vertebra.rows": "vertebra.measurements.shipped",
}
#: Packages that can be used without an import of their own: `vertebra.data.open(path)`.
_PACKAGES = ("charts", "data", "labels", "measurements", "preprocess", "reports", "rows")


class _Moved:
    """Imports a module by its earlier name: the module itself, not a second copy of it."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> Any:
        if not name.startswith("vertebra."):
            return None
        old = ".".join(name.split(".")[:2])
        if old not in _MOVED:
            return None
        # From now on first, or the files of a moved package would be found again under its earlier name.
        sys.meta_path.remove(_Moved)
        sys.meta_path.insert(0, _Moved)
        from importlib.machinery import ModuleSpec

        return ModuleSpec(name, _Moved, origin=_MOVED[old] + name[len(old) :])  # type: ignore[arg-type]

    @staticmethod
    def create_module(spec: object) -> None:
        """An empty module, whose place the moved one takes."""

    @staticmethod
    def exec_module(module: Any) -> None:
        from importlib import import_module

        name, moved = module.__name__, module.__spec__.origin
        sys.modules[name] = import_module(moved)
        # Its modules too, or `decode`, imported by its earlier name, would replace the function `decode`.
        inside = [known for known in sys.modules if known.startswith(moved + ".")]
        sys.modules.update({name + known[len(moved) :]: sys.modules[known] for known in inside})


# Last: every import asks those before it only, until an earlier name is used.
sys.meta_path.append(_Moved)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC and name not in _PACKAGES:
        raise AttributeError(f"module 'vertebra' has no attribute {name!r}")
    from importlib import import_module

    if name in _PACKAGES:
        return import_module(f"vertebra.{name}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> Sequence[str]:
    return sorted([*globals(), *_PUBLIC])
