"""From a photo to the classes of the whole, and to where in it a class is seen."""

import os

import numpy as np
from PIL import Image

from tinyfcn import kernels
from tinyfcn.arrays import to_device, to_host
from tinyfcn.data.images import read_photo
from tinyfcn.data.transforms import preprocess
from tinyfcn.models import convolutionalize, prepare

# As the nets of ImageNet are tested: of the photo, its shorter side 256, the central 224.
MARGIN = 256 / 224


class Classifier:
    """A classifier made ready for photos, in its convolutional form, which does for both uses.

    Parameters
    ----------
    net : Graph
        A classifier, such as LeNet, CaffeNet or VGG16, for colour photos or for grey ones, on any
        device.

    Raises
    ------
    ValueError
        It takes other channels than red, green and blue, or grey.
    """

    def __init__(self, net):
        self.input_size = net.arguments["input_size"]
        channels = net.arguments.get("in_channels", 3)
        grey = net.preprocessing["channel_order"] == "grey"
        if channels != (1 if grey else 3):
            raise ValueError(f"takes {channels} channels; a photo has 3, or 1 if it is grey")
        self.dtype = next(array.dtype for array in net.params.values())
        self.preprocessing = net.preprocessing
        # Digits fill their image already.
        self.margin = MARGIN if channels == 3 else 1
        recast = convolutionalize(net)
        self.first, self.stride = _sampling(recast)
        self.net = prepare(recast)

    def classify(self, photo):
        """The probability of each class for the whole photo.

        A photo of the net's own size is taken as it is. Of any other the shorter side is scaled
        to 8/7 of that size (grey: to that size) and the centre is taken.

        Parameters
        ----------
        photo : str, os.PathLike or (h, w, 3) uint8
            An image file, or its pixels: red, green, blue.

        Returns
        -------
        (classes,) float
            They sum to 1.

        Raises
        ------
        tinyfcn.data.images.ImageError
            The file cannot be read.
        ValueError
            The scores are not finite.
        """
        photo = _pixels(photo)
        if photo.shape[:2] != (self.input_size, self.input_size):
            photo = _scaled(photo, round(self.input_size * self.margin))
            top, left = ((n - self.input_size) // 2 for n in photo.shape[:2])
            photo = photo[top:top + self.input_size, left:left + self.input_size]
        return self._probabilities(photo)[0, 0]

    def heat_map(self, photo, index):
        """The probability of one class around every pixel.

        The net slides over the photo at its own scale, however large it is; only a photo smaller
        than the net's own images is enlarged. Between the places where the net looks, the map is
        interpolated.

        Parameters
        ----------
        photo : str, os.PathLike or (h, w, 3) uint8
        index : int
            Of the class.

        Returns
        -------
        (h, w) float
        """
        photo = _pixels(photo)
        h, w, _ = photo.shape
        if min(h, w) < self.input_size:
            photo = _scaled(photo, self.input_size)
        coarse = self._probabilities(photo)[:, :, index]
        rows = self._positions(h, photo.shape[0], coarse.shape[0])
        columns = self._positions(w, photo.shape[1], coarse.shape[1])
        return _interpolate(_interpolate(coarse, *rows).T, *columns).T

    def _probabilities(self, photo):
        x = preprocess(photo, self.preprocessing, self.dtype)
        scores = self.net.forward(to_device(x[None], self.net.device))
        probabilities = to_host(kernels.backend(scores).softmax(scores))[0]
        if not np.isfinite(probabilities).all():
            raise ValueError("the net's scores for this photo are not finite")
        return probabilities

    def _positions(self, size, scaled_size, count):
        """For each of `size` pixels the number of the map it lies at, and how far beyond it."""
        centres = (np.arange(size) + 0.5) * (scaled_size / size) - 0.5
        places = np.clip((centres - self.first) / self.stride, 0, count - 1)
        at = np.minimum(places.astype(int), max(0, count - 2))
        return at, np.minimum(at + 1, count - 1), places - at


def _sampling(net):
    """The pixel that the first number of the net's map is centred on, and the pixels to the next.

    A window of k taps that begins p numbers before a map is centred on (k - 1) / 2 - p.
    """
    first, stride = 0.0, 1
    for layer in net.layers.values():
        geometry = getattr(layer, "geometry", {})
        if "stride" in geometry:
            kernel = geometry.get("kernel_size") or layer.kernel_size
            first += ((kernel[0] - 1) / 2 - geometry["padding"][0]) * stride
            stride *= geometry["stride"][0]
    return first, stride


def _pixels(photo):
    if isinstance(photo, (str, bytes, os.PathLike)):
        photo = read_photo(photo)
    photo = np.asarray(photo)
    if photo.dtype != np.uint8:
        raise TypeError(f"a photo's pixels are uint8, 0..255; these are {photo.dtype}")
    if photo.ndim != 3 or photo.shape[2] != 3 or photo.size == 0:
        raise ValueError(f"a photo is (h, w, 3) with h, w >= 1; this has the shape {photo.shape}")
    return photo


def _scaled(photo, shorter):
    """Scale a photo so that its shorter side has so many pixels."""
    h, w, _ = photo.shape
    factor = shorter / min(h, w)
    size = max(shorter, round(w * factor)), max(shorter, round(h * factor))
    return np.asarray(Image.fromarray(photo).resize(size, Image.Resampling.BILINEAR))


def _interpolate(rows, low, high, share):
    share = share[:, None].astype(rows.dtype)
    return rows[low] * (1 - share) + rows[high] * share
