"""The nets, as tables of layers."""

from .alexnet import AlexNet, AlexNetSingleTower, CaffeNet
from .convolutionalization import convolutionalize
from .fcn import FCN8s, FCN8sAtOnce, FCN16s, FCN32s
from .fcn_alexnet import FCNAlexNet
from .folding import fold_batch_norm
from .initialization import he_normal
from .lenet import LeNet
from .preparation import prepare
from .vgg import VGG11, VGG13, VGG16, VGG19

CLASSIFIERS = {
    "lenet": LeNet,
    "alexnet": AlexNet,
    "caffenet": CaffeNet,
    "alexnet-single-tower": AlexNetSingleTower,
    "vgg11": VGG11,
    "vgg13": VGG13,
    "vgg16": VGG16,
    "vgg19": VGG19,
}
SEGMENTERS = {
    "fcn32s": FCN32s,
    "fcn16s": FCN16s,
    "fcn8s": FCN8s,
    "fcn8s-atonce": FCN8sAtOnce,
    "fcn_alexnet": FCNAlexNet,
}
BY_NAME = {**CLASSIFIERS, **SEGMENTERS}

__all__ = [
    "AlexNet",
    "AlexNetSingleTower",
    "BY_NAME",
    "CLASSIFIERS",
    "CaffeNet",
    "FCN8s",
    "FCN8sAtOnce",
    "FCN16s",
    "FCN32s",
    "FCNAlexNet",
    "LeNet",
    "SEGMENTERS",
    "VGG11",
    "VGG13",
    "VGG16",
    "VGG19",
    "convolutionalize",
    "fold_batch_norm",
    "he_normal",
    "prepare",
]
