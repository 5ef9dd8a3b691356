"""The nets, as tables of layers."""

from .fcn import FCN8s, FCN8sAtOnce, FCN16s, FCN32s
from .folding import fold_batch_norm
from .initialization import he_normal
from .preparation import prepare
from .vgg import VGG16

BY_NAME = {
    "vgg16": VGG16,
    "fcn32s": FCN32s,
    "fcn16s": FCN16s,
    "fcn8s": FCN8s,
    "fcn8s-atonce": FCN8sAtOnce,
}

__all__ = [
    "BY_NAME",
    "FCN8s",
    "FCN8sAtOnce",
    "FCN16s",
    "FCN32s",
    "VGG16",
    "fold_batch_norm",
    "he_normal",
    "prepare",
]
