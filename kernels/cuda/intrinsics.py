"""What Numba has no words for: 128-bit loads and stores, asynchronous copies, tensor cores.

Every index is the place of a number, counted from where a pointer or a shared array begins; nothing
checks it. A kernel imports these from `target`, which gives the simulator's where that runs.
"""

from llvmlite import ir
from numba import cuda
from numba.cuda import types
from numba.cuda.extending import intrinsic

FLOAT, INT, LONG = ir.FloatType(), ir.IntType(32), ir.IntType(64)
SHARED, GLOBAL = 3, 1  # address spaces
FOUR = types.UniTuple(types.float32, 4)


def _address(context, builder, kind, value, index_kind, index):
    """The address of ``value[index]``, where value is a pointer or an array."""
    if not isinstance(kind, types.CPointer):
        value = context.make_array(kind)(context, builder, value=value).data
    return builder.gep(value, [context.cast(builder, index, index_kind, types.intp)])


def _vector(lanes):
    return ir.VectorType(FLOAT, lanes)


@intrinsic
def load4(typingctx, a, i):
    """(a[i], a[i+1], a[i+2], a[i+3]), float32, with one 128-bit load; i must be divisible by 4."""

    def codegen(context, builder, signature, args):
        pointer = _address(context, builder, a, args[0], i, args[1])
        vector = builder.load(builder.bitcast(pointer, _vector(4).as_pointer()), align=16)
        numbers = [builder.extract_element(vector, INT(k)) for k in range(4)]
        return context.make_tuple(builder, signature.return_type, numbers)

    return FOUR(a, i), codegen


@intrinsic
def store4(typingctx, a, i, x0, x1, x2, x3):
    """a[i:i+4] = x0, x1, x2, x3 with one 128-bit store; i must be divisible by 4."""

    def codegen(context, builder, signature, args):
        pointer = _address(context, builder, a, args[0], i, args[1])
        vector = ir.Constant(_vector(4), ir.Undefined)
        for k in range(4):
            vector = builder.insert_element(vector, args[2 + k], INT(k))
        builder.store(vector, builder.bitcast(pointer, _vector(4).as_pointer()), align=16)
        return context.get_dummy_value()

    number = types.float32
    return types.void(a, i, number, number, number, number), codegen


@cuda.jit(device=True, forceinline=True)
def add_outer_product(sums, left, right):
    """sums (8, 8) += the outer product of left and right, 64 multiply-adds on registers."""
    for i in range(8):
        for j in range(8):
            sums[i, j] += left[i] * right[j]


def two_sided(matrix):
    """A function of local arrays: target = M source M^T by straight-line code, both row by row.

    Its name tells its matrix.
    """
    factors = [[float(factor) for factor in row] for row in matrix]

    def transform(typingctx, source, target):
        def codegen(context, builder, signature, args):
            source_data, target_data = (
                context.make_array(kind)(context, builder, value=value).data
                for kind, value in zip(signature.args, args))
            columns = len(factors[0])
            square = [[builder.load(builder.gep(source_data, [INT(i * columns + j)]))
                       for j in range(columns)] for i in range(columns)]
            for _ in range(2):  # M X, and transposed, so that twice makes M X M^T
                square = [[_weighted_sum(builder, row, column) for row in factors]
                          for column in zip(*square)]
            for i, number in enumerate(sum(square, [])):
                builder.store(number, builder.gep(target_data, [INT(i)]))
            return context.get_dummy_value()

        return types.void(source, target), codegen

    transform.__name__ = f"two_sided{factors}"
    return intrinsic(transform)


def _weighted_sum(builder, factors, numbers):
    total = None
    for factor, number in zip(factors, numbers):
        if factor in (1, -1) and total is not None:
            total = (builder.fadd if factor > 0 else builder.fsub)(total, number)
        elif factor != 0:
            term = number if factor == 1 else builder.fmul(number, FLOAT(factor))
            total = term if total is None else builder.fadd(total, term)
    return total


