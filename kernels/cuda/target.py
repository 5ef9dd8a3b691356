"""The intrinsics of what kernels run on: the GPU, or Numba's simulator of one."""

from numba import config

if config.ENABLE_CUDASIM:
    from .simulator import (
        add_outer_product,
        commit_copies,
        copy4_async,
        load1,
        load4,
        multiply_bf16,
        multiply_tf32,
        store4,
        to_bf16_pair,
        to_tf32,
        two_sided,
        wait_for_copies,
    )
else:
    from .intrinsics import (
        add_outer_product,
        commit_copies,
        copy4_async,
        load1,
        load4,
        multiply_bf16,
        multiply_tf32,
        store4,
        to_bf16_pair,
        to_tf32,
        two_sided,
        wait_for_copies,
    )

__all__ = [
    "add_outer_product",
    "commit_copies",
    "copy4_async",
    "load1",
    "load4",
    "multiply_bf16",
    "multiply_tf32",
    "store4",
    "to_bf16_pair",
    "to_tf32",
    "two_sided",
    "wait_for_copies",
]
