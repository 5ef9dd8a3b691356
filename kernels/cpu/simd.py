"""SIMD registers as a Numba type: a kernel loads, computes and stores whole vectors.

A vector holds as many numbers as the processor's widest register: 16 float32 with AVX-512, 8 with
AVX2, 4 with SSE or NEON. Inside a jitted function::

    v = load(x, i)                  # x[i : i + lanes] of a C-contiguous array, by flat index
    v = maximum(v + load(b, j), splat(x, 0.0))
    store(y, i, v)

In place of an array there may be a pointer (`callables`). Nothing checks bounds. The loops are
written for ``lanes(x)`` numbers at a time with a scalar remainder or a partial vector, so that
nothing beyond an array's end is ever touched.
"""

import operator
import os

import llvmlite.binding
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, overload, register_model

ENVIRONMENT = "TINYFCN_SIMD"
WIDTHS = {"avx512": 512, "avx2": 256, "128": 128}


def host_width():
    """Bits of the widest SIMD register of this machine that is worth using."""
    features = llvmlite.binding.get_host_cpu_features()
    if features.get("avx512f"):
        return 512
    if features.get("avx2") and features.get("fma"):
        return 256
    return 128


def chosen_width():
    """Bits of the registers to compile for: `TINYFCN_SIMD` (avx512, avx2 or 128), else the host's.

    A width above the host's works too, since LLVM splits what the machine cannot hold; it is only
    slower.
    """
    name = os.environ.get(ENVIRONMENT, "").strip().lower()
    if not name:
        return host_width()
    if name not in WIDTHS:
        raise ValueError(f"{ENVIRONMENT}={name}: choose one of {', '.join(WIDTHS)}")
    return WIDTHS[name]


BITS = chosen_width()
LLVM_FLOAT = {types.float32: ir.FloatType(), types.float64: ir.DoubleType()}
INT = ir.IntType(64)


def lanes_of(dtype):
    """How many numbers of the Numba or NumPy `dtype` a register holds."""
    return BITS // (dtype.bitwidth if isinstance(dtype, types.Type) else 8 * dtype.itemsize)


class VectorType(types.Type):
    """The Numba type of a register full of `dtype`."""

    def __init__(self, dtype):
        self.dtype = dtype
        super().__init__(f"vector({dtype} x {lanes_of(dtype)})")


@register_model(VectorType)
class VectorModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, llvm_vector(fe_type.dtype))


# ---- LLVM building blocks, also for the matrix product's micro-kernel


def llvm_vector(dtype):
    return ir.VectorType(LLVM_FLOAT[dtype], lanes_of(dtype))


def build_splat(builder, number, dtype):
    """All lanes equal to the scalar `number`."""
    vector = llvm_vector(dtype)
    undefined = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(undefined, number, ir.Constant(ir.IntType(32), 0))
    lanes = ir.VectorType(ir.IntType(32), vector.count)
    return builder.shuffle_vector(first, undefined, ir.Constant(lanes, [0] * vector.count))


