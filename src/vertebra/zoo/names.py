"""Which networks exist, and what each one is: a literal table, read without torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from vertebra.errors import UnknownNameError

#: Sources with networks that are files, which engines open, and not torch modules.
FILES = ("onnx", "paddle")


@dataclass(frozen=True, kw_only=True)
class Family:
    """What the variants of one architecture share: the paper, its idea, and its place in history.

    What another library doesn't state about its networks is empty, or None.
    """

    family: str
    title: str
    first_author: str
    year: int | None
    url: str
    arxiv_id: str | None
    further: str | None  # a second paper that this network follows
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
    source: str = (
        "vertebra"  # where it is from: "vertebra", "timm", "torchvision"; "onnx", "paddle" for a file
    )
    collection: str = (
        ""  # of ours, why it is here: as one of the "classics", or for the "papers" (`zoo.papers`)
    )

    @property
    def is_file(self) -> bool:
        """Whether it is a file that engines open, and not a torch module."""
        return self.source in FILES


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
    "networks dropped.",
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
    "replaces fully connected layers.",
    place="It showed that AlexNet's accuracy needs only a fiftieth of AlexNet's parameters, and opened the "
    "line of networks made for small devices. Version 1.1, from the authors, moves the pools forward and "
    "needs 2.4 times less computation at the same accuracy.",
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
    place="Second in classification and first in localisation at ILSVRC 2014. Its simplicity made it the "
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
    "author's RepVGG (2021) extended the idea to whole networks.",
)

ACNET_DEPLOY = replace(
    ACNET,
    idea="The fused form of an ACNet: each asymmetric block has become one square convolution with a bias. "
    "It gives the same outputs as the network that was trained, at the cost of a plain ResNet.",
)


NIN = Family(
    family="NIN",
    title="Network In Network",
    first_author="Min Lin",
    year=2013,
    url="https://arxiv.org/abs/1312.4400",
    arxiv_id="1312.4400",
    further="Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate Shift, "
    "Ioffe 2015, arXiv 1502.03167: the norms of this form",
    idea="Two 1x1 convolutions after each larger one form a small network that slides over the picture, and "
    "an average over each map replaces full layers.",
    place="Nearly every network since uses the 1x1 convolution and the global average pool. The form "
    "with batch norms is one of the fourteen that Canziani compared in 2016.",
)

GOOGLENET = Family(
    family="GoogLeNet",
    title="Going Deeper with Convolutions",
    first_author="Christian Szegedy",
    year=2014,
    url="https://arxiv.org/abs/1409.4842",
    arxiv_id="1409.4842",
    further=None,
    idea="Inception modules: 1x1, 3x3 and 5x5 convolutions and a pool side by side, each made cheap by a 1x1 "
    "convolution that narrows its input.",
    place="It won classification at ILSVRC 2014, by its authors' count with a twelfth of AlexNet's "
    "parameters, and began the Inception line: BN-Inception, Inception-v3 and v4, Xception.",
)

BNINCEPTION = Family(
    family="BN-Inception",
    title="Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate Shift",
    first_author="Sergey Ioffe",
    year=2015,
    url="https://arxiv.org/abs/1502.03167",
    arxiv_id="1502.03167",
    further="Going Deeper with Convolutions, Szegedy 2014, arXiv 1409.4842: the network underneath",
    idea="Each layer's outputs are brought to zero mean and unit variance over the batch, which allows high "
    "learning rates; two 3x3 convolutions replace each 5x5.",
    place="It was the first network to train with batch normalisation, which nearly every convolutional "
    "network adopted. Still a common backbone of video and metric learning.",
)

RESNET = Family(
    family="ResNet",
    title="Deep Residual Learning for Image Recognition",
    first_author="Kaiming He",
    year=2015,
    url="https://arxiv.org/abs/1512.03385",
    arxiv_id="1512.03385",
    further=None,
    idea="Each block adds its output to its input, so that it only has to learn a difference, and "
    "a hundred layers and more train as easily as ten.",
    place="It won ILSVRC 2015 with 152 layers, and others are compared with it to this day.",
)

ENET = Family(
    family="ENet",
    title="ENet: A Deep Neural Network Architecture for Real-Time Semantic Segmentation",
    first_author="Adam Paszke",
    year=2016,
    url="https://arxiv.org/abs/1606.02147",
    arxiv_id="1606.02147",
    further=None,
    idea="Shrink the picture at once, then narrow bottlenecks whose 3x3 convolutions are plain, dilated, or "
    "split into a row and a column.",
    place="One of the first segmentation networks made for embedded devices. Only its encoder is here, "
    "with a classifier; the larger one that Canziani compared was never published as a definition.",
)

NASNET = Family(
    family="NASNet",
    title="Learning Transferable Architectures for Scalable Image Recognition",
    first_author="Barret Zoph",
    year=2017,
    url="https://arxiv.org/abs/1707.07012",
    arxiv_id="1707.07012",
    further=None,
    idea="Two cells, found by a search on small pictures, are stacked into a network of any size: one keeps "
    "the size, one halves it.",
    place="More accurate on ImageNet than every hand-designed network of its time, and the beginning of "
    "architecture search at this scale. Its cells are many small layers, which some processors run slowly.",
)

SHUFFLENET = Family(
    family="ShuffleNet",
    title="ShuffleNet: An Extremely Efficient Convolutional Neural Network for Mobile Devices",
    first_author="Xiangyu Zhang",
    year=2017,
    url="https://arxiv.org/abs/1707.01083",
    arxiv_id="1707.01083",
    further=None,
    idea="1x1 convolutions are divided into groups, and the channels shuffled after them so that the groups "
    "exchange information.",
    place="Made for phones of 10 to 150 million multiplications a picture. Version 2 (2018) dropped groups, "
    "because memory traffic was found to cost as much as multiplications.",
)

MOBILENETV2 = Family(
    family="MobileNetV2",
    title="MobileNetV2: Inverted Residuals and Linear Bottlenecks",
    first_author="Mark Sandler",
    year=2018,
    url="https://arxiv.org/abs/1801.04381",
    arxiv_id="1801.04381",
    further=None,
    idea="Blocks widen, filter each channel by itself and narrow again, and the shortcut joins the narrow "
    "ends, which have no activation.",
    place="The block of MobileNetV3, EfficientNet and most mobile networks since. The one here keeps a 1x1 "
    "convolution in the first block that most implementations omit.",
)


def _member(
    family: Family,
    address: str,
    *aliases: str,
    input_size: int = 224,
    min_size: int = 1,
    collection: str = "further",
) -> Model:
    module, name = address.split(":")
    return Model(
        **vars(family),
        name=name,
        builder=f"vertebra.zoo.{module}:{name}",
        aliases=aliases,
        input_size=input_size,
        min_size=min_size,
        collection=collection,
    )


_classic = partial(_member, collection="classics")
_paper = partial(_member, collection="papers")


_MODELS = (
    _classic(ALEXNET, "alexnet:alexnet", "AlexNet", min_size=63),
    _classic(SQUEEZENET, "squeezenet:squeezenet1_0", "SqueezeNet1_0", "SqueezeNet-1.0", min_size=35),
    _classic(SQUEEZENET, "squeezenet:squeezenet1_1", "SqueezeNet1_1", "SqueezeNet-1.1", min_size=29),
    _classic(VGG, "vgg:vgg11", "VGG11", "VGG-11", min_size=32),
    _classic(VGG, "vgg:vgg13", "VGG13", "VGG-13", min_size=32),
    _classic(VGG, "vgg:vgg16", "VGG16", "VGG-16", min_size=32),
    _classic(VGG, "vgg:vgg19", "VGG19", "VGG-19", min_size=32),
    _classic(DARKNET, "darknet:darknet53", "DarkNet53", "Darknet-53", input_size=256),
    _classic(SENET, "senet:senet154_vd", "SENet154_vd"),
    _classic(ACNET, "acnet:resnet50_acnet", "ResNet50_ACNet"),
    _classic(ACNET_DEPLOY, "acnet:resnet50_acnet_deploy", "ResNet50_ACNet_deploy"),
    _member(ACNET, "acnet:resnet18_acnet", "ResNet18_ACNet"),
    _member(ACNET_DEPLOY, "acnet:resnet18_acnet_deploy", "ResNet18_ACNet_deploy"),
    _member(ACNET, "acnet:resnet34_acnet", "ResNet34_ACNet"),
    _member(ACNET_DEPLOY, "acnet:resnet34_acnet_deploy", "ResNet34_ACNet_deploy"),
    _member(ACNET, "acnet:resnet101_acnet", "ResNet101_ACNet"),
    _member(ACNET_DEPLOY, "acnet:resnet101_acnet_deploy", "ResNet101_ACNet_deploy"),
    _member(ACNET, "acnet:resnet152_acnet", "ResNet152_ACNet"),
    _member(ACNET_DEPLOY, "acnet:resnet152_acnet_deploy", "ResNet152_ACNet_deploy"),
    _paper(ALEXNET, "alexnet:bvlc_alexnet", "BVLC-AlexNet", input_size=227, min_size=67),
    _paper(ALEXNET, "alexnet:bn_alexnet", "BN-AlexNet", input_size=227, min_size=63),
    _paper(NIN, "nin:bn_nin", "BN-NIN"),
    _paper(GOOGLENET, "googlenet:googlenet", "GoogLeNet", "Inception-v1", min_size=31),
    _paper(BNINCEPTION, "bninception:bninception", "BN-Inception", "Inception-v2", min_size=7),
    _paper(RESNET, "resnet:cafferesnet101", "CaffeResNet-101", min_size=3),
    _paper(RESNET, "resnet:fbresnet152", "FBResNet-152"),
    _paper(ENET, "enet:enet", "ENet", min_size=7),
    _paper(NASNET, "nasnet:nasnetamobile", "NASNet-A-Mobile", min_size=3),
    _paper(NASNET, "nasnet:nasnetalarge", "NASNet-A-Large", input_size=331, min_size=3),
    _paper(SHUFFLENET, "shufflenet:shufflenet_g8", "ShuffleNet", "ShuffleNet-v1-g8"),
    _paper(MOBILENETV2, "mobilenet:mobilenetv2_expanded", "MobileNetV2-expanded"),
)

#: What `vertebra survey` measures by default.
CLASSICS = tuple(model.name for model in _MODELS if model.collection == "classics")

_BY_SPELLING = {spelling.lower(): model for model in _MODELS for spelling in (model.name, *model.aliases)}


def models() -> tuple[Model, ...]:
    """Every network, the classics first, those of the papers last."""
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
