"""The numerical kernels, one package for each kind of array, and what they share.

A backend is a module of plain functions on channels-last arrays. All backends have the same
function names and signatures; `tinyfcn.kernels.naive` gives the same functions once more as plain
loops, which is where to read what each of them means. `tinyfcn.kernels.geometry` and
`tinyfcn.kernels.taps` hold the size arithmetic of all of them.
"""
import sys

import numpy as np


def backend(x):
    """Return the module whose kernels serve the array x.

    Parameters
    ----------
    x : numpy.ndarray or tinyfcn.kernels.cuda.memory.DeviceArray
        Only its type is looked at.

    Returns
    -------
    module
        `tinyfcn.kernels.cpu` for a NumPy array, `tinyfcn.kernels.cuda` for one on a GPU.

    Raises
    ------
    TypeError
        If no backend serves arrays of x's type.
    """
    if isinstance(x, np.ndarray):
        # Imported here, since compiling kernels must not be the price of importing the package.
        from tinyfcn.kernels import cpu
        return cpu
    # Without it there are no arrays on a GPU.
    cuda = sys.modules.get("tinyfcn.kernels.cuda")
    if cuda is not None and isinstance(x, cuda.memory.DeviceArray):
        return cuda
    raise TypeError(
        f"no kernels for {type(x).__module__}.{type(x).__qualname__}: expected a numpy.ndarray")
