"""The Open Inference Protocol over gRPC."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import grpc
from google.protobuf import json_format

from vertebra._version import __version__
from vertebra.inference.serving import logs, management, protocol, tensors
from vertebra.inference.serving.access import Certificate
from vertebra.inference.serving.app import Site
from vertebra.inference.serving.batching import Answer
from vertebra.inference.serving.messages import Messages, open_inference
from vertebra.inference.serving.models import Model, now_ns
from vertebra.inference.serving.refusals import Refusal
from vertebra.inference.serving.tensors import Limits, Question, Row, Wanted
from vertebra.inference.serving.tracing import Trace

SERVICE = "inference.GRPCInferenceService"
#: methods that are open without a token
_OPEN = ("ServerLive", "ServerReady")
_UNSUPPORTED = {
    "ModelStreamInfer": "streams",
    "SystemSharedMemoryStatus": "shared memory", "SystemSharedMemoryRegister": "shared memory",
    "SystemSharedMemoryUnregister": "shared memory", "CudaSharedMemoryStatus": "shared memory",
    "CudaSharedMemoryRegister": "shared memory", "CudaSharedMemoryUnregister": "shared memory",
    "TraceSetting": "trace settings", "LogSettings": "log settings",
}  # fmt: skip
_MORE_BYTES = 2**16
Method = Callable[[Any, Any, Trace], Awaitable[Any]]


class Service:
    """The methods, each from a request to a response."""

    def __init__(self, site: Site) -> None:
        self._site, self._repository = site, site.repository
        self._access, self._manages = site.access, site.manages
        self._messages: Messages = open_inference()

    def handlers(self) -> Any:
        """What a gRPC server calls."""
        found = {
            name: grpc.unary_unary_rpc_method_handler(
                # bytes: what isn't a message is refused here, and not by gRPC, as a failure of the server
                functools.partial(self._call, name, getattr(self, _spelled(name)), asked),
                response_serializer=given.SerializeToString,
            )
            for name, (asked, given) in self._messages.methods[SERVICE].items()
        }
        for name, what in _UNSUPPORTED.items():
            kind = (
                grpc.stream_stream_rpc_method_handler
                if "Stream" in name
                else grpc.unary_unary_rpc_method_handler
            )
            found[name] = kind(functools.partial(self._unsupported, what))
        return grpc.method_handlers_generic_handler(SERVICE, found)

    async def _call(self, name: str, method: Method, asked: Any, content: bytes, context: Any) -> Any:
        """Before and after every method: who asks, its number, its line in the log, and no traceback."""
        began, code = time.perf_counter(), "OK"
        metadata = {key: value for key, value in context.invocation_metadata() if isinstance(value, str)}
        trace = Trace.of(metadata, len(content))
        trailing = [(key.decode(), value.decode()) for key, value in trace.headers()]
        context.set_trailing_metadata(trailing)
        try:
            if name not in _OPEN:
                self._access.check_token(metadata.get("authorization"))
            return await method(_message(name, asked, content), context, trace)
        except Refusal as refusal:
            code = refusal.code
            if refusal.retry_s is not None:  # the second is what gRPC's own retries heed
                after = (("retry-after", refusal.retry_s), ("grpc-retry-pushback-ms", 1000 * refusal.retry_s))
                context.set_trailing_metadata([*trailing, *((key, str(value)) for key, value in after)])
            await context.abort(grpc.StatusCode[code], refusal.message)
        except asyncio.CancelledError:
            code = "CANCELLED"
            raise
        except Exception:
            code = "INTERNAL"
            logs.LOGGER.exception("a request failed", extra={"fields": {"request_id": trace.request_id}})
            said = f"internal error; the log has it as request {trace.request_id}"
            await context.abort(grpc.StatusCode.INTERNAL, said)
        finally:
            ms = round((time.perf_counter() - began) * 1e3, 3)
            logs.request(method=name, status=code, ms=ms, **trace.fields())

    async def _unsupported(self, what: str, request: Any, context: Any) -> Any:
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, f"this server has no {what}")

    def _made(self, name: str, value: Mapping[str, Any]) -> Any:
        return json_format.ParseDict(value, self._messages[name]())

    # -------------------------------------------------------------- what is there

    async def server_live(self, request: Any, context: Any, trace: Trace) -> Any:
        return self._made("ServerLiveResponse", {"live": True})

    async def server_ready(self, request: Any, context: Any, trace: Trace) -> Any:
        return self._made("ServerReadyResponse", {"ready": self._repository.is_ready})

    async def server_metadata(self, request: Any, context: Any, trace: Trace) -> Any:
        about = {"name": "vertebra", "version": __version__, "extensions": list(management.EXTENSIONS)}
        return self._made("ServerMetadataResponse", about)

    async def model_ready(self, request: Any, context: Any, trace: Trace) -> Any:
        ready = management.is_ready(self._repository, request.name, request.version or None)
        return self._made("ModelReadyResponse", {"ready": ready})

    async def model_metadata(self, request: Any, context: Any, trace: Trace) -> Any:
        model = self._repository.model(request.name, request.version or None)
        return self._made("ModelMetadataResponse", model.metadata(self._repository.versions(request.name)))

    async def model_config(self, request: Any, context: Any, trace: Trace) -> Any:
        model = self._repository.model(request.name, request.version or None)
        return self._made("ModelConfigResponse", {"config": model.config()})

    async def model_statistics(self, request: Any, context: Any, trace: Trace) -> Any:
        found = management.statistics(self._repository, request.name or None, request.version or None)
        return self._made("ModelStatisticsResponse", {"model_stats": found})

    async def repository_index(self, request: Any, context: Any, trace: Trace) -> Any:
        return self._made("RepositoryIndexResponse", {"models": self._repository.index(ready=request.ready)})

    async def repository_model_load(self, request: Any, context: Any, trace: Trace) -> Any:
        management.check(request.parameters, self._manages)
        await management.load(self._repository, request.model_name)
        return self._messages["RepositoryModelLoadResponse"]()

    async def repository_model_unload(self, request: Any, context: Any, trace: Trace) -> Any:
        management.check(request.parameters, self._manages)
        await management.unload(self._repository, request.model_name)
        return self._messages["RepositoryModelUnloadResponse"]()

    # -------------------------------------------------------------- inference

    async def model_infer(self, request: Any, context: Any, trace: Trace) -> Any:
        arrived_ns = now_ns()
        model = self._repository.model(request.model_name, request.model_version or None)
        with management.counted(self._repository, model, arrived_ns) as count:
            with self._site.holding() as hold:
                hold(trace.size_bytes)
                asked = question(request, model.limits)
                trace.noted.update(images=len(asked.rows), **({"request": asked.id} if asked.id else {}))
                answer = await model.answer(_within(asked, context.time_remaining()), arrived_ns)
            response = self._response(asked, answer, model)
            count(len(asked.rows), answer.stages)
        return response

    def _response(self, asked: Question, answer: Answer, model: Model) -> Any:
        made = self._messages["ModelInferResponse"](
            model_name=model.spec.name, model_version=model.spec.version, id=asked.id
        )
        for name, remark in model.remarks.items():
            made.parameters[name].string_param = remark
        for output in asked.outputs:
            values = answer.probabilities if output.name == tensors.PROBABILITIES else answer.logits
            if output.classes:
                lines = tensors.classified(values, model.kept.names, output.classes)
                made.outputs.add(name=output.name, datatype="BYTES", shape=[len(lines), len(lines[0])])
                made.raw_output_contents.append(tensors.packed([line for row in lines for line in row]))
            else:
                made.outputs.add(name=output.name, datatype="FP32", shape=values.shape)
                made.raw_output_contents.append(values.astype("<f4").tobytes())
        return made


def _message(name: str, asked: Any, content: bytes) -> Any:
    from google.protobuf.message import DecodeError

    try:
        return asked.FromString(content)
    except DecodeError:
        raise Refusal("invalid", f"the request of {name} isn't a {asked.DESCRIPTOR.full_name}") from None


def _spelled(name: str) -> str:
    """`model_infer` for `ModelInfer`."""
    return "".join(f"_{sign.lower()}" if sign.isupper() else sign for sign in name).lstrip("_")


def _within(asked: Question, left_s: float | None) -> Question:
    """The request with the client's own deadline."""
    if left_s is None:
        return asked
    sooner = left_s if asked.timeout_s is None else min(left_s, asked.timeout_s)
    return Question(asked.id, asked.rows, asked.outputs, max(sooner, 1e-6))


