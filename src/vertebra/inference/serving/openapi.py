"""The protocol over HTTP as an OpenAPI document, which is the same for every server, and as a page."""

from __future__ import annotations

import functools
import html
import json
from typing import Any

from vertebra._version import __version__
from vertebra.inference.serving import tensors

_NAME = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}
_VERSION = {"name": "version", "in": "path", "required": True, "schema": {"type": "string"}}
_COUNT = {"type": "integer", "minimum": 0}
_TEXT = {"type": "string"}
_PARAMETERS = {"type": "object", "additionalProperties": True}
_SHAPE = {"type": "array", "items": {"type": "integer", "minimum": -1}, "minItems": 1, "maxItems": 8}


def _object(required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"type": "object", "properties": properties}
    return {**made, "required": list(required)} if required else made


def _list(items: Any, **more: Any) -> dict[str, Any]:
    return {"type": "array", "items": items, **more}


def _of(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _schemas() -> dict[str, Any]:
    described = _object(("name", "datatype", "shape"), name=_TEXT, datatype=_TEXT, shape=_SHAPE)
    durations = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit",
                 "cache_miss")  # fmt: skip
    return {
        "Error": _object(("error",), error=_TEXT),
        "Live": _object(("live",), live={"type": "boolean"}),
        "Ready": _object(("ready",), ready={"type": "boolean"}),
        "ModelReady": _object(("name", "ready"), name=_TEXT, ready={"type": "boolean"}),
        "Server": _object(("name", "version"), name=_TEXT, version=_TEXT, extensions=_list(_TEXT)),
        "TensorMetadata": described,
        "Model": _object(
            ("name", "platform", "inputs", "outputs"), name=_TEXT, versions=_list(_TEXT), platform=_TEXT,
            inputs=_list(_of("TensorMetadata")), outputs=_list(_of("TensorMetadata")),
        ),
        "Config": {"type": "object", "description": "Triton's ModelConfig."},
        "Input": _object(
            ("name", "shape", "datatype"),
            name={"type": "string", "enum": [tensors.INPUT]},
            shape={**_SHAPE, "items": {"type": "integer", "minimum": 1}},
            datatype={"type": "string", "enum": list(tensors.DATATYPES)},
            parameters=_PARAMETERS,
            data={"type": "array", "items": {}, "description": "Numbers, or for BYTES base64."},
        ),
        "WantedOutput": _object(
            ("name",),
            name={"type": "string", "enum": list(tensors.OUTPUTS)},
            parameters=_object(
                classification={"type": "integer", "minimum": 1}, binary_data={"type": "boolean"}
            ),
        ),
        "InferRequest": _object(
            ("inputs",), id=_TEXT,
            parameters=_object(timeout=_COUNT, binary_data_output={"type": "boolean"}),
            inputs=_list(_of("Input"), minItems=1, maxItems=1),
            outputs=_list(_of("WantedOutput"), maxItems=len(tensors.OUTPUTS)),
        ),
        "Output": _object(
            ("name", "shape", "datatype"), name=_TEXT, shape=_SHAPE, datatype=_TEXT, parameters=_PARAMETERS,
            data=_list({}),
        ),
        "InferResponse": _object(
            ("model_name", "outputs"), model_name=_TEXT, model_version=_TEXT, id=_TEXT,
            parameters=_PARAMETERS, outputs=_list(_of("Output")),
        ),
        "Duration": _object(("count", "ns"), count=_COUNT, ns=_COUNT),
        "Statistics": _object(
            ("model_stats",),
            model_stats=_list(
                _object(
                    ("name", "version", "inference_count", "execution_count", "inference_stats"),
                    name=_TEXT, version=_TEXT, last_inference=_COUNT, inference_count=_COUNT,
                    execution_count=_COUNT,
                    inference_stats=_object(durations, **dict.fromkeys(durations, _of("Duration"))),
                    batch_stats=_list({"type": "object"}),
                )
            ),
        ),
        "IndexRequest": _object(ready={"type": "boolean"}),
        "Index": _list(_object(("name",), name=_TEXT, version=_TEXT, state=_TEXT, reason=_TEXT)),
        "ManagementRequest": _object(
            parameters={**_object(unload_dependents={"type": "boolean"}), "additionalProperties": False}
        ),
        "Nothing": {"type": "object", "maxProperties": 0},
    }  # fmt: skip


#: path -> method, what it does, the request's schema, the response's
_PATHS: dict[str, tuple[str, str, str | None, str | None]] = {
    "/v2": ("get", "The server's name, version and extensions.", None, "Server"),
    "/v2/health/live": ("get", "Whether the server runs.", None, "Live"),
    "/v2/health/ready": ("get", "Whether every model can answer; 400 if not.", None, "Ready"),
    "/v2/models/stats": ("get", "Statistics of all models.", None, "Statistics"),
    "/v2/models/{name}": ("get", "A model's inputs and outputs.", None, "Model"),
    "/v2/models/{name}/ready": ("get", "Whether the model can answer; 400 if not.", None, "ModelReady"),
    "/v2/models/{name}/config": ("get", "The model's configuration.", None, "Config"),
    "/v2/models/{name}/stats": ("get", "The model's statistics.", None, "Statistics"),
    "/v2/models/{name}/infer": (
        "post", "Classify pictures. Binary tensors follow the JSON, whose length is then in the header "
        "Inference-Header-Content-Length.", "InferRequest", "InferResponse",
    ),
    "/v2/repository/index": ("post", "The models and their states.", "IndexRequest", "Index"),
    "/v2/repository/models/{name}/load": (
        "post", "Load a model, or load it again. Off unless the server was started with --manage.",
        "ManagementRequest", "Nothing",
    ),
    "/v2/repository/models/{name}/unload": (
        "post", "Unload a model. Off unless the server was started with --manage.", "ManagementRequest",
        "Nothing",
    ),
}  # fmt: skip
_REFUSALS = {
    "400": "The request can't be answered as it is, or what was asked is not so.",
    "401": "A token is needed.",
    "403": "Not allowed.",
    "404": "There is no such model or version.",
    "408": "The body didn't arrive in time.",
    "413": "The body is too large.",
    "415": "The body's encoding isn't known.",
    "421": "The server isn't called so.",
    "429": "The queue is full: ask again after Retry-After seconds.",
    "500": "The server failed; its log says why.",
    "503": "The model isn't loaded, or the server is being stopped.",
    "504": "No answer within the deadline.",
}


