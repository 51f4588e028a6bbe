"""What a load generator needs of a server, however it is asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from vertebra.inference.clients.inputs import Input, Question

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

#: Output -> its values; those of BYTES are a list.
Answer = Mapping[str, "npt.NDArray[np.generic] | list[bytes]"]
#: Seconds in which a server must say what it is, and answer a request that is asked alone.
ANSWER_S = 60.0
#: what helps where a server asks who asks
NO_TOKEN = "pass a token that it takes: --token-file FILE"


class Refused(Exception):
    """A request without a good answer, and why: in a few words, the same for the same reason."""


@dataclass(frozen=True)
class About:
    """What a server says of itself and of the model."""

    server: str
    version: str | None
    model: str
    platform: str | None
    taken: Input


class Client(Protocol):
    """Used within one event loop: `opened` first, then `prepare`."""

    async def opened(self) -> None:
        """Raises InvalidInputError if the server can't be reached."""

    async def about(self, stated: Input | None = None) -> About:
        """What it says of itself; the model's input is that of its metadata unless one is `stated`. Raises
        InvalidInputError if it isn't a server of the protocol, or hasn't the model."""

    async def prepare(self, questions: Sequence[Question], *, at_once: int) -> str:
        """Make the requests that are sent from now on, and be ready for as many at once; returns how they go,
        such as "FP32 over HTTP". Raises Refused if the server doesn't answer one."""

    async def answer(self, number: int) -> Answer:
        """What the server answers to a request, asked alone. Raises Refused."""

    def ask(self, number: int, done: Callable[[str | None], None]) -> Callable[[], None]:
        """Send the request of a number (modulo how many there are); see `measuring.requests.offering.Ask`."""

    async def close(self) -> None: ...


def only_model(found: Sequence[Mapping[str, Any]]) -> str:
    """The one that a server has. Raises InvalidInputError for none or several."""
    from vertebra.errors import InvalidInputError

    names = sorted({str(one.get("name")) for one in found})
    if len(names) == 1:
        return names[0]
    listed = ", ".join(name[:40] for name in names[:10]) or "none"
    raise InvalidInputError(
        f"The server has {len(names)} models: {listed}.", "name one in the URL: …/v2/models/NAME"
    )