def question(request: Any, limits: Limits) -> Question:
    """A request for inference. Raises Refusal."""
    parameters = _parameters(request.parameters)
    if len(request.inputs) != 1:
        raise Refusal("invalid", f"expected 1 input, '{tensors.INPUT}', but got {len(request.inputs)}")
    (given,) = request.inputs
    protocol.check_name(given.name)
    _parameters(given.parameters)
    datatype, shape = tensors.datatype_of(given.datatype), tensors.shape_of(list(given.shape))
    outputs = [_wanted(one) for one in request.outputs] or [Wanted(name) for name in tensors.OUTPUTS]
    protocol.check_once(outputs)
    rows = _rows(request, given, datatype, shape, limits)
    return Question(request.id, rows, outputs, protocol.timeout_of(parameters.get("timeout")))


def _rows(request: Any, given: Any, datatype: str, shape: tuple[int, ...], limits: Limits) -> list[Row]:
    contents = given.contents
    if len(request.raw_input_contents):
        if len(request.raw_input_contents) != 1 or given.HasField("contents"):
            raise Refusal("invalid", "one raw_input_contents was expected for the one input, and no contents")
        return tensors.rows(datatype, shape, request.raw_input_contents[0], limits)
    if datatype == "BYTES":
        return tensors.rows(datatype, shape, tensors.packed(contents.bytes_contents), limits)
    import numpy as np

    if datatype == "FP32":
        return tensors.rows(datatype, shape, np.array(contents.fp32_contents, "<f4").tobytes(), limits)
    if datatype == "UINT8":
        values = np.array(contents.uint_contents, np.uint32)
        if values.size and values.max() > 255:
            raise Refusal("invalid", f"data of input '{tensors.INPUT}' of datatype UINT8 must be 0 to 255")
        return tensors.rows(datatype, shape, values.astype(np.uint8).tobytes(), limits)
    raise Refusal("invalid", f"datatype {datatype} must be sent in raw_input_contents")


def _parameters(given: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, one in given.items():
        choice = one.WhichOneof("parameter_choice")
        found[name] = None if choice is None else getattr(one, choice)
    protocol.check_parameters(found)
    return found


def _wanted(output: Any) -> Wanted:
    parameters = _parameters(output.parameters)
    return tensors.wanted(output.name, parameters.get("classification"), True)


# ------------------------------------------------------------------ the server


def server(
    service: Service, address: str, certificate: Certificate | None, *, max_body: int, most_calls: int
) -> Any:
    """A gRPC server for `service` at `address`, not started. Call it on the event loop."""
    made = grpc.aio.server(
        options=[
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", max_body + _MORE_BYTES),
            ("grpc.max_send_message_length", -1),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.min_ping_interval_without_data_ms", 5000),
        ],
        maximum_concurrent_rpcs=most_calls,
    )
    made.add_generic_rpc_handlers((service.handlers(),))
    if certificate is None:
        made.add_insecure_port(address)
    else:
        pair = certificate.key.read_bytes(), certificate.chain.read_bytes()
        made.add_secure_port(address, grpc.ssl_server_credentials([pair]))
    return made
