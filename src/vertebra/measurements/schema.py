"""The JSON Schema of a submission, made from the lists and shapes that write one."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from vertebra import metrics
from vertebra.measurements import public, shipped
from vertebra.measurements.record import KINDS, REQUIRED
from vertebra.measurements.shipped.licences import licences
from vertebra.measurements.submission import ABOUT, FORMAT, VERSION

_DRAFT = "https://json-schema.org/draft/2020-12/schema"
_HEX = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
#: Columns of whole numbers that may be 0.
_FROM_ZERO = ("beside",)


def schema() -> dict[str, Any]:
    """The schema of a submission (JSON Schema 2020-12). It holds the form; whether digest and ids are those
    of the content, `vertebra cite --check` alone can tell."""
    runs = {"type": "array", "items": _run()}
    content = _object({"runs": runs, "systems": _systems(), "metrics": _metrics()})
    return {
        "$schema": _DRAFT,
        "title": FORMAT,
        "description": ABOUT,
        **_object(
            {
                "format": {"const": FORMAT},
                "version": {"type": "integer", "minimum": 1, "maximum": VERSION},
                "about": {"type": "string"},
                "digest": _HEX,
                "content": content,
            }
        ),
    }


def _object(properties: dict[str, Any], optional: tuple[str, ...] = ()) -> dict[str, Any]:
    """An object with these keys and no others."""
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _run() -> dict[str, Any]:
    numbers = {"type": "array", "items": {"type": "number"}}
    return _object(
        {
            "id": _HEX,
            "of": {**_HEX, "description": "the run that it was made of; earlier versions wrote it"},
            "system": {"type": ["string", "null"]},
            "records": {"type": "array", "minItems": 1, "items": _record()},
            "samples": {"type": "object", "propertyNames": {"enum": sorted(public.SERIES)},
                        "additionalProperties": numbers},
        },
        ("of",),
    )  # fmt: skip


def _record() -> dict[str, Any]:
    columns = {name: _column(name) for name in KINDS if name not in public.NEVER}
    return _object(columns, tuple(name for name in columns if name not in REQUIRED))


def _column(name: str) -> dict[str, Any]:
    known: dict[str, dict[str, Any]] = {
        "model": {"enum": sorted(shipped.counts())},
        "weights": {"enum": ["untrained", *sorted(licences())]},
        "metric": {"enum": sorted(metrics.METRICS)},
        "system": {"type": "string", "pattern": "^[a-z0-9-]+$"},
        "grade_reasons": {"type": "array", "items": _pattern(public.REASON)},
        "versions": {
            "type": "object",
            "properties": {"graph": _pattern(public.GRAPH)},
            "propertyNames": {"enum": ["graph", *public.LIBRARIES]},
            "additionalProperties": _pattern(public.VERSION),
        },
    }
    if name in known:
        return known[name]
    if name in public.WORDS:
        return {"enum": list(public.WORDS[name])}
    if name in public.SHAPES:
        return _pattern(public.SHAPES[name])
    kind = KINDS[name]
    if kind == "integer":
        return {"type": "integer", "minimum": 0 if name in _FROM_ZERO else 1}
    return {"type": kind}


def _pattern(shape: str) -> dict[str, Any]:
    return {"type": "string", "pattern": f"^(?:{shape})$"}


def _systems() -> dict[str, Any]:
    from vertebra.machine.system import FEATURES, Gpu, System

    text, count = {"type": ["string", "null"]}, {"type": ["integer", "null"], "minimum": 0}
    gpu = {one.name: count if one.name == "memory_bytes" else text for one in fields(Gpu)}
    special: dict[str, dict[str, Any]] = {
        "features": {"type": "array", "items": {"enum": sorted(set(FEATURES.values()))}},
        "gpus": {"type": "array", "items": _object(gpu)},
        "core_quota": {"type": ["number", "null"]},
    }
    counts = ("physical_cores", "logical_cores", "usable_cores", "memory_bytes")
    described = {
        one.name: special.get(one.name, count if one.name in counts else text) for one in fields(System)
    }
    return {"type": "object", "additionalProperties": _object({"id": {"type": "string"}, **described})}


def _metrics() -> dict[str, Any]:
    told = _object({"unit": {"type": "string"}, "meaning": {"type": "string"}})
    return {
        "type": "object", "propertyNames": {"enum": sorted(metrics.METRICS)}, "additionalProperties": told
    }  # fmt: skip
