"""The intrinsics of what kernels run on: the GPU, or Numba's simulator of one."""

from numba import config

if config.ENABLE_CUDASIM:
    from . import simulator as target
else:
    from . import intrinsics as target

add_outer_product = target.add_outer_product
commit_copies = target.commit_copies
copy4_async = target.copy4_async
load4 = target.load4
multiply_bf16 = target.multiply_bf16
multiply_tf32 = target.multiply_tf32
store4 = target.store4
to_bf16_pair = target.to_bf16_pair
to_tf32 = target.to_tf32
two_sided = target.two_sided
wait_for_older_copies = target.wait_for_older_copies
