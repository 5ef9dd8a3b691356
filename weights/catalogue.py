"""Weight files that are known in the world: where they lie, their hashes, what may be done.

Addresses and hashes are those that the files' authors or the libraries that use them publish.
Where no whole hash is published, or a page with a button stands before the file, it has to be
fetched by hand; it is checked as far as it can be. A size is stated where it is known to the byte:
from progress bars and listings of those who fetched the file, or from a library that checks it.
"""
import hashlib
import os
from typing import NamedTuple

from tinyfcn.weights.errors import weights_error

__all__ = ["FILES", "KnownFile", "cache_folder", "check"]

_CAFFE_FCN = "http://dl.caffe.berkeleyvision.org/"
_OXFORD = "https://www.robots.ox.ac.uk/~vgg/software/very_deep/caffe/"
_PYTORCH = "https://download.pytorch.org/models/"
_DRIVE = "https://drive.google.com/uc?id="
_KERAS = "https://github.com/fchollet/deep-learning-models/releases/download/v0.1/"
_MATCONVNET = "https://www.vlfeat.org/matconvnet/models/"
_CHAINER = "https://github.com/wkentaro/fcn"
UNKNOWN = "not stated"
_VGG_LICENCE = "CC BY 4.0 (VGG's authors)"


class KnownFile(NamedTuple):
    """One file.

    Attributes
    ----------
    name : str
        Of the entry: what `fetch` takes.
    about : str
    url : str
        Of the file, or of the page from which it is fetched by hand.
    file : str
        Its name in the cache.
    hash : str or None
        "sha256:...", "sha1:..." or "md5:..."; a beginning of one, where no more is published.
    size : int or None
        In bytes.
    licence : str
    by_hand : bool
        It cannot be fetched by a program.
    """

    name: str
    about: str
    url: str
    file: str
    hash: str | None = None
    size: int | None = None
    licence: str = UNKNOWN
    by_hand: bool = False

    @property
    def manual(self):
        """Whether a user has to fetch it: nothing is used unchecked."""
        algorithm, _, digest = (self.hash or "").partition(":")
        return self.by_hand or not digest \
            or len(digest) != 2 * hashlib.new(algorithm).digest_size


def _caffe_fcn(name, about, digest=None):
    file = f"{name}-pascal.caffemodel"
    return KnownFile(f"{name.replace('-heavy', '')}-caffe", about, _CAFFE_FCN + file, file, digest)


def _drive(name, about, key, file, md5):
    return KnownFile(name, about, _DRIVE + key, file, f"md5:{md5}", by_hand=True)


def _chainer(name, about, md5):
    return KnownFile(f"{name}-chainer", about + ", for chainer", _CHAINER,
                     f"{name}_from_caffe.npz", f"md5:{md5}", by_hand=True)


def _matconvnet_fcn(name, md5):
    return KnownFile(f"{name}-matconvnet", f"{name.upper()} of the CVPR paper, for MatConvNet",
                     f"{_MATCONVNET}pascal-{name}-dag.mat", f"pascal-{name}-dag.mat", f"md5:{md5}")


