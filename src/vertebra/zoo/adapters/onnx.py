"""Networks in ONNX files, `onnx:path/to/network.onnx`: run as they are, without torch.

The file states its input's shape and the number of classes; where it leaves the size open, 224 is used. It
doesn't state how pictures become its input or what its classes are called: `facts` says what is assumed.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from vertebra import parity
from vertebra.data.preprocess import protocols
from vertebra.errors import InvalidInputError, WeightsError
from vertebra.machine import files, onnx_files
from vertebra.zoo.adapters import NetworkFile, spelled
from vertebra.zoo.factsheet import Facts, labels_for
from vertebra.zoo.names import Model

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import nn

    Array = npt.NDArray[np.float32]

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
    in_channels: int = 3


def path_of(name: str) -> Path:
    """The file that `onnx:path` names. Raises InvalidInputError where there is none."""
    path = files.named(spelled(name).partition(":")[2])
    if not path.is_file():
        there = "is a folder" if path.is_dir() else "doesn't exist"
        raise InvalidInputError(
            f"There is no file {path}: it {there}.",
            "pass the path of an ONNX file: onnx:path/to/network.onnx",
        )
    return path


def graph(path: Path) -> onnx_files.OnnxFile:
    """What the file says of itself. Raises InvalidInputError."""
    return onnx_files.read(path)


def network_file(name: str) -> NetworkFile:
    """The file as it is. Raises InvalidInputError."""
    path = path_of(name)
    return NetworkFile(path, path, None, {})


def signature(path: Path) -> Signature:
    """The input and output of the network in `path`. Raises InvalidInputError where it isn't a classification
    network of square pictures, float32, channels first, or can't be read."""
    onnx_files.data_files(graph(path))  # a missing one by its name: ONNX Runtime's message is about the first
    session = open_session(path)
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1 or len(outputs) != 1:
        raise _refusal(path, f"{len(inputs)} inputs and {len(outputs)} outputs")
    (given,), (output,) = inputs, outputs
    shape, answer = given.shape, output.shape
    if len(shape) == 4 and 0 in shape:
        raise _refusal(path, f"the input {given.name} of {shape}, which holds nothing")
    if not _takes_pictures(given):
        raise _refusal(path, f"the input {given.name}, {given.type} of {shape}{_why_not(given)}")
    # A network that ends in a pool gives (batch, classes, 1, 1).
    stated = [extent for extent in answer[2:] if isinstance(extent, int)]
    if (answer and len(answer) < 2) or any(extent != 1 for extent in stated) or output.type != _FLOAT:
        raise _refusal(path, f"the output {output.name}, {output.type} of {answer}")
    classes = (_fixed(answer[1]) if answer else None) or _classes_of_a_run(path, session, given)
    return Signature(given.name, output.name, _fixed(shape[0]), _fixed(shape[2]), classes, int(shape[1]))


_FLOAT = "tensor(float)"


def precision(found: onnx_files.OnnxFile) -> str:
    """In what the network computes. Raises InvalidInputError where no engine here runs that."""
    if found.precision not in parity.LIMITS:
        raise InvalidInputError(
            f"The network in {found.path} has its parameters in {found.precision}.",
            f"use a network in one of: {', '.join(parity.LIMITS)}",
        )
    return found.precision


def _takes_pictures(given: Any) -> bool:
    shape = given.shape
    if len(shape) != 4 or given.type != _FLOAT or _fixed(shape[1]) is None:
        return False
    return _fixed(shape[2]) == _fixed(shape[3])


def _why_not(given: Any) -> str:
    """Of an input that isn't square pictures with channels first, what stands against it; empty where that is
    plain from its shape."""
    shape = given.shape
    if len(shape) != 4:
        return ""
    if given.type != _FLOAT:
        return ", not float32"
    height, width = _fixed(shape[2]), _fixed(shape[3])
    if width in (1, 3) and height != width:
        return ": channels last"
    return ": not square" if height != width else ""


def run(path: Path, session: Any, images: Array) -> Array:
    """The answers (N, classes) to `images` (N, C, H, W). Raises InvalidInputError where ONNX Runtime can't
    run the network with them, or it gives anything else."""
    (given,), (output,) = session.get_inputs(), session.get_outputs()
    try:
        found: Array = session.run([output.name], {given.name: images})[0]
    except Exception as error:  # ONNX Runtime's exceptions share no base but this one.
        raise InvalidInputError(
            f"The network in {path} doesn't run with a batch of {len(images)}: {_reason(error)}",
            "export it again with a free batch size, and evaluation mode",
        ) from error
    if found.ndim < 2 or found.shape[0] != len(images) or any(extent != 1 for extent in found.shape[2:]):
        raise InvalidInputError(
            f"The network in {path} answers a batch of {len(images)} with the shape "
            f"{found.shape}; ({len(images)}, classes) was expected.",
            "export it again with a free batch size",
        )
    return found.reshape(found.shape[:2])


def _reason(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:300]


def open_session(source: Path | bytes, folder: Path | None = None) -> Any:
    """The file, or its content, in ONNX Runtime, unoptimised. Weights that the content has in other files
    are in `folder`. Raises InvalidInputError."""
    import onnxruntime

    onnxruntime.disable_telemetry_events()  # on Windows, where the package's variable is no opt-out
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # the exception has the reason
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    if folder is not None:
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
    try:
        content = source if isinstance(source, bytes) else str(source)
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions share no base but this one.
        raise InvalidInputError(
            f"{'It' if isinstance(source, bytes) else source} can't be read as a network: {_reason(error)}",
            "use an ONNX file that ONNX Runtime can run",
        ) from error


def _fixed(extent: object) -> int | None:
    """The number, or None for a name or nothing, which both mean any number."""
    return extent if isinstance(extent, int) and extent > 0 else None


def _classes_of_a_run(path: Path, session: Any, given: Any) -> int:
    import numpy as np

    size = _fixed(given.shape[2]) or DEFAULT_SIZE
    zeros = np.zeros((_fixed(given.shape[0]) or 1, int(given.shape[1]), size, size), dtype=np.float32)
    return int(run(path, session, zeros).shape[1])


def _refusal(path: Path, found: str) -> InvalidInputError:
    return InvalidInputError(
        f"The network in {path} has {found}.",
        "use a network with one input (batch, channels, size, size) and one output (batch, classes), also "
        "with trailing dimensions of 1, both float32",
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
        assumed=assumptions(seen),
    )


def assumptions(seen: Signature) -> tuple[str, ...]:
    """What `facts` assumes of a network in a file: "preprocess"; "labels" where it names any; "input_size"
    where the file leaves it open."""
    named = labels_for(seen.num_classes) is not None
    return ("preprocess", *["labels"] * named, *["input_size"] * (seen.input_size is None))


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
