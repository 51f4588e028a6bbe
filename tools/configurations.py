"""Rewrite the configurations of timm's and torchvision's networks that ship: `python
tools/configurations.py`.

They are read from the installed libraries, as their adapters read them, and packed for a machine that has
none.
"""

from __future__ import annotations

import json
import lzma
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from vertebra.errors import VertebraError
from vertebra.zoo import adapters
from vertebra.zoo.adapters import configurations


def main() -> int:
    records = [record for source in adapters.LIBRARIES for record in _records(source)]
    libraries = {source: version(source) for source in adapters.LIBRARIES}
    text = json.dumps({"libraries": libraries, "records": records}, separators=(",", ":"))
    path = Path(configurations.__file__).with_name(configurations.FILE)
    path.write_bytes(lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME))
    print(f"{path}: {len(records)} configurations, {path.stat().st_size:,} bytes")
    return 0


def _records(source: str) -> list[dict[str, Any]]:
    """One record for each network without a tag, and one for each set of its published weights."""
    import timm
    from torchvision import models

    made = []
    for architecture in adapters.known(source):
        if source == "timm":
            tags = [name.partition(".")[2] for name in timm.list_pretrained(f"{architecture}.*")]
        else:
            published: Any = models.get_model_weights(architecture)
            tags = [one.name for one in published]
        for tag in ("", *filter(None, tags)):
            try:
                made.append(_record(source, f"{source}:{architecture}" + (f".{tag}" if tag else "")))
            except VertebraError as error:
                print(f"left out: {error.message}", file=sys.stderr)
    return made


def _record(source: str, name: str) -> dict[str, Any]:
    adapter: Any = adapters.load(source)
    model = adapter.find(name)
    record: dict[str, Any] = {
        "name": model.name, "size": model.input_size, "least": model.min_size, "fixed": model.fixed_size,
        "family": model.family, "url": model.url, "arxiv": model.arxiv_id, "title": model.title,
    }  # fmt: skip
    record["plain"] = _preprocess(adapter.facts(model, None, {}))
    try:
        address, digits = adapter.published(model)
        facts = adapter.facts(model, "pretrained", {})
    except VertebraError:
        return record
    record |= {
        "weights": facts.weights, "classes": facts.num_classes, "licence": facts.licence,
        "address": address, "digits": digits, "top1": facts.top1, "top5": facts.top5,
        "record": _preprocess(facts),
    }  # fmt: skip
    return record


def _preprocess(facts: Any) -> dict[str, Any]:
    return json.loads(facts.preprocess.to_json())


if __name__ == "__main__":
    raise SystemExit(main())
