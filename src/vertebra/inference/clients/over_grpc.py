"""Requests over gRPC."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from itertools import cycle
from typing import Any

import grpc

from vertebra.errors import InvalidInputError
from vertebra.inference.clients import inputs
from vertebra.inference.clients.addresses import Address
from vertebra.inference.clients.client import ANSWER_S, NO_TOKEN, About, Answer, Refused, only_model
from vertebra.inference.clients.inputs import Input, Question
from vertebra.inference.serving.messages import open_inference

#: Connections, among which requests are divided: one carries at most 100 at a time at some servers.
_CHANNELS = 4
_SERVICE = "/inference.GRPCInferenceService/"
_NO_SERVER = "is a server of the Open Inference Protocol running there?"


class GrpcClient:
    """See `client.Client`."""

    def __init__(self, address: Address, token: str | None) -> None:
        self._address, self._messages = address, open_inference()
        self._metadata = () if token is None else (("authorization", f"Bearer {token}"),)
        self._channels: list[Any] = []
        self._infer: Any = None
        self._model, self._requests = "", list[bytes]()
        self._lengths: list[int | None] = []
        self._under_way: set[asyncio.Task[None]] = set()

    async def opened(self) -> None:
        # Each channel has a connection of its own, and messages have any size.
        options = [
            ("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
        ]  # fmt: skip
        for _ in range(_CHANNELS):
            if self._address.is_tls:
                secret = grpc.ssl_channel_credentials()
                self._channels.append(grpc.aio.secure_channel(self._address.authority, secret, options))
            else:
                self._channels.append(grpc.aio.insecure_channel(self._address.authority, options))
        try:
            async with asyncio.timeout(ANSWER_S / 6):
                await self._channels[0].channel_ready()
        except TimeoutError as error:
            raise InvalidInputError(f"{self._address.authority} can't be reached.", _NO_SERVER) from error
        answered = self._messages["ModelInferResponse"].FromString
        self._infer = cycle(
            [one.unary_unary(f"{_SERVICE}ModelInfer", None, answered) for one in self._channels]
        )

    async def close(self) -> None:
        for task in [*self._under_way]:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)
        for channel in self._channels:
            await channel.close()

    # -------------------------------------------------------------- what the server is

    async def about(self, stated: Input | None = None) -> About:
        server = await self._call("ServerMetadata")
        self._model = self._address.model or await self._only_model()
        found = await self._call("ModelMetadata", name=self._model, version=self._address.version or "")
        taken = stated or inputs.only_input(
            self._model,
            [{"name": one.name, "datatype": one.datatype, "shape": list(one.shape)} for one in found.inputs],
        )
        return About(
            server.name or "unknown", server.version or None, self._model, found.platform or None, taken
        )

    async def _only_model(self) -> str:
        found = await self._call("RepositoryIndex", ready=True)
        return only_model([{"name": one.name} for one in found.models])

    async def _call(self, method: str, **fields: Any) -> Any:
        request, answer = (self._messages[f"{method}{end}"] for end in ("Request", "Response"))
        call = self._channels[0].unary_unary(_SERVICE + method, request.SerializeToString, answer.FromString)
        try:
            return await call(request(**fields), timeout=ANSWER_S, metadata=self._metadata)
        except grpc.aio.AioRpcError as error:
            closed = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)
            raise InvalidInputError(
                f"{self._address.authority}, {method}: {_reason(error)}.",
                NO_TOKEN if error.code() in closed else _NO_SERVER,
            ) from error

    # -------------------------------------------------------------- requests

    async def prepare(self, questions: Sequence[Question], *, at_once: int) -> str:
        self._requests = [self._request(one) for one in questions]
        await asyncio.gather(*(channel.channel_ready() for channel in self._channels))
        self._lengths = [_length(await self._alone(number)) for number in range(len(questions))]
        return f"{questions[0].datatype} over gRPC" + (" with TLS" if self._address.is_tls else "")

    def _request(self, question: Question) -> bytes:
        made = self._messages["ModelInferRequest"](
            model_name=self._model, model_version=self._address.version or ""
        )
        made.inputs.add(name=question.name, datatype=question.datatype, shape=question.shape)
        made.raw_input_contents.append(question.content)
        content: bytes = made.SerializeToString()
        return content

    async def answer(self, number: int) -> Answer:
        return _decoded(await self._alone(number % len(self._requests)))

    async def _alone(self, place: int) -> Any:
        call = next(self._infer)
        try:
            return await call(self._requests[place], timeout=ANSWER_S, metadata=self._metadata)
        except grpc.aio.AioRpcError as error:
            raise Refused(_reason(error)) from error

    def ask(self, number: int, done: Callable[[str | None], None]) -> Callable[[], None]:
        place = number % len(self._requests)
        call = next(self._infer)(self._requests[place], metadata=self._metadata)

        async def awaited() -> None:
            try:
                answer = await call
            except grpc.aio.AioRpcError as error:
                done(_reason(error))
            else:
                is_good = self._lengths[place] in (None, _length(answer))
                done(None if is_good else "an answer of another size")

        task = asyncio.get_running_loop().create_task(awaited())
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

        def give_up() -> None:
            with contextlib.suppress(asyncio.InvalidStateError):
                call.cancel()
            task.cancel()

        return give_up


def _reason(error: Any) -> str:
    """The status, and what the server said, in a few words."""
    said = " ".join((error.details() or "").split())[:120]
    return f"{error.code().name}: {said}" if said else str(error.code().name)


def _length(answer: Any) -> int | None:
    """Bytes of an answer's numbers, which are always the same; None where it has others, or texts."""
    raw = answer.raw_output_contents
    is_plain = len(raw) == len(answer.outputs) and all(
        one.datatype in inputs.DATATYPES for one in answer.outputs
    )
    return sum(map(len, raw)) if is_plain else None


def _decoded(answer: Any) -> Answer:
    import numpy as np

    found: dict[str, Any] = {}
    for place, one in enumerate(answer.outputs):
        kind = inputs.DATATYPES.get(one.datatype)
        if place < len(answer.raw_output_contents):
            raw = answer.raw_output_contents[place]
            found[one.name] = [raw] if kind is None else np.frombuffer(raw, kind)
        else:
            found[one.name] = np.asarray(
                list(one.contents.fp32_contents) or list(one.contents.bytes_contents)
            )
    return found
