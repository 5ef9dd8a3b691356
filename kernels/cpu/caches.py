"""The size of a core's own cache, by which some kernels choose their blocks."""

import functools
import pathlib

from .simd import BITS

LINUX = pathlib.Path("/sys/devices/system/cpu/cpu0/cache")

# What processors with registers of this width have at least, where the system doesn't say.
ASSUMED_BYTES = (1024 if BITS == 512 else 256) << 10


@functools.cache
def l2_bytes(folder=LINUX):
    """Bytes of a core's L2 cache, as Linux tells, or assumed."""
    for index in sorted(folder.glob("index*")):
        try:
            level = (index / "level").read_text().strip()
            kilobytes = (index / "size").read_text().strip().removesuffix("K")
        except OSError:
            continue
        if level == "2" and kilobytes.isdecimal():
            return int(kilobytes) << 10
    return ASSUMED_BYTES
