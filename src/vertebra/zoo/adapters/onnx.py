"""Networks in ONNX files, `onnx:path/to/network.onnx`: run as they are, without torch.

The file states its input's shape and the number of classes; where it leaves the size open, 224 is used. It
doesn't state how pictures become its input: the caller must.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from vertebra.data.preprocess import protocols
from vertebra.errors import InvalidInputError, WeightsError
from vertebra.machine import files
from vertebra.zoo.adapters import NetworkFile
from vertebra.zoo.factsheet import Facts, labels_for
from vertebra.zoo.names import Model

if TYPE_CHECKING:
    from torch import nn

#: The side of the pictures where the file leaves it open.
DEFAULT_SIZE = 224


class Signature(NamedTuple):
    """The one input and the one output of a classification network. `batch_size` and `input_size` are None
    where the file takes any."""

    input_name: str
    output_name: str
    batch_size: int | None
    input_size: int | None
    num_classes: int


def path_of(name: str) -> Path:
    """The file that `onnx:path` names. Raises InvalidInputError where there is none."""
    path = files.named(name.partition(":")[2])
    if not path.is_file():
        raise InvalidInputError(f"There is no file {path}.", "write onnx:path/to/network.onnx")
    return path


def network_file(name: str) -> NetworkFile:
    """The file as it is. Raises InvalidInputError."""
    path = path_of(name)
    return NetworkFile(path, path, None, {})


def signature(path: Path) -> Signature:
    """The input and output of the network in `path`. Raises InvalidInputError where it isn't a classification
    network of square colour pictures, float32, channels first, or can't be read."""
    session = open_session(path)
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1 or len(outputs) != 1:
        raise _refusal(path, f"{len(inputs)} inputs and {len(outputs)} outputs")
    (given,), (output,) = inputs, outputs
    shape, answer = given.shape, output.shape
    if (
        len(shape) != 4
        or given.type != "tensor(float)"
        or shape[1] != 3
        or _fixed(shape[2]) != _fixed(shape[3])
    ):
        raise _refusal(path, f"the input {given.name}, {given.type} of {shape}")
    # A network that ends in a pool gives (batch, classes, 1, 1).
    if len(answer) < 2 or any(extent != 1 for extent in answer[2:]) or output.type != "tensor(float)":
        raise _refusal(path, f"the output {output.name}, {output.type} of {answer}")
    classes = _fixed(answer[1]) or _classes_of_a_run(session, given, shape)
    return Signature(given.name, output.name, _fixed(shape[0]), _fixed(shape[2]), classes)


def open_session(path: Path) -> Any:
    """The file in ONNX Runtime, unoptimised. Raises InvalidInputError."""
    import onnxruntime

    onnxruntime.disable_telemetry_events()  # on Windows, where the package's variable is no opt-out
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # the exception has the reason
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions share no base but this one.
        reason = str(error).strip().partition("\n")[0][:300]
        raise InvalidInputError(
            f"{path} can't be read as a network: {reason}", "use an ONNX file that ONNX Runtime can run"
        ) from error


def _fixed(extent: object) -> int | None:
    """The number, or None for a name or nothing, which both mean any number."""
    return extent if isinstance(extent, int) and extent > 0 else None


def _classes_of_a_run(session: Any, given: Any, shape: list[object]) -> int:
    import numpy as np

    size = _fixed(shape[2]) or DEFAULT_SIZE
    zeros = np.zeros((_fixed(shape[0]) or 1, 3, size, size), dtype=np.float32)
    (logits,) = session.run(None, {given.name: zeros})
    return int(logits.shape[1])


def _refusal(path: Path, found: str) -> InvalidInputError:
    return InvalidInputError(
        f"The network in {path} has {found}.",
        "use a network with one input (batch, 3, size, size) and one output (batch, classes), also with "
        "trailing dimensions of 1, both float32",
    )


def find(name: str) -> Model:
    """The network in the file that `onnx:path` names. Raises InvalidInputError."""
    path = path_of(name)
    seen = signature(path)
    return Model(
        name=f"onnx:{path}",
        builder="vertebra.zoo:build",
        aliases=(),
        input_size=seen.input_size or DEFAULT_SIZE,
        min_size=1,
        fixed_size=seen.input_size is not None,
        source="onnx",
        family="",
        title="",
        first_author="",
        year=None,
        url="",
        arxiv_id=None,
        further=None,
        idea="",
        place="",
    )


def facts(model: Model, source: str | Path | None) -> Facts:
    """See `zoo.facts`; the weights are in the file, so none are named. Labels and preprocessing are assumed
    to be the usual ones: ImageNet's for a thousand classes, and torchvision's resizing."""
    if source is not None:
        raise InvalidInputError(f"{model.name} already contains its weights.", "leave weights out")
    path = path_of(model.name)
    seen = signature(path)
    return Facts(
        model=model.name,
        weights=path.name,
        num_classes=seen.num_classes,
        input_size=model.input_size,
        preprocess=protocols.torchvision(round(model.input_size / 0.875), model.input_size),
        labels=labels_for(seen.num_classes),
        source="the file; preprocessing (torchvision's) and labels are guesses: the file states neither",
    )


def published(model: Model) -> tuple[str, str | None]:
    """Raise WeightsError: a file contains its weights."""
    raise WeightsError(f"{model.name} already contains its weights.", "leave weights out")


def build(
    model: Model,
    num_classes: int | None,
    in_channels: int,
    source: str | Path | None,
    checks: dict[str, Any],
) -> nn.Module:
    """Raise InvalidInputError: a file's network isn't a torch module."""
    raise InvalidInputError(
        f"{model.name} is not a torch module.", "run it with an engine that reads files, such as onnxruntime"
    )
