"""Trained parameters: which are published for our networks, and how to load those or your own file.

A source is the name of a record (`alexnet.paddle_in1k`, or only `paddle_in1k`), a file, an https address, or
a file of a Hugging Face repository (`hf:owner/repo/model.safetensors`, `hf:owner/repo@revision/…`). In any
case no code in it is executed, its names and shapes must all be the network's, and weights of a network that
only looks the same are refused with the reason.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from vertebra.errors import MissingRuntimeError, UnknownNameError, WeightsError
from vertebra.machine import addresses, files
from vertebra.progress import Listener
from vertebra.zoo import dialects
from vertebra.zoo.names import find
from vertebra.zoo.spellings import SUFFIXES

if TYPE_CHECKING:
    from torch import Tensor

    from vertebra.zoo.backbone import Backbone
    from vertebra.zoo.conversion import Array

#: Seven times the largest network here; a larger answer is something else.
LIMIT_BYTES = 4 * 2**30


@dataclass(frozen=True, kw_only=True)
class Weights:
    """A published set of trained parameters. Whatever isn't known for certain is None.

    `resize` is the shorter side before the crop of `crop` pixels, by the protocol that `preprocess` names;
    `top1` and `top5` are fractions of ImageNet's validation set, as `accuracy_source` states them.
    """

    name: str
    model: str
    dialect: str
    url: str
    url_source: str
    licence: str
    preprocess: str
    resize: int
    crop: int
    top1: float
    top5: float
    accuracy_source: str
    labels: str = "imagenet-1k"
    num_classes: int = 1000
    size_bytes: int | None = None
    sha256: str | None = None
    md5: str | None = None
    note: str = ""

    @property
    def tag(self) -> str:
        """The name without that of the model."""
        return self.name.partition(".")[2]

    @property
    def is_verifiable(self) -> bool:
        """Whether a digest of the file is known in advance."""
        return bool(self.sha256 or self.md5)


PADDLE = "https://paddle-imagenet-models-name.bj.bcebos.com"
PADDLECLAS = "PaddleClas, develop d178931fc"
PADDLECLAS_STATIC = "PaddleClas, release/static fc43c9140, README"
OTHERS = 'PaddleClas documentation, "Other networks" (Others.md)'


def _paddle(model: str, path: str, top1: float, top5: float, **facts: Any) -> Weights:
    defaults: dict[str, Any] = {
        "url_source": f"{PADDLECLAS}, ppcls/arch/backbone",
        "licence": "Apache-2.0",
        "preprocess": "paddleclas",
        "resize": 256,
        "crop": 224,
        "accuracy_source": OTHERS,
    }
    return Weights(
        name=f"{model}.paddle_in1k",
        model=model,
        dialect="paddle",
        url=f"{PADDLE}/{path}",
        top1=top1,
        top5=top5,
        **(defaults | facts),
    )


# The MD5 digests are those of paddle.vision.models, which loads the same addresses.
# PaddleClas publishes no digests and no sizes; none is invented here.
_RECORDS = (
    _paddle(
        "alexnet", "dygraph/AlexNet_pretrained.pdparams", 0.567, 0.792, md5="7f0f9f737132e02732d75a1459d98a43"
    ),
    Weights(
        name="alexnet.tv_in1k",
        model="alexnet",
        dialect="torchvision",
        url="https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
        url_source="torchvision 0.29.2, AlexNet_Weights.IMAGENET1K_V1",
        licence="BSD-3-Clause",
        preprocess="torchvision",
        resize=256,
        crop=224,
        top1=0.56522,
        top5=0.79066,
        accuracy_source="torchvision 0.29.2, AlexNet_Weights.IMAGENET1K_V1",
        size_bytes=244_408_911,
        sha256="7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
        note="the one network whose topology is the same in torchvision",
    ),
    _paddle(
        "squeezenet1_0",
        "dygraph/SqueezeNet1_0_pretrained.pdparams",
        0.596,
        0.817,
        md5="30b95af60a2178f03cf9b66cd77e1db1",
    ),
    _paddle(
        "squeezenet1_1",
        "dygraph/SqueezeNet1_1_pretrained.pdparams",
        0.601,
        0.819,
        md5="a11250d3a1f91d7131fd095ebbf09eee",
    ),
    _paddle("vgg11", "dygraph/legendary_models/VGG11_pretrained.pdparams", 0.693, 0.891),
    _paddle("vgg13", "dygraph/legendary_models/VGG13_pretrained.pdparams", 0.700, 0.894),
    _paddle("vgg16", "dygraph/legendary_models/VGG16_pretrained.pdparams", 0.720, 0.907),
    _paddle("vgg19", "dygraph/legendary_models/VGG19_pretrained.pdparams", 0.726, 0.909),
    _paddle(
        "darknet53",
        "dygraph/DarkNet53_pretrained.pdparams",
        0.780,
        0.941,
        crop=256,
        note="PaddleClas evaluates it in three ways: 256/256 in the table that states this accuracy, 292/256 "
        "in its later configuration, 256/224 in its deployment examples",
    ),
    _paddle(
        "senet154_vd",
        "dygraph/SENet154_vd_pretrained.pdparams",
        0.814,
        0.955,
        accuracy_source=f"{OTHERS}, Chinese, edition of 2022-10-24",
    ),
    _paddle(
        "resnet50_acnet",
        "ResNet50_ACNet_pretrained.tar",
        0.767,
        0.932,
        url_source=PADDLECLAS_STATIC,
        accuracy_source=PADDLECLAS_STATIC,
        note="a static graph's archive",
    ),
    _paddle(
        "resnet50_acnet_deploy",
        "ResNet50_ACNet_deploy_pretrained.tar",
        0.767,
        0.932,
        url_source=PADDLECLAS_STATIC,
        accuracy_source=PADDLECLAS_STATIC,
        note="a static graph's archive; the branches of resnet50_acnet.paddle_in1k, fused",
    ),
)


def records(model: str | None = None) -> tuple[Weights, ...]:
    """Every published set, or those of one network, the preferred one first. Raises UnknownNameError."""
    if model is None:
        return _RECORDS
    name = find(model).name
    return tuple(record for record in _RECORDS if record.model == name)


def record(name: str) -> Weights:
    """The published set called `name`, `alexnet.paddle_in1k` for one. Raises UnknownNameError."""
    for known in _RECORDS:
        if known.name == name.lower():
            return known
    names = [known.name for known in _RECORDS]
    raise UnknownNameError.of("weights", name, names, ", ".join(names))


def state_dict(
    model: str,
    source: str | Path,
    *,
    num_classes: int | None = None,
    in_channels: int = 3,
    dialect: str | None = None,
    sha256: str | None = None,
    accept_unverified: bool = False,
    ema: bool | None = None,
    progress: Listener | None = None,
) -> dict[str, Tensor]:
    """The state dict of our network `model` (float32, on the CPU) from `source`.

    `num_classes` is the count that is needed, if it matters; `dialect` states which library's names the file
    uses where they don't show it: `vertebra`, `paddle` or `torchvision`. `sha256`, whole or its first eight
    digits or more, is what the file must have. A published set without a known digest is downloaded only with
    `sha256` or `accept_unverified`; later it must stay the same. Of raw and averaged weights in one file the
    averaged ones are taken, or those that `ema` asks for.
    Raises UnknownNameError, WeightsError, DownloadError and MissingRuntimeError.
    """
    taken = take(
        model, source, dialect=dialect, in_channels=in_channels, sha256=sha256,
        accept_unverified=accept_unverified, ema=ema, progress=progress,
    )  # fmt: skip
    _check_classes(find(model).name, str(source), taken.state, num_classes)
    return _tensors(taken.state)


class Taken(NamedTuple):
    """A state dict out of a file, as arrays, the name of these weights, and lines on what was taken out of
    the file."""

    state: dict[str, Array]
    name: str
    notes: tuple[str, ...]


def take(
    model: str,
    source: str | Path,
    *,
    dialect: str | None = None,
    in_channels: int = 3,
    ema: bool | None = None,
    **located: Any,
) -> Taken:
    """What `state_dict` returns, as arrays and without torch, with what is to be told about it; `located` are
    options of `locate`."""
    network = find(model)
    path, published = locate(network.name, source, **located)
    from vertebra.zoo import checkpoints
    from vertebra.zoo.checkpoints import prefixes

    found = checkpoints.take(path, ema=ema)
    trained = dialects.trained_form(network, found.arrays)
    held = trained or network
    bare = dialects.bare_of(held, found.arrays, found.left_of(ema))
    state = dialects.converted(
        held.name,
        bare.state,
        dialect=dialect or (published.dialect if published else None),
        in_channels=in_channels,
        fitting=", ".join(record.name for record in records(network.name)),
        widths=checkpoints.compressed(path).widths,
    )
    notes = prefixes.told(source, found, bare)
    if trained is not None:
        state = dialects.fused(state)
        notes += (f"{Path(source).name}: weights of {trained.name}; each block's three branches were fused",)
    return Taken(state, prefixes.called(source, found, bare), notes)


def load(network: Backbone, model: str, source: str | Path, **options: Any) -> None:
    """Put the parameters of `source` into `network`, which is a `model`; `options` are `state_dict`'s.

    The network stays as it was unless everything fits. Raises what `state_dict` raises.
    """
    options = {"num_classes": network.num_classes, "in_channels": network.in_channels} | options
    state = state_dict(model, source, **options)
    _check_fit(f"this network, which is not {find(model).name}", state, network.state_dict())
    network.load_state_dict(state)


def locate(
    model: str,
    source: str | Path,
    *,
    sha256: str | None = None,
    accept_unverified: bool = False,
    progress: Listener | None = None,
) -> tuple[Path, Weights | None]:
    """The file that `source` names, downloaded if necessary, and its record if it is a published one.

    Raises UnknownNameError, WeightsError and DownloadError.
    """
    from vertebra.machine import downloads

    found = published(model, source)
    if found:
        _check_verifiable(found, sha256, accept_unverified)
        wanted = downloads.Wanted(
            url=found.url,
            sha256=sha256 or found.sha256,
            md5=None if sha256 else found.md5,
            size_bytes=found.size_bytes,
        )
        return downloads.fetch(wanted, progress=progress, limit_bytes=LIMIT_BYTES), found
    fetched = _fetched(source, sha256, progress)
    return fetched or _local(model, source, sha256), None


def file_of(source: str | Path, *, sha256: str | None = None, progress: Listener | None = None) -> Path:
    """The file of `source`, an address or a path, downloaded if necessary; for other libraries' networks.

    Raises WeightsError and DownloadError.
    """
    fetched = _fetched(source, sha256, progress)
    if fetched:
        return fetched
    path = files.named(source)
    if not path.exists():
        raise WeightsError(f"There is no file {path}.", 'pass a checkpoint\'s path, or "pretrained"')
    _check_digest(path, sha256)
    return path


def _fetched(source: str | Path, sha256: str | None, progress: Listener | None) -> Path | None:
    from vertebra.machine import downloads

    url = _address(source) if isinstance(source, str) else None
    if url is None:
        return None
    wanted = downloads.Wanted(url=url, sha256=sha256)
    return downloads.fetch(wanted, progress=progress, limit_bytes=LIMIT_BYTES)


def published(model: str, source: str | Path) -> Weights | None:
    """The published set of `model` that `source` names, or None where it is a file or an address.

    Raises WeightsError where it names weights of another network.
    """
    name = str(source).lower()
    known = [record for record in _RECORDS if name in (record.name, record.tag)]
    fitting = [record for record in known if record.model == model]
    if known and not fitting:
        own = ", ".join(record.name for record in records(model)) or "none are published"
        raise WeightsError(
            f"{known[0].name} are weights of {known[0].model}, not of {model}.",
            f"published for {model}: {own}",
        )
    return fitting[0] if fitting else None


def _check_verifiable(published: Weights, sha256: str | None, accept_unverified: bool) -> None:
    from vertebra.machine import downloads

    accepted = sha256 or accept_unverified or downloads.known_sha256(published.url)
    if not published.is_verifiable and not accepted:
        raise WeightsError(
            f"No digest of {published.name} is published, so {published.url} can't be checked.",
            "pass its sha256, or accept_unverified=True to trust this download and check later ones by it",
        )


def _address(source: str) -> str | None:
    if addresses.is_address(source):
        return source
    if not source.startswith("hf:"):
        return None
    parts = re.fullmatch(r"hf:([\w.-]+)/([\w.-]+?)(?:@([\w.-]+))?/([\w./-]+)", source)
    if parts is None or ".." in source.split("/"):
        raise WeightsError(
            f"{source} is not a file in a Hugging Face repository.",
            "write hf:owner/repository/file.safetensors, or hf:owner/repository@revision/file.safetensors",
        )
    owner, repository, revision, file = parts.groups()
    hub = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    return f"{hub}/{owner}/{repository}/resolve/{revision or 'main'}/{file}"


def _local(model: str, source: str | Path, sha256: str | None) -> Path:
    path = files.named(source)
    if not path.exists():
        known = [name for record in records(model) for name in (record.name, record.tag)]
        if isinstance(source, str) and path.suffix.lower() not in SUFFIXES:
            raise UnknownNameError.of("weights", source, known, ", ".join(known[::2]) or f"none for {model}")
        raise WeightsError(
            f"There is no file {path}.", f"published for {model}: {', '.join(known[::2]) or 'none'}"
        )
    _check_digest(path, sha256)
    return path


def digest_of(path: Path) -> str:
    """The sha256 of a file of weights, or of those in a folder of the hub; of several files, that of the
    lines of their digests and names. Raises WeightsError."""
    from vertebra.machine import downloads
    from vertebra.zoo.checkpoints import folders

    files = folders.files(path)
    digests = [downloads.digest(file) for file in files]
    if len(files) == 1:
        return digests[0]
    lines = "".join(f"{one}  {file.name}\n" for one, file in zip(digests, files, strict=True))
    return hashlib.sha256(lines.encode()).hexdigest()


def _check_digest(path: Path, sha256: str | None) -> None:
    from vertebra.machine import downloads

    if sha256:
        downloads.Wanted(url=str(path), sha256=sha256)  # refuses anything but a digest
        found = digest_of(path)
        if not found.startswith(sha256.lower()):
            raise WeightsError(
                f"{path} has the sha256 {found}; {sha256} was expected.",
                "download it again from a source that you trust",
            )


def convert(
    model: str, arrays: Mapping[str, Any], *, dialect: str | None = None, in_channels: int = 3
) -> dict[str, Tensor]:
    """`dialects.converted`, as tensors. Raises the same, and MissingRuntimeError without torch."""
    fitting = ", ".join(record.name for record in records(model))
    state = dialects.converted(model, arrays, dialect=dialect, in_channels=in_channels, fitting=fitting)
    return _tensors(state)


def _tensors(state: Mapping[str, Array]) -> dict[str, Tensor]:
    try:
        import torch
    except ModuleNotFoundError as error:
        raise MissingRuntimeError.of("loading weights", "torch", "torch") from error
    return {name: torch.from_numpy(array) for name, array in state.items()}


def _check_classes(model: str, source: str, state: Mapping[str, Array], num_classes: int | None) -> None:
    held = len(state["head.classifier.bias"])
    if num_classes is not None and held != num_classes:
        raise WeightsError(
            f"{source} has {held} classes; {num_classes} were asked for {model}.",
            f"to fine-tune it, build with num_classes={held}, load, then reset_head({num_classes})",
        )


def _check_fit(what: str, state: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> None:
    different = [
        name
        for name in sorted(state.keys() | like.keys())
        if name not in state or name not in like or state[name].shape != like[name].shape
    ]
    if different:
        raise WeightsError(
            f"The weights don't fit {what}: {len(different)} entries differ, {dialects.listed(different)}.",
            "pass the model that the network was built as",
        )