_ALL = (
    KnownFile("vgg16-caffe", "VGG-16, as its authors published it",
              _OXFORD + "VGG_ILSVRC_16_layers.caffemodel", "VGG_ILSVRC_16_layers.caffemodel",
              "sha1:9363e1f6d65f7dba68c4f27a1e62105cdf6c4e24", 553_432_081, _VGG_LICENCE),
    _caffe_fcn("fcn8s-heavy", "FCN-8s for PASCAL VOC, by FCN's authors",
               "sha1:c449ea74dd7d83751d1357d6a8c323fcf4038962"),
    _caffe_fcn("fcn32s-heavy", "FCN-32s for PASCAL VOC, by FCN's authors",
               "sha1:05eb922d7829c39448f57e5ab9d8cd75d6c0be6d"),
    _caffe_fcn("fcn16s-heavy", "FCN-16s for PASCAL VOC, by FCN's authors"),
    _caffe_fcn("fcn8s-atonce", "FCN-8s at once for PASCAL VOC, by FCN's authors"),
    _caffe_fcn("fcn-alexnet", "FCN-AlexNet for PASCAL VOC, by FCN's authors"),
    KnownFile("vgg16-torchvision", "VGG-16, trained by torchvision",
              _PYTORCH + "vgg16-397923af.pth", "vgg16-397923af.pth",
              "sha256:397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
              553_433_881, "BSD-3-Clause (torchvision)"),
    KnownFile("vgg16-features-torchvision", "VGG-16's convolutions by its authors, the rest NaN",
              _PYTORCH + "vgg16_features-amdegroot-88682ab5.pth",
              "vgg16_features-amdegroot-88682ab5.pth", "sha256:88682ab5",
              licence="BSD-3-Clause (torchvision)"),
    KnownFile("vgg16-timm", "torchvision's VGG-16, for timm",
              "https://huggingface.co/timm/vgg16.tv_in1k/resolve/main/model.safetensors",
              "timm-vgg16.tv_in1k.safetensors",
              "sha256:57b026918159a6bf9faf8405c3a551903768e7138989d9c6224a14227203fad8",
              licence="BSD-3-Clause (timm's card)"),
    KnownFile("vgg16-keras", "VGG-16, for Keras",
              _KERAS + "vgg16_weights_tf_dim_ordering_tf_kernels.h5",
              "vgg16_weights_tf_dim_ordering_tf_kernels.h5",
              "md5:64373286793e3c8b2b4e3219cbf3544b", 553_467_096, _VGG_LICENCE),
    KnownFile("vgg16-notop-keras", "VGG-16's convolutions, for Keras",
              _KERAS + "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
              "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
              "md5:6d6bbae143d832006294945121d1f1fc", 58_889_256, _VGG_LICENCE),
    KnownFile("vgg16-matconvnet", "VGG-16, for MatConvNet",
              _MATCONVNET + "imagenet-vgg-verydeep-16.mat", "imagenet-vgg-verydeep-16.mat",
              "md5:f72d927587ca4c97fbd165ec9cb9997f", licence=_VGG_LICENCE),
    _matconvnet_fcn("fcn32s", "a1331885ec72a0721e51ac9d16262a48"),
    _matconvnet_fcn("fcn16s", "2e49dd427829cdbc08a0154f994687d7"),
    _matconvnet_fcn("fcn8s", "0eeb6a4bc819616ea66f88a3db878983"),
    _drive("vgg16-pytorch-fcn", "VGG-16 by its authors, for pytorch-fcn",
           "1adDBTGY3GcEB_47dvcibajyzi872RAs3", "vgg16_from_caffe.pth",
           "aa75b158f4181e7f6230029eb96c1b13"),
    _drive("fcn32s-pytorch-fcn", "FCN-32s by its authors, for pytorch-fcn",
           "11k2Q0bvRQgQbT6-jYWeh6nmAsWlSCY3f", "fcn32s_from_caffe.pth",
           "d3eb467a80e7da0468a20dfcbc13e6c8"),
    _drive("fcn16s-pytorch-fcn", "FCN-16s by its authors, for pytorch-fcn",
           "1bctu58B6YH9bu6lBBSBB2rUeGlGhYLoP", "fcn16s_from_caffe.pth",
           "a2d4035f669f09483b39c9a14a0d6670"),
    _drive("fcn8s-pytorch-fcn", "FCN-8s by its authors, for pytorch-fcn",
           "1ieXWyoG68xqoHJPWdyrDyaIaaWlfmUxI", "fcn8s_from_caffe.pth",
           "de93e540ec79512f8770033849c8ae89"),
    _drive("fcn8s-atonce-pytorch-fcn", "FCN-8s at once by its authors, for pytorch-fcn",
           "0B9P1L--7Wd2vblE1VUIxV1o2d2M", "fcn8s-atonce_from_caffe.pth",
           "bfed4437e941fef58932891217fe6464"),
    _chainer("vgg16", "VGG-16 by its authors", "54a0cddc1392ccc4056bbeecbb30f3d4"),
    _chainer("fcn32s", "FCN-32s by its authors", "b7f0a2e66229ccdb099c0a60b432e8cf"),
    _chainer("fcn16s", "FCN-16s by its authors", "7c9b50a1a8c6c20d3855d4823bbea61e"),
    _chainer("fcn8s", "FCN-8s by its authors", "256c2a8235c1c65e62e48d3284fbd384"),
    _chainer("fcn8s-atonce", "FCN-8s at once by its authors", "5f3ffdc7fae1066606e1ef45cfda548f"),
    KnownFile("vgg16-tensorflow", "VGG-16 by its authors, for tensorflow-vgg",
              "https://github.com/machrisaa/tensorflow-vgg", "vgg16.npy",
              "sha1:6206897b35c2bfe5d9d16b83314e44fc3ea83b1c", by_hand=True),
    KnownFile("vgg16-frossard", "VGG-16, for TensorFlow, by Frossard",
              "https://www.cs.toronto.edu/~frossard/vgg16/vgg16_weights.npz", "vgg16_weights.npz",
              size=553_436_134),
)
FILES = {file.name: file for file in _ALL}


def cache_folder():
    """The folder of fetched files: "weights" below TINYFCN_HOME, or in the system's cache."""
    home = os.environ.get("TINYFCN_HOME")
    if not home:
        try:
            from pooch import os_cache
        except ImportError:
            home = os.path.join(os.path.expanduser("~"), ".cache", "tinyfcn")
        else:
            home = os.fspath(os_cache("tinyfcn"))
    return os.path.join(home, "weights")


def check(path, known):
    """Check a file against the size and hash that are known of it.

    Returns
    -------
    str
        What was checked, in words; empty if nothing is known.

    Raises
    ------
    WeightsError
        It is another file, or a damaged one.
    """
    checked = []
    size = os.stat(path).st_size
    if known.size is not None:
        if size != known.size:
            raise weights_error(path, f"has {size} bytes, {known.name} has {known.size}")
        checked.append("size")
    if known.hash is not None:
        algorithm, _, wanted = known.hash.partition(":")
        digest = hashlib.new(algorithm)
        with open(path, "rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
        if not digest.hexdigest().startswith(wanted):
            raise weights_error(path, f"is not {known.name}, or damaged: its {algorithm} is "
                                      f"{digest.hexdigest()}, not {wanted}")
        checked.append(algorithm if not known.manual or known.by_hand
                       else f"beginning of {algorithm}")
    return " and ".join(checked)
