"""How often the classes of a data set occur."""

import numpy as np


class ClassStatistics:
    """Counts of labels, image after image.

    Attributes
    ----------
    images : int
    pixels : array (classes,) of int
        Of each class.
    shown_in : array (classes,) of int
        Images that show the class.
    ignored : int
        Pixels of the ignored label.
    ignored_in : int
        Images that hold some.
    total : int
        Pixels of all images.
    """

    def __init__(self, classes, ignore_label):
        self.ignore_label = ignore_label
        self.images = self.ignored = self.ignored_in = self.total = 0
        self.pixels, self.shown_in, self._shown_among = np.zeros((3, classes), np.int64)

    def add(self, histogram):
        """Count an image by its number of pixels of each label, an array (256,) of ints."""
        counts = histogram[:len(self.pixels)].copy()
        if self.ignore_label < len(counts):
            counts[self.ignore_label] = 0
        ignored, total = int(histogram[self.ignore_label]), int(histogram.sum())
        self.images += 1
        self.ignored += ignored
        self.ignored_in += ignored > 0
        self.total += total
        self.pixels += counts
        self.shown_in += counts > 0
        self._shown_among[counts > 0] += total

    def shares(self):
        """The share of each class in all pixels, those ignored among them."""
        return self.pixels / max(self.total, 1)

    def weights(self):
        """Median-frequency weights: median(f) / f, for classes that occur; NaN for the others.

        f is a class's share of the pixels of the images that show it.

        References
        ----------
        Eigen and Fergus, Predicting Depth, Surface Normals and Semantic Labels with a Common
        Multi-Scale Convolutional Architecture, ICCV 2015.
        """
        weights = np.full(len(self.pixels), np.nan)
        present = self.pixels > 0
        if present.any():
            frequencies = self.pixels[present] / self._shown_among[present]
            weights[present] = np.median(frequencies) / frequencies
        return weights
