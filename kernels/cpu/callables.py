"""Functions that kernels call by their address.

What a kernel calls in the usual way is compiled again into each kernel, and there again for each of
the four functions that Numba makes of a `prange`. The micro-kernels and Winograd's transforms are
long straight-line code, and which of them is needed turns out only when a layer's size is known;
the work of a job is most of a kernel. So they are compiled once, each when it is first asked for,
and a kernel is handed their addresses::

    address = compile_callable(function, (types.CPointer(types.float32), types.intp))

    call(address, pointer(x, i), count)      # in a kernel: function(&x[i], count)

Such a function returns nothing and raises nothing. Nothing checks that it is called with what it
was compiled for, so it takes pointers in place of arrays that may be read-only, and integers and
tuples of them come as int64.
"""

from llvmlite import ir
from numba import from_dtype, types
from numba.core import cgutils
from numba.core.ccallback import CFunc
from numba.core.event import trigger_event
from numba.extending import intrinsic

from .compilation import keep_on_disk, optimization_level
from .simd import build_pointer

# Types of arguments, beside `types.intp` and `types.boolean`.
PAIR, TRIPLE, SHAPE = (types.UniTuple(types.int64, count) for count in (2, 3, 4))
INTEGERS, TABLE = types.Array(types.int64, 1, "C"), types.Array(types.int64, 2, "C")

_compiled = []  # whose code must stay where it is


def number_types(dtype):
    """Types of arguments that hold numbers: a pointer to them, and an array."""
    number = from_dtype(dtype)
    return types.CPointer(number), types.Array(number, 1, "C")


def compile_callable(function, argument_types):
    """Compile `function` for these Numba types, or load it from the disk; return its address."""
    compiled = CFunc(function, (argument_types, types.void), {}, {"error_model": "numpy"})
    compiled._cache = keep_on_disk(function) or compiled._cache
    # Said as Numba says it of its own functions, for whoever measures what compiling takes.
    with optimization_level(), trigger_event("numba:compile", data={"dispatcher": compiled}):
        compiled.compile()
    _compiled.append(compiled)
    return compiled.address


@intrinsic
def pointer(typingctx, array, index):
    """The address of the number at flat `index` of a C-contiguous array."""

    def codegen(context, builder, signature, args):
        return build_pointer(context, builder, array, args[0], args[1])

    return types.CPointer(array.dtype)(array, types.intp), codegen


@intrinsic
def call(typingctx, address, *arguments):
    """Call the function at `address`; integers are handed over as int64, others as they are."""

    def codegen(context, builder, signature, args):
        values = cgutils.unpack_tuple(builder, args[1])
        for i, kind in enumerate(arguments):
            if isinstance(kind, types.Integer):
                values[i] = context.cast(builder, values[i], kind, types.int64)
            elif isinstance(kind, types.UniTuple) and isinstance(kind.dtype, types.Integer):
                wide = types.UniTuple(types.int64, kind.count)
                values[i] = context.cast(builder, values[i], kind, wide)
        nothing = context.get_value_type(types.void)
        function = ir.FunctionType(nothing, [value.type for value in values])
        builder.call(builder.inttoptr(args[0], function.as_pointer()), values)
        return context.get_dummy_value()

    return types.void(types.int64, types.BaseTuple.from_types(arguments)), codegen
