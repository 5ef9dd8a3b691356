"""Reads changed files in a process of its own: python mutate.py SOURCE FOLDER FIRST COUNT REPACK

Prints {"refused": n, "read": n}. Any other error, a file that takes too long or a reader that takes
more than `MEMORY` bytes beyond what the process has at the start ends it with a traceback.
"""
import collections
import io
import json
import os
import signal
import sys
import zipfile

import numpy as np

from tinyfcn import weights

# The stated bound: beyond the file itself, which here has some kilobytes.
MEMORY = 256 << 20
SECONDS = 20
INTERESTING = (b"\0", b"\xff", b"\x7f", b"\x80", b"\0\0\0\0", b"\xff\xff\xff\xff",
               b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"\xff" * 8, b"\xff" * 7 + b"\x7f")


def mutate(content, rng):
    """Change a few bytes; sometimes cut, drop, double or move a piece."""
    content = bytearray(content)
    for _ in range(rng.integers(1, 5)):
        if not content:
            break
        at, kind = int(rng.integers(len(content))), rng.integers(10)
        piece = int(rng.integers(1, 33))
        if kind < 5:
            content[at] = rng.integers(256)
        elif kind < 7:
            value = INTERESTING[rng.integers(len(INTERESTING))]
            content[at:at + len(value)] = value
        elif kind == 7:
            del content[at:at + piece]
        elif kind == 8:
            content[at:at] = content[at:at + piece]
        else:
            del content[at:]
    return bytes(content)


def repack(content, rng):
    """Change one member of a zip archive, and give it the checksum of what it is now."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(out, "w") as target:
        names = source.namelist()
        changed = names[rng.integers(len(names))]
        for name in names:
            data = source.read(name)
            target.writestr(name, mutate(data, rng) if name == changed else data)
    return out.getvalue()


def limit_memory():
    try:
        import resource
    except ImportError:
        return
    with open("/proc/self/statm") as stream:
        size = int(stream.read().split()[0]) * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (size, resource.RLIM_INFINITY))


def main(source, folder, first, count, again):
    with open(source, "rb") as stream:
        content = stream.read()
    weights.read(source)  # imports what it needs
    if os.path.exists("/proc/self/statm"):
        limit_memory()
    outcomes = collections.Counter()
    for seed in range(int(first), int(first) + int(count)):
        rng = np.random.default_rng(seed)
        path = os.path.join(folder, "changed")
        change = repack if again == "repack" and seed % 2 else mutate
        with open(path, "wb") as stream:
            stream.write(change(content, rng))
        signal.alarm(SECONDS)
        try:
            tensors = weights.read(path)
            for array in tensors.values():
                np.asarray(array).sum()
            outcomes["read"] += 1
        except weights.WeightsError as error:
            text = str(error)
            assert text.startswith(path + ": ") and text.isprintable() and len(text) < 1000, text
            outcomes["refused"] += 1
        except BaseException:
            print(f"seed {seed}", file=sys.stderr)
            raise
        finally:
            signal.alarm(0)
    print(json.dumps(outcomes))


if __name__ == "__main__":
    main(*sys.argv[1:])