def _operation(path: str, method: str, says: str, asked: str | None, given: str | None) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": "The answer."}
    if given is not None:
        answer["content"] = {"application/json": {"schema": _of(given)}}
    if path.endswith("/infer"):
        answer["content"]["application/octet-stream"] = {}
    failed = {"content": {"application/json": {"schema": _of("Error")}}}
    needs_no_token = path.startswith("/v2/health/")
    responses = {status: {"description": text, **failed} for status, text in _REFUSALS.items()}
    if path.endswith("/ready"):  # false, or an address that can't be
        schemas = {"anyOf": [_of(str(given)), _of("Error")]}
        responses["400"] = {**responses["400"], "content": {"application/json": {"schema": schemas}}}
    operation: dict[str, Any] = {
        "summary": says,
        "operationId": method + "".join(part.strip("{}").title() for part in path.split("/")),
        "responses": {"200": answer, **responses},
        "security": [{}] if needs_no_token else [{}, {"token": []}],
    }  # fmt: skip
    if asked is not None:
        content: dict[str, Any] = {"application/json": {"schema": _of(asked)}}
        if path.endswith("/infer"):
            content["application/octet-stream"] = {}
        operation["requestBody"] = {"content": content, "required": path.endswith("/infer")}
    return operation


@functools.cache
def document() -> bytes:
    """The OpenAPI document, as JSON."""
    paths: dict[str, Any] = {}
    for path, (method, says, asked, given) in _PATHS.items():
        both = (path, path.replace("{name}", "{name}/versions/{version}"))
        has_versions = "/models/{name}" in path and "repository" not in path
        for one in both if has_versions else both[:1]:
            paths[one] = {method: _operation(one, method, says, asked, given)}
            named = [_NAME] * ("{name}" in one) + [_VERSION] * ("{version}" in one)
            if named:
                paths[one]["parameters"] = named
    made = {
        "openapi": "3.1.0",
        "info": {
            "title": "vertebra serve", "version": __version__,
            "summary": "The Open Inference Protocol (KServe v2), for pictures.",
        },
        "paths": paths,
        "components": {
            "schemas": _schemas(), "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }  # fmt: skip
    return json.dumps(made, indent=1).encode()


@functools.cache
def page() -> bytes:
    """The same for people."""
    rows = "".join(
        f"<tr><td><code>{method.upper()} {html.escape(path)}</code></td><td>{html.escape(says)}</td></tr>"
        for path, (method, says, _, _) in _PATHS.items()
    )
    taken = "".join(
        f"<tr><td><code>{datatype}</code></td><td><code>{shape}</code></td><td>{what}</td></tr>"
        for datatype, shape, what in (
            ("BYTES", "[N]", "encoded pictures (in JSON: base64), decoded and preprocessed by the server"),
            ("UINT8", "[N, H, W, 3]", "RGB pixels of any size, preprocessed by the server"),
            ("UINT8", "[N, 3, size, size]", "RGB pixels of the network's size, normalised by the server"),
            ("FP32, FP16", "[N, 3, size, size]", "the network's input, as it is"),
        )
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>The protocol of vertebra serve</title><link rel="icon" href="data:,">
<link rel="stylesheet" href="site/style.css"></head><body><main>
<h1>The Open Inference Protocol</h1>
<p>As a document for programs: <a href="openapi.json">openapi.json</a>. <a href="./">Drop a picture</a>.</p>
<table><caption>Addresses</caption><tbody>{rows}</tbody></table>
<p>A model's addresses also take a version: <code>/v2/models/NAME/versions/VERSION/…</code></p>
<table><caption>What the input “{tensors.INPUT}” may hold</caption><tbody>{taken}</tbody></table>
<p>Outputs are <code>{"</code> and <code>".join(tensors.OUTPUTS)}</code>, each <code>[N, classes]</code>;
with the parameter <code>classification</code> the best classes as <code>value:index:name</code>.</p>
<h2>An example</h2>
<pre>curl {{address}}/v2/models/NAME/infer -d '{{"inputs": [{{"name": "{tensors.INPUT}", "datatype": "BYTES",
  "shape": [1], "data": ["'$(base64 -w0 picture.jpg)'"]}}],
  "outputs": [{{"name": "{tensors.PROBABILITIES}", "parameters": {{"classification": 3}}}}]}}'</pre>
</main></body></html>
""".replace("{address}", "http://localhost:8000").encode()
