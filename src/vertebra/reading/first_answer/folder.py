"""The page's files: index.html with all that is known of every network, and a script for each runtime."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from vertebra._version import __version__
from vertebra.measurements import Measurement, shipped
from vertebra.reading.choice import field
from vertebra.reading.first_answer.prior import prior
from vertebra.reading.first_answer.timed import Timed
from vertebra.reading.reports import explorer, page
from vertebra.reading.reports.markup import Html, joined, section, tag
from vertebra.zoo.graphs import store

TITLE = "Which network suits this device"
#: What the folder's list of its own contents is called.
MANIFEST = "first-answer.json"
#: The machine and the engine in the page's rows, until the page knows its browser.
SYSTEM, ENGINE = "this device", "onnxruntime-web"
#: The limits that the page can hold networks to: those of figures that it has.
LIMITS = ("latency", "fps", "size", "params", "macs", "operations", "top1", "top5")
#: The columns that follow from what the browser measures.
_MEASURED = ("latency", "fps")
#: The page's own script, and its worker's.
_PAGE = ("estimator.js", "statistics.js", "link.js", "first.js")


@dataclass(frozen=True)
class Runtime:
    """ONNX Runtime Web for a `backend` (wasm or webgpu): its library and its compiled WebAssembly."""

    backend: str
    version: str
    library: bytes
    binary: bytes

    def script(self) -> bytes:
        """A script that any page can load, from a file too: browsers fetch nothing from files."""
        parts = {"library": _packed(self.library), "binary": _packed(self.binary)}
        return (
            "// ONNX Runtime Web: Copyright (c) Microsoft Corporation, MIT licence.\n"
            f"(globalThis.VERTEBRA_RUNTIME ??= {{}}).{self.backend} = {json.dumps(parts)};\n"
        ).encode()


def files(
    runtimes: Sequence[Runtime], networks: Sequence[Timed], start: Mapping[str, str] | None = None
) -> dict[str, bytes]:
    """The page's files by name: it runs `networks`, and its explorer opens under the limits `start`."""
    scripts = {f"runtime-{one.backend}.js": one.script() for one in runtimes}
    sizes = {one.backend: f"{len(scripts[f'runtime-{one.backend}.js']) / 1e6:.1f}" for one in runtimes}
    index = _index(_data(runtimes[0].version, sizes, networks, dict(start or {})))
    manifest = {
        "made_by": f"vertebra {__version__}",
        "runtime": f"onnxruntime-web {runtimes[0].version}",
        "networks": [one.name for one in networks],
    }
    notices = "\n\n".join(store.notices(store.find(one.name, one.input_size)) for one in networks)
    return {
        "index.html": index.encode(),
        **scripts,
        "THIRD_PARTY_NOTICES.txt": notices.encode(),
        MANIFEST: (json.dumps(manifest, indent=2) + "\n").encode(),
    }


def _packed(content: bytes) -> str:
    return base64.b64encode(gzip.compress(content, 9, mtime=0)).decode()


# ------------------------------------------------------------------ what the page knows


def _data(
    version: str, sizes: Mapping[str, str], networks: Sequence[Timed], start: dict[str, str]
) -> dict[str, Any]:
    contents = {**explorer.data(_rows(networks), SYSTEM, "vertebra pick --among catalogue"), "start": start}
    contents["same"] = "With vertebra installed, on this device's own engines: "
    for name in _MEASURED:
        contents["columns"][name] = {"by": "row", "value": [], "origin": "", "reasons": {}}
    ran = {contents["models"][model] for model, load in zip(contents["model"], contents["load"], strict=True)
           if load == 0}  # fmt: skip
    return {
        "version": version,
        "runtimes": sizes,
        "networks": [one.packed() for one in networks],
        "prior": prior(sorted(ran)),
        "explorer": contents,
    }


def _rows(networks: Sequence[Timed]) -> list[Measurement]:
    """What is published and counted of the field, and a latency of each network, which the page replaces."""
    counts = shipped.counts()
    named = field.names() | {one.name for one in networks}
    shared = Measurement(
        model=networks[0].name, metric="latency", value=1.0, origin="estimated", system=SYSTEM, device="cpu",
        engine=ENGINE, precision="float32", batch_size=1, scenario="single-stream",
        input_size=networks[0].input_size,
    )  # fmt: skip
    runs = [
        shared.like(model=name, input_size=counts[name].input_size)
        for name in counts if name in named
    ]  # fmt: skip
    return field.rows(runs)


