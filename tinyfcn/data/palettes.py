"""Colours of classes."""

import numpy as np


def voc_palette(classes):
    """The colours of the Pascal VOC label images, for any number of classes.

    The bits of the class index are dealt to red, green and blue in turn, the lowest first, and
    fill each colour from its highest bit down. Class 0 is black.

    Parameters
    ----------
    classes : int

    Returns
    -------
    (classes, 3) uint8
        Red, green, blue.

    References
    ----------
    `VOClabelcolormap.m` of the Pascal VOC development kit.
    """
    indices = np.arange(classes)
    palette = np.zeros((classes, 3), np.uint8)
    for level in range(8):
        for channel in range(3):
            bit = (indices >> (3 * level + channel)) & 1
            palette[:, channel] |= (bit << (7 - level)).astype(np.uint8)
    return palette
