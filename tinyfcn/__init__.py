"""Fully convolutional networks for semantic segmentation, written from scratch.

    net = tinyfcn.models.FCN8s(classes=21)
    tinyfcn.load_weights(net, "weights.h5")
    result = tinyfcn.inference.segment(net, "photo.jpg")

Submodules are imported when they are first used, so that `import tinyfcn` stays fast.
"""
import importlib
import os

__version__ = "0.1.0"

# In a checkout kernels/ and weights/ lie beside this folder; installed, inside it.
if not os.path.isdir(os.path.join(__path__[0], "kernels")):
    __path__.append(os.path.dirname(__path__[0]))

_SUBMODULES = frozenset({
    "arrays", "benchmarks", "checking", "classification", "comparison", "confusion", "console",
    "data", "descriptions", "drawing", "evaluation", "gradient_check", "graph", "inference",
    "kernels", "layers", "loading", "losses", "metrics", "models", "optimizers", "origins",
    "panels", "peers", "photos", "reports", "segmenters", "training", "weights",
})
_FUNCTIONS = {
    "convolutionalize": "models",
    "load_weights": "loading",
    "load_model": "loading",
    "save_model": "loading",
    "set_threads": "kernels.cpu.threads",
    "WeightsError": "weights",
}


def __getattr__(name):
    if name in _FUNCTIONS:
        value = getattr(importlib.import_module(f"{__name__}.{_FUNCTIONS[name]}"), name)
        globals()[name] = value
        return value
    if name in _SUBMODULES:
        module = f"{__name__}.{name}"
        try:
            return importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name != module:
                raise
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *_SUBMODULES, *_FUNCTIONS})