# ------------------------------------------------------------------ index.html


def _index(data: Mapping[str, Any]) -> str:
    style = Html(page.asset("page.css") + page.asset("explorer.css") + _text("first.css"))
    script = Html("\n".join(map(_text, _PAGE)))
    drawing = resources.files("vertebra.zoo.graphs").joinpath("drawing.mjs").read_text(encoding="utf-8")
    worker = Html(drawing.replace("export function", "function") + _text("worker.js"))
    shown = Html(page.explorer_script())
    policy = (
        f"default-src 'none'; script-src 'self' {page.hash_of(script)} {page.hash_of(shown)} "
        f"'wasm-unsafe-eval' blob:; worker-src blob:; style-src {page.hash_of(style)}; base-uri 'none'; "
        "form-action 'none'"
    )
    head = joined([
        Html('<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'),
        Html(f'<meta http-equiv="Content-Security-Policy" content="{policy}">'),
        Html('<meta name="color-scheme" content="light dark"><meta name="referrer" content="no-referrer">'),
        tag("title", TITLE),
        tag("style", style),
    ])  # fmt: skip
    body = joined([
        tag("header", tag("h1", TITLE), tag("p", _SUMMARY, class_="summary")),
        tag("main", _asking(data), _answering(data)),
        tag("footer", tag("p", f"Made by vertebra {__version__}. {_PRIVATE}")),
        tag("script", Html(explorer.harmless(data)), type="application/json", id="first-data"),
        tag("script", worker, type="text/plain", id="first-worker"),
        tag("script", shown, type="text/plain", id="explorer-script"),
        tag("script", script, type="module"),
    ])  # fmt: skip
    whole = tag("html", Html("\n"), tag("head", head), Html("\n"), tag("body", body), Html("\n"), lang="en")
    return f"<!DOCTYPE html>\n{whole}\n"


_SUMMARY = (
    "A few small networks run in this browser; from their times the latency of every network with a "
    "published accuracy is estimated. Nothing is installed."
)
_PRIVATE = "Times stay in this page and in its address: nothing is sent anywhere."
_OLD = (
    "This page needs JavaScript and a browser of 2023 or later. Nothing happened yet: if this text stays, "
    "the browser is too old or runs no scripts."
)


def _asking(data: Mapping[str, Any]) -> Html:
    size = data["runtimes"]["wasm"]
    choices = [
        tag("label", tag("input", type="radio", name_="backend", value=value, checked=checked), f" {text}")
        for value, text, checked in (
            ("wasm", "WebAssembly, on the processor", "checked"),
            ("webgpu", "WebGPU, on the graphics processor", None),
        )
        if value in data["runtimes"]
    ]
    return section(
        "measure", "This device",
        tag("p", _OLD, id="first-status", role="status"),
        tag("div", tag("progress", id="first-progress", max=1, value=0, aria_label="Measured so far"),
            id="first-work", hidden="hidden"),
        tag("div",
            tag("fieldset", tag("legend", "Run on"), *choices, id="first-backends", hidden="hidden"),
            tag("p", tag("button", "Measure this device", type="button", id="first-start")),
            tag("p", f"It takes about half a minute and loads {size} MB. Keep this tab in front.",
                class_="note"),
            id="first-ask", hidden="hidden"),
        tag("ul", id="first-notes"),
    )  # fmt: skip


def _answering(data: Mapping[str, Any]) -> Html:
    times = tag(
        "table",
        tag("caption", "The networks that ran: medians, with 95 % intervals over all rounds"),
        tag("thead", tag("tr", *(tag("th", text, scope="col")
                                 for text in ("Network", "Latency", "Interval", "Grade")))),
        tag("tbody", id="first-times"),
    )  # fmt: skip
    return tag(
        "div",
        tag("p", id="first-how"),
        tag("details", tag("summary", "What was measured"),
            tag("div", times, class_="scroll", tabindex=0, role="region",
                aria_label="The networks that ran")),
        tag("p", tag("button", "Measure this device again", type="button", id="first-again")),
        explorer.section_of(data["explorer"], fills=False),
        id="first-result", hidden="hidden",
    )  # fmt: skip


def _text(name: str) -> str:
    return resources.files("vertebra.reading.first_answer").joinpath(name).read_text(encoding="utf-8")
