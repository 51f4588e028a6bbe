"""The networks measured by two comparisons, each by its name here: a literal table, read without torch.

Where a library has exactly the network, its entry is used; the others are ours, the collection `papers` of
`zoo.names`.
"""

from __future__ import annotations

from dataclasses import dataclass

from vertebra.errors import UnknownNameError


@dataclass(frozen=True)
class Entry:
    """One network of a paper. `weights` names the trained parameters with the accuracy in the paper, from
    the library before the colon; None where the paper has none, or no library has them. `note` states how
    the network here differs from the paper's.
    """

    network: str  # the name in the paper
    model: str  # as `zoo.find` takes it
    weights: str | None = None
    note: str = ""


@dataclass(frozen=True)
class Paper:
    """A comparison, and the networks that it compared."""

    name: str
    title: str
    first_author: str
    year: int
    url: str
    entries: tuple[Entry, ...]

    def models(self) -> tuple[str, ...]:
        """The networks' names here, in the paper's order."""
        return tuple(entry.model for entry in self.entries)


def _torchvision(network: str, model: str) -> Entry:
    """A network that the paper took from torchvision with its weights at that time, the first version."""
    return Entry(network, f"torchvision:{model}", f"torchvision:{model}.IMAGENET1K_V1")


def _timm(network: str, model: str, tag: str) -> Entry:
    """A network whose weights the paper and timm have from the same origin, which `tag` names."""
    return Entry(network, f"timm:{model}", f"timm:{model}.{tag}")


_OTHER_WEIGHTS = "no library has the weights of the paper"

BIANCO2018 = Paper(
    "bianco2018",
    "Benchmark Analysis of Representative Deep Neural Network Architectures",
    "Simone Bianco",
    2018,
    "https://arxiv.org/abs/1810.00736",
    (
        _torchvision("AlexNet", "alexnet"),
        Entry("BN-Inception", "bninception"),
        Entry("CaffeResNet-101", "cafferesnet101"),
        _torchvision("DenseNet-121", "densenet121"),
        _torchvision("DenseNet-169", "densenet169"),
        _torchvision("DenseNet-201", "densenet201"),
        _torchvision("DenseNet-161", "densenet161"),
        _timm("DPN-68", "dpn68", "mx_in1k"),
        _timm("DPN-98", "dpn98", "mx_in1k"),
        _timm("DPN-131", "dpn131", "mx_in1k"),
        Entry("FBResNet-152", "fbresnet152"),
        Entry("GoogLeNet", "googlenet"),
        _timm("Inception-ResNet-v2", "inception_resnet_v2", "tf_in1k"),
        _torchvision("Inception-v3", "inception_v3"),
        _timm("Inception-v4", "inception_v4", "tf_in1k"),
        Entry("MobileNet-v1", "timm:mobilenetv1_100"),
        Entry("MobileNet-v2", "mobilenetv2_expanded"),
        Entry("NASNet-A-Large", "nasnetalarge", "timm:nasnetalarge.tf_in1k"),
        Entry("NASNet-A-Mobile", "nasnetamobile"),
        _torchvision("ResNet-18", "resnet18"),
        _torchvision("ResNet-34", "resnet34"),
        _torchvision("ResNet-50", "resnet50"),
        _torchvision("ResNet-101", "resnet101"),
        _torchvision("ResNet-152", "resnet152"),
        Entry("ResNeXt-101 (32x4d)", "timm:resnext101_32x4d", note=_OTHER_WEIGHTS),
        Entry("ResNeXt-101 (64x4d)", "timm:resnext101_64x4d", note=_OTHER_WEIGHTS),
        _timm("SE-ResNet-50", "legacy_seresnet50", "in1k"),
        _timm("SE-ResNet-101", "legacy_seresnet101", "in1k"),
        _timm("SE-ResNet-152", "legacy_seresnet152", "in1k"),
        _timm("SE-ResNeXt-50 (32x4d)", "legacy_seresnext50_32x4d", "in1k"),
        _timm("SE-ResNeXt-101 (32x4d)", "legacy_seresnext101_32x4d", "in1k"),
        _timm("SENet-154", "legacy_senet154", "in1k"),
        Entry("ShuffleNet", "shufflenet_g8"),
        _torchvision("SqueezeNet-v1.0", "squeezenet1_0"),
        _torchvision("SqueezeNet-v1.1", "squeezenet1_1"),
        _torchvision("VGG-11", "vgg11"),
        _torchvision("VGG-13", "vgg13"),
        _torchvision("VGG-16", "vgg16"),
        _torchvision("VGG-19", "vgg19"),
        _torchvision("VGG-11_BN", "vgg11_bn"),
        _torchvision("VGG-13_BN", "vgg13_bn"),
        _torchvision("VGG-16_BN", "vgg16_bn"),
        _torchvision("VGG-19_BN", "vgg19_bn"),
        _timm("Xception", "legacy_xception", "tf_in1k"),
    ),
)

# Its accuracies are of Caffe's and Torch7's weights, which no library here has.
CANZIANI2016 = Paper(
    "canziani2016",
    "An Analysis of Deep Neural Network Models for Practical Applications",
    "Alfredo Canziani",
    2016,
    "https://arxiv.org/abs/1605.07678",
    (
        Entry("AlexNet", "bvlc_alexnet", note="the paper's count of operations seems to ignore the groups"),
        Entry("BN-AlexNet", "bn_alexnet"),
        Entry("BN-NIN", "bn_nin"),
        Entry(
            "ENet",
            "enet",
            note="the published encoder with one full layer; the paper's classifier, about 5.9 M parameters, "
            "was never published",
        ),
        Entry("GoogLeNet", "googlenet"),
        Entry("ResNet-18", "torchvision:resnet18"),
        Entry("VGG-16", "torchvision:vgg16"),
        Entry("VGG-19", "torchvision:vgg19"),
        Entry("ResNet-34", "torchvision:resnet34"),
        Entry("ResNet-50", "torchvision:resnet50"),
        Entry("ResNet-101", "torchvision:resnet101"),
        Entry("ResNet-152", "torchvision:resnet152"),
        Entry("Inception-v3", "timm:inception_v3"),
        Entry("Inception-v4", "timm:inception_v4"),
    ),
)

#: The comparisons by name.
PAPERS = {paper.name: paper for paper in (CANZIANI2016, BIANCO2018)}


def find(name: str) -> Paper:
    """The paper called `name`, in any case. Raises UnknownNameError."""
    paper = PAPERS.get(name.lower())
    if paper is None:
        raise UnknownNameError.of("paper", name, PAPERS, "vertebra list --help")
    return paper