def build_load(builder, pointer, dtype):
    """Load a vector from a pointer to its first number; it need not be aligned."""
    address = builder.bitcast(pointer, llvm_vector(dtype).as_pointer())
    return builder.load(address, align=dtype.bitwidth // 8)


def build_store(builder, vector, pointer, dtype, streaming=False):
    """Write a vector; `streaming`, to a whole register's alignment, past the caches."""
    address = builder.bitcast(pointer, vector.type.as_pointer())
    if not streaming:
        builder.store(vector, address, align=dtype.bitwidth // 8)
        return
    instruction = builder.store(vector, address, align=BITS // 8)
    one = ir.Constant(ir.IntType(32), 1)
    instruction.set_metadata("nontemporal", builder.module.add_metadata([one]))


def build_fma(builder, x, y, z, dtype):
    """x * y + z, rounded once."""
    vector = llvm_vector(dtype)
    name = f"llvm.fma.v{vector.count}f{dtype.bitwidth}"
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(vector, [vector] * 3), name
    )
    return builder.call(function, [x, y, z])


def build_at_least(builder, x, lowest):
    """x, raised to `lowest` in the lanes where it is below: NaN stays, 0.0 does not become -0.0."""
    return builder.select(builder.fcmp_ordered("<", x, lowest), lowest, x)


def build_pointer(context, builder, array_type, array, index):
    """The address of the number at flat `index` of an array, or that far behind a pointer."""
    if not isinstance(array_type, types.CPointer):
        array = context.make_array(array_type)(context, builder, array).data
    return builder.gep(array, [index])


def build_prefetch(builder, pointer):
    """Fetch the cache line of a pointer, which need not be one to memory that exists."""
    byte, flag = ir.IntType(8).as_pointer(), ir.IntType(32)
    function = cgutils.get_or_insert_function(
        builder.module,
        ir.FunctionType(ir.VoidType(), [byte, flag, flag, flag]),
        "llvm.prefetch.p0",
    )
    # To read, into the L2 cache, data.
    levels = ir.Constant(flag, 0), ir.Constant(flag, 2), ir.Constant(flag, 1)
    builder.call(function, [builder.bitcast(pointer, byte), *levels])


# ---- what kernels use


@intrinsic
def lanes(typingctx, array):
    """How many numbers of the array's dtype a register holds: a constant to the compiler."""
    count = lanes_of(array.dtype)

    def codegen(context, builder, signature, args):
        return ir.Constant(INT, count)

    return types.intp(array), codegen


@intrinsic
def load(typingctx, array, index):
    """The vector at flat `index` of a C-contiguous array."""

    def codegen(context, builder, signature, args):
        pointer = build_pointer(context, builder, array, args[0], args[1])
        return build_load(builder, pointer, array.dtype)

    return VectorType(array.dtype)(array, types.intp), codegen


@intrinsic
def store(typingctx, array, index, vector):
    """Write a vector to flat `index` of a C-contiguous array."""

    def codegen(context, builder, signature, args):
        pointer = build_pointer(context, builder, array, args[0], args[1])
        build_store(builder, args[2], pointer, array.dtype)
        return context.get_dummy_value()

    return types.void(array, types.intp, vector), codegen


@intrinsic
def load_part(typingctx, array, index, count, fill):
    """A vector of the `count` numbers at `index`, at most a whole one, and `fill` beyond them."""
    dtype = array.dtype

    def codegen(context, builder, signature, args):
        pointer, align, mask = _part(context, builder, array, *args[:3])
        vector = llvm_vector(dtype)
        masked_load = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(vector, [pointer.type, align.type, mask.type, vector]),
            f"llvm.masked.load.v{vector.count}f{dtype.bitwidth}.p0")
        return builder.call(
            masked_load, [pointer, align, mask, build_splat(builder, args[3], dtype)])

    return VectorType(dtype)(array, types.intp, types.intp, dtype), codegen


@intrinsic
def store_part(typingctx, array, index, count, vector):
    """Write the first `count` numbers of a vector, at most all, to `index`."""
    dtype = array.dtype

    def codegen(context, builder, signature, args):
        pointer, align, mask = _part(context, builder, array, *args[:3])
        masked_store = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(ir.VoidType(), [args[3].type, pointer.type, align.type, mask.type]),
            f"llvm.masked.store.v{args[3].type.count}f{dtype.bitwidth}.p0")
        builder.call(masked_store, [args[3], pointer, align, mask])
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, vector), codegen


