"""From photos to the arrays that a net takes."""

import numpy as np


# Of ITU-R BT.601, which image programs turn colours into grey by.
LUMINANCE = (0.299, 0.587, 0.114)


def preprocess(photo, preprocessing, dtype=np.float32):
    """Arrange and scale the pixels of a photo as a net was trained to see them.

        x = (photo[..., channel_order] * scale - mean) / std

    Parameters
    ----------
    photo : (h, w, 3) uint8 or any other number
        Red, green, blue, of values 0..255.
    preprocessing : dict
        "channel_order": "RGB", "BGR" or "grey", the luminance as whole numbers; "scale": float;
        "mean" and "std": a float for each channel, in that order and applied after the scale.
    dtype : float32 or float64

    Returns
    -------
    (h, w, 3) dtype, or (h, w, 1) for "grey"
        A new array, C-contiguous.

    Raises
    ------
    ValueError
        The photo is not (h, w, 3), or the channel order is none of the three.
    """
    photo = np.asarray(photo)
    if photo.ndim != 3 or photo.shape[2] != 3:
        raise ValueError(f"a photo is (h, w, 3); this has the shape {photo.shape}")
    order = preprocessing["channel_order"]
    if order not in ("RGB", "BGR", "grey"):
        raise ValueError(f"the channel order is RGB, BGR or grey, not {order!r}")
    h, w, _ = photo.shape
    if order == "grey":
        grey = np.rint(photo.astype(np.float64) @ LUMINANCE).astype(dtype)
        mean, std = preprocessing["mean"][0], preprocessing["std"][0]
        return ((grey * preprocessing["scale"] - mean) / std).astype(dtype)[:, :, None]
    x = (photo if order == "RGB" else photo[:, :, ::-1]).astype(dtype, order="C")
    # One row of means and factors instead of three numbers: NumPy's loops then run over whole
    # rows and not over the three channels of each pixel.
    rows = x.reshape(h, 3 * w)
    scale = np.asarray(preprocessing["scale"], dtype)
    if scale != 1:
        rows *= scale
    rows -= np.tile(np.asarray(preprocessing["mean"], dtype), w)
    std = np.asarray(preprocessing["std"], dtype)
    if (std != 1).any():
        rows /= np.tile(std, w)
    return x
