"""Which networks exist, and what each one is: a literal table, read without torch."""

from __future__ import annotations

from dataclasses import dataclass, replace

from vertebra.errors import UnknownNameError


@dataclass(frozen=True, kw_only=True)
class Family:
    """What the variants of one architecture share: the paper, its idea, and its place in history.

    What another library doesn't tell of its networks is empty, or None.
    """

    family: str
    title: str
    first_author: str
    year: int | None
    url: str
    arxiv_id: str | None
    further: str | None  # a second paper that this form follows
    idea: str
    place: str


@dataclass(frozen=True, kw_only=True)
class Model(Family):
    """One named network. Sizes are the side of a square input in pixels."""

    name: str
    builder: (
        str  # "module:function"; of another library's networks "vertebra.zoo:build", which takes the name
    )
    aliases: tuple[str, ...]  # other spellings, the published one first
    input_size: int  # what the published figures were taken at
    min_size: int  # the smallest that works, 1 where that isn't known
    fixed_size: bool = False  # whether `input_size` is the only one that works
    source: str = "vertebra"  # whose it is: "vertebra", "timm", "torchvision", or "onnx" for a file


ALEXNET = Family(
    family="AlexNet",
    title="ImageNet Classification with Deep Convolutional Neural Networks",
    first_author="Alex Krizhevsky",
    year=2012,
    url="https://papers.nips.cc/paper_files/paper/2012/hash/c399862d3b9d6b76c8436e924a68c45b-Abstract.html",
    arxiv_id=None,
    further="One weird trick for parallelizing convolutional neural networks, Krizhevsky 2014, "
    "arXiv 1404.5997: the single-column form built here",
    idea="Five convolutions and three fully connected layers, made trainable on a million photographs by "
    "rectified linear units, dropout, heavy augmentation and graphics processors.",
    place="Its win at ILSVRC 2012, with 15.3 % top-5 error against the runner-up's 26.2 %, turned computer "
    "vision to deep learning. Nearly all its parameters sit in the fully connected layers, which later "
    "networks did away with.",
)

SQUEEZENET = Family(
    family="SqueezeNet",
    title="SqueezeNet: AlexNet-level accuracy with 50x fewer parameters and <0.5MB model size",
    first_author="Forrest N. Iandola",
    year=2016,
    url="https://arxiv.org/abs/1602.07360",
    arxiv_id="1602.07360",
    further=None,
    idea="Fire modules: a 1x1 convolution squeezes the channels, then 1x1 and 3x3 convolutions side by side "
    "expand them. Pools come late, to keep feature maps large, and a convolution with a global average "
    "takes the place of fully connected layers.",
    place="It showed that AlexNet's accuracy needs only a fiftieth of AlexNet's parameters, and opened the "
    "line of networks made for small devices. Version 1.1, from the authors, moves the pools forward and "
    "computes 2.4 times less at the same accuracy.",
)

VGG = Family(
    family="VGG",
    title="Very Deep Convolutional Networks for Large-Scale Image Recognition",
    first_author="Karen Simonyan",
    year=2014,
    url="https://arxiv.org/abs/1409.1556",
    arxiv_id="1409.1556",
    further=None,
    idea="Nothing but 3x3 convolutions, stacked deep: two see as far as one 5x5 and three as far as one 7x7, "
    "with fewer parameters and more nonlinearities.",
    place="Second in classification and first in localisation at ILSVRC 2014. Its plainness made it the "
    "feature extractor of early detection, segmentation and style transfer; its size and cost "
    "made it the yardstick that efficient networks are measured against.",
)

DARKNET = Family(
    family="DarkNet",
    title="YOLOv3: An Incremental Improvement",
    first_author="Joseph Redmon",
    year=2018,
    url="https://arxiv.org/abs/1804.02767",
    arxiv_id="1804.02767",
    further=None,
    idea="Residual pairs of a 1x1 and a 3x3 convolution, with strided convolutions in place of pools: simple "
    "layers that keep a graphics processor busy.",
    place="The backbone of the detector YOLOv3; its author found it as accurate as ResNet-152 at about twice "
    "the speed. The cross-stage backbones of YOLOv4 and after grew from it.",
)

SENET = Family(
    family="SENet",
    title="Squeeze-and-Excitation Networks",
    first_author="Jie Hu",
    year=2017,
    url="https://arxiv.org/abs/1709.01507",
    arxiv_id="1709.01507",
    further="Bag of Tricks for Image Classification with Convolutional Neural Networks, He 2018, "
    "arXiv 1812.01187: the stem and shortcuts of the _vd form",
    idea="Each block averages every channel over the image, and two small layers turn those averages into "
    "weights that scale the channels: attention over channels. The _vd form adds a stem of three "
    "convolutions and average pools in the shortcuts, which lose nothing when the stride is 2.",
    place="SENets won the last ILSVRC classification contest, in 2017, with 2.251 % top-5 error. "
    "Squeeze-and-excitation has since become an ordinary part, in MobileNetV3 and EfficientNet among others.",
)