# ---- asynchronous copies, from compute capability 8.0


@intrinsic
def copy4_async(typingctx, target, to, source, at, size):
    """Begin target[to:to+4] = source[at:at+4], from global to shared memory, past the registers.

    Only `size` bytes are read, 0 or 16; the rest become zeros. Both places must be divisible by 4.
    """

    def codegen(context, builder, signature, args):
        pointer = _address(context, builder, target, args[0], to, args[1])
        shared = builder.addrspacecast(pointer, ir.PointerType(FLOAT, SHARED))
        pointer = _address(context, builder, source, args[2], at, args[3])
        distant = builder.addrspacecast(pointer, ir.PointerType(FLOAT, GLOBAL))
        size_now = context.cast(builder, args[4], size, types.int32)
        _assembly(
            builder, ir.VoidType(), "cp.async.cg.shared.global [$0], [$1], 16, $2;",
            "r,l,r,~{memory}",
            [builder.ptrtoint(shared, INT), builder.ptrtoint(distant, LONG), size_now])
        return context.get_dummy_value()

    return types.void(target, to, source, at, size), codegen


def _instruction(text):
    @intrinsic
    def instruction(typingctx):
        def codegen(context, builder, signature, args):
            _assembly(builder, ir.VoidType(), text, "~{memory}", [])
            return context.get_dummy_value()

        return types.void(), codegen

    return instruction


# The copies begun so far are one group; wait for all groups but the newest.
commit_copies = _instruction("cp.async.commit_group;")
wait_for_older_copies = _instruction("cp.async.wait_group 1;")


# ---- tensor cores, from compute capability 8.0


@intrinsic
def to_tf32(typingctx, x):
    """x as an operand of `multiply_tf32`, which reads its 10 highest bits of mantissa, in a uint32.

    What is cut off there of x + 2**-11 x leaves it wrong by at most 2**-11 x, as rounding would; on
    average it is a third of that too large. It is one instruction in place of three, and keeps
    infinities and NaN.
    """

    def codegen(context, builder, signature, args):
        number = builder.fma(args[0], FLOAT(2.0**-11), args[0])
        return builder.bitcast(number, INT)

    return types.uint32(types.float32), codegen


@intrinsic
def to_bf16_pair(typingctx, low, high):
    """Both rounded to 7 bits of mantissa, as the halves of a uint32."""

    def codegen(context, builder, signature, args):
        return _assembly(
            builder, INT, "cvt.rn.bf16x2.f32 $0, $2, $1;", "=r,f,f", args)

    return types.uint32(types.float32, types.float32), codegen


def _multiply(text):
    operands = "{$0,$1,$2,$3}, {$4,$5,$6,$7}, {$8,$9}, {$10,$11,$12,$13};"

    @intrinsic
    def multiply(typingctx, a0, a1, a2, a3, b0, b1, c0, c1, c2, c3):
        """a b + c on a warp's tensor cores; each lane holds its share of the three matrices."""

        def codegen(context, builder, signature, args):
            result = _assembly(
                builder, ir.LiteralStructType([FLOAT] * 4), f"{text} {operands}",
                "=f,=f,=f,=f" + ",r" * 6 + ",f" * 4, args)
            numbers = [builder.extract_value(result, k) for k in range(4)]
            return context.make_tuple(builder, signature.return_type, numbers)

        return FOUR(*[types.uint32] * 6, *[types.float32] * 4), codegen

    return multiply


# a (16, depth), b (depth, 8), c (16, 8); depth 8 for TF32, 16 for BF16.
multiply_tf32 = _multiply("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32")
multiply_bf16 = _multiply("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32")


def _assembly(builder, result, text, constraints, args):
    kind = ir.FunctionType(result, [arg.type for arg in args])
    return builder.call(ir.InlineAsm(kind, text, constraints, side_effect=True), args)
