"""Work that threads take piece by piece, so that one which is held up delays no other."""

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .simd import INT, build_pointer


def counter():
    """A counter of jobs for `take_job`, at the first."""
    return np.zeros(1, np.int64)


@intrinsic
def take_job(typingctx, counter):
    """The number in ``counter[0]``, which is raised by one for whoever asks next."""

    def codegen(context, builder, signature, args):
        pointer = build_pointer(context, builder, counter, args[0], ir.Constant(INT, 0))
        return builder.atomic_rmw("add", pointer, ir.Constant(INT, 1), "monotonic")

    return types.int64(counter), codegen