ACNET = Family(
    family="ACNet",
    title="ACNet: Strengthening the Kernel Skeletons for Powerful CNN via Asymmetric Convolution Blocks",
    first_author="Xiaohan Ding",
    year=2019,
    url="https://arxiv.org/abs/1908.03930",
    arxiv_id="1908.03930",
    further="Deep Residual Learning for Image Recognition, He 2015, arXiv 1512.03385: the ResNet underneath",
    idea="In training, every square convolution is joined by a vertical and a horizontal one, whose sum "
    "strengthens the middle row and column of the kernel. Convolution is linear, so "
    "the three fuse into one afterwards.",
    place="An early structural re-parameterisation: more branches to train, none to run. The same first "
    "author's RepVGG (2021) carried the thought to whole networks.",
)

ACNET_DEPLOY = replace(
    ACNET,
    idea="The fused form of an ACNet: each asymmetric block has become one square convolution with a bias. "
    "It gives the same outputs as the network that was trained, at the cost of a plain ResNet.",
)


def _member(family: Family, address: str, *aliases: str, input_size: int = 224, min_size: int = 1) -> Model:
    module, name = address.split(":")
    return Model(
        **vars(family),
        name=name,
        builder=f"vertebra.zoo.{module}:{name}",
        aliases=aliases,
        input_size=input_size,
        min_size=min_size,
    )


_MODELS = (
    _member(ALEXNET, "alexnet:alexnet", "AlexNet", min_size=63),
    _member(SQUEEZENET, "squeezenet:squeezenet1_0", "SqueezeNet1_0", "SqueezeNet-1.0", min_size=35),
    _member(SQUEEZENET, "squeezenet:squeezenet1_1", "SqueezeNet1_1", "SqueezeNet-1.1", min_size=29),
    _member(VGG, "vgg:vgg11", "VGG11", "VGG-11", min_size=32),
    _member(VGG, "vgg:vgg13", "VGG13", "VGG-13", min_size=32),
    _member(VGG, "vgg:vgg16", "VGG16", "VGG-16", min_size=32),
    _member(VGG, "vgg:vgg19", "VGG19", "VGG-19", min_size=32),
    _member(DARKNET, "darknet:darknet53", "DarkNet53", "Darknet-53", input_size=256),
    _member(SENET, "senet:senet154_vd", "SENet154_vd"),
    _member(ACNET, "acnet:resnet50_acnet", "ResNet50_ACNet"),
    _member(ACNET_DEPLOY, "acnet:resnet50_acnet_deploy", "ResNet50_ACNet_deploy"),
    _member(ACNET, "acnet:resnet18_acnet", "ResNet18_ACNet"),
    _member(ACNET_DEPLOY, "acnet:resnet18_acnet_deploy", "ResNet18_ACNet_deploy"),
    _member(ACNET, "acnet:resnet34_acnet", "ResNet34_ACNet"),
    _member(ACNET_DEPLOY, "acnet:resnet34_acnet_deploy", "ResNet34_ACNet_deploy"),
    _member(ACNET, "acnet:resnet101_acnet", "ResNet101_ACNet"),
    _member(ACNET_DEPLOY, "acnet:resnet101_acnet_deploy", "ResNet101_ACNet_deploy"),
    _member(ACNET, "acnet:resnet152_acnet", "ResNet152_ACNet"),
    _member(ACNET_DEPLOY, "acnet:resnet152_acnet_deploy", "ResNet152_ACNet_deploy"),
)

CLASSICS = (
    "alexnet",
    "squeezenet1_0",
    "squeezenet1_1",
    "vgg11",
    "vgg13",
    "vgg16",
    "vgg19",
    "darknet53",
    "senet154_vd",
    "resnet50_acnet",
    "resnet50_acnet_deploy",
)

_BY_SPELLING = {spelling.lower(): model for model in _MODELS for spelling in (model.name, *model.aliases)}


def models() -> tuple[Model, ...]:
    """Every network, the classics first."""
    return _MODELS


def find(name: str) -> Model:
    """The network called `name`, in any case and any published spelling.

    >>> find("SqueezeNet1_0").name
    'squeezenet1_0'

    Raises UnknownNameError.
    """
    model = _BY_SPELLING.get(name.lower())
    if model is None:
        raise UnknownNameError.of("model", name, [model.name for model in _MODELS], "vertebra list")
    return model