def _part(context, builder, array_type, array, index, count):
    """Pointer, alignment and mask of a vector of which only `count` numbers are touched.

    AVX-512 does that as fast as a whole vector; others are better off with scalars.
    """
    vector = llvm_vector(array_type.dtype)
    integers = ir.VectorType(INT, vector.count)
    undefined = ir.Constant(integers, ir.Undefined)
    first = builder.insert_element(undefined, count, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), vector.count), [0] * vector.count)
    counts = builder.shuffle_vector(first, undefined, zeros)
    mask = builder.icmp_signed("<", ir.Constant(integers, list(range(vector.count))), counts)
    align = ir.Constant(ir.IntType(32), array_type.dtype.bitwidth // 8)
    pointer = build_pointer(context, builder, array_type, array, index)
    return builder.bitcast(pointer, vector.as_pointer()), align, mask


@intrinsic
def prefetch(typingctx, array, index):
    """Ask for the cache line of flat `index`, which may lie outside the array, to be fetched."""

    def codegen(context, builder, signature, args):
        build_prefetch(builder, build_pointer(context, builder, array, args[0], args[1]))
        return context.get_dummy_value()

    return types.void(array, types.intp), codegen


@intrinsic
def splat(typingctx, array, number):
    """A vector of the array's dtype with every lane equal to `number`."""
    dtype = array.dtype

    def codegen(context, builder, signature, args):
        return build_splat(builder, args[1], dtype)

    return VectorType(dtype)(array, dtype), codegen


@intrinsic
def fma(typingctx, x, y, z):
    """x * y + z, rounded once."""

    def codegen(context, builder, signature, args):
        return build_fma(builder, *args, x.dtype)

    return x(x, x, x), codegen


@intrinsic
def maximum(typingctx, x, y):
    """The larger of x and y in every lane; NaN where either is."""

    def codegen(context, builder, signature, args):
        larger = builder.fcmp_ordered(">", args[0], args[1])
        undefined = builder.fcmp_unordered("uno", args[0], args[0])
        return builder.select(builder.or_(larger, undefined), args[0], args[1])

    return x(x, x), codegen


@intrinsic
def fence(typingctx, array):
    """Have all that this thread wrote, past the caches too, seen by the others from here on."""

    def codegen(context, builder, signature, args):
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(array), codegen


@intrinsic
def where_positive(typingctx, x, y):
    """y in the lanes where x is above zero, zero in the others."""

    def codegen(context, builder, signature, args):
        zero = ir.Constant(args[0].type, [0.0] * args[0].type.count)
        return builder.select(builder.fcmp_ordered("<", zero, args[0]), args[1], zero)

    return x(x, x), codegen


@intrinsic
def where_equal(typingctx, x, y, a, b):
    """a in the lanes where x equals y, b in the others."""

    def codegen(context, builder, signature, args):
        return builder.select(builder.fcmp_ordered("==", args[0], args[1]), args[2], args[3])

    return x(x, x, x, x), codegen


def _operator(function, instruction):
    @intrinsic
    def build(typingctx, x, y):
        def codegen(context, builder, signature, args):
            return getattr(builder, instruction)(*args)

        return x(x, x), codegen

    @overload(function)
    def typed(x, y):
        if isinstance(x, VectorType) and x == y:
            return lambda x, y: build(x, y)


_operator(operator.add, "fadd")
_operator(operator.sub, "fsub")
_operator(operator.mul, "fmul")
_operator(operator.truediv, "fdiv")


# ---- for soft-max


@intrinsic
def exponential(typingctx, x):
    """e to the power of each number, to about 1e-7 in float32; 0 below -87, where it is denormal.

    x = n log 2 + r; e^r is a polynomial and 2^n goes into the exponent. (S. Moshier's Cephes,
    expf.c; no number above 88 comes from a soft-max.) float64 calls the library for each lane.
    """
    dtype = x.dtype

    def codegen(context, builder, signature, args):
        vector = llvm_vector(dtype)
        if dtype != types.float32:
            function = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(vector, [vector]),
                f"llvm.exp.v{vector.count}f{dtype.bitwidth}")
            return builder.call(function, args)

        def constant(number):
            return ir.Constant(vector, [number] * vector.count)

        def fma(a, b, c):
            return build_fma(builder, a, b, c, dtype)

        number = args[0]
        # Added to this, a number is rounded to a whole one in the low bits.
        magic = constant(float(3 << 22))
        shifted = fma(number, constant(1.44269504088896341), magic)
        whole = builder.fsub(shifted, magic)
        rest = fma(whole, constant(-0.693359375), number)
        rest = fma(whole, constant(2.12194440e-4), rest)
        power = constant(1.9875691500e-4)
        for coefficient in (1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1,
                            5.0000001201e-1):
            power = fma(power, rest, constant(coefficient))
        power = fma(power, builder.fmul(rest, rest), builder.fadd(rest, constant(1.0)))
        integers = ir.VectorType(ir.IntType(32), vector.count)
        exponent = builder.shl(
            builder.bitcast(shifted, integers), ir.Constant(integers, [23] * vector.count))
        one = ir.Constant(integers, [127 << 23] * vector.count)
        scale = builder.bitcast(builder.add(exponent, one), vector)
        tiny = builder.fcmp_ordered("<", number, constant(-87.0))
        return builder.select(tiny, constant(0.0), builder.fmul(power, scale))

    return x(x), codegen
