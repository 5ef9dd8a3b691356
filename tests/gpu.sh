#!/usr/bin/env bash
# All that only a GPU can tell, in one call of a few minutes: the kernels and nets on it against the
# CPU, gradient checks, then figures against PyTorch. Its exit status: 0 all passed, 1 something
# failed, 2 it could not begin.
#
# Needs an NVIDIA GPU and Python >= 3.10 (PYTHON names another) with NumPy, Numba, numba-cuda,
# Pillow, h5py, pytest and pytest-xdist, and PyTorch to compare with. tinyfcn need not be installed.
# What is missing is taken from the wheels in the folder WHEELS, if that is set, else from a package
# index.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 2

say() { printf '== %s\n' "$*" >&2; }

scratch=$(mktemp -d) || exit 2
trap 'rm -rf "$scratch"' EXIT
python=${PYTHON:-python3}
unset NUMBA_ENABLE_CUDASIM NUMBA_DISABLE_CUDA
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1

missing() {
    "$python" - <<'PYTHON'
from importlib.util import find_spec

packages = {"numpy": "numpy", "numba": "numba", "numba_cuda": "numba-cuda", "PIL": "pillow",
            "h5py": "h5py", "pytest": "pytest", "xdist": "pytest-xdist"}
print(*(name for module, name in packages.items() if find_spec(module) is None))
PYTHON
}

if [ -n "${WHEELS:-}" ]; then
    site=$scratch/site
    "$python" -m pip install --quiet --no-index --no-deps --target "$site" "$WHEELS"/*.whl || exit 2
    # numba-cuda takes the place of numba.cuda by a .pth file, which only a site's folder may have.
    printf 'import site\nsite.addsitedir(%s)\n' "'$site'" > "$site/sitecustomize.py"
    export PYTHONPATH=$site:$PYTHONPATH
fi
lacking=$(missing) || exit 2
if [ -n "$lacking" ]; then
    say "$lacking: missing, taken from a package index"
    "$python" -m venv "$scratch/venv" || exit 2
    python=$scratch/venv/bin/python
    if ! "$python" -m pip install --quiet ".[cuda,test]" torch >&2; then
        say "no package index: carry wheels of $lacking and name their folder with WHEELS"
        exit 2
    fi
fi
"$python" - >&2 <<'PYTHON' || exit 2
import importlib.metadata
import sys

import numpy as np

from tinyfcn import arrays

versions = []
for name in "numpy", "numba", "numba-cuda", "cuda-core", "cuda-bindings", "torch":
    try:
        versions.append(f"{name} {importlib.metadata.version(name)}")
    except importlib.metadata.PackageNotFoundError:
        versions.append(f"no {name}")
print("==", ", ".join(versions), "(tried with numba-cuda 0.30.4)")
try:
    device = arrays.find("cuda")
    print("==", arrays.describe(device))
    from tinyfcn.kernels import cuda

    ones = arrays.to_device(np.ones((2, 3), np.float32), device)
    assert (arrays.to_host(cuda.relu_forward(ones)) == 1).all(), "a kernel leaves wrong numbers"
except Exception as error:
    sys.exit(f"== no usable GPU: {type(error).__name__}: {error}")
PYTHON

failed=0
# Runs a step, at most so many seconds; the others follow whatever becomes of it.
step() {
    local what=$1 limit=$2 began=$SECONDS status=0
    shift 2
    say "$what"
    timeout --kill-after=10 "$limit" "$@" || status=$?
    if [ "$status" != 0 ]; then
        failed=1
        say "$what: FAILED with exit status $status"
    fi
    say "$what: $((SECONDS - began)) s"
    return "$status"
}

# The same beside what follows, which must time nothing, until `joined` shows what was printed.
begun=()
begin() {
    step "$@" > "$scratch/step-${#begun[@]}" 2>&1 &
    begun+=($!)
}
joined() {
    local index
    for index in "${!begun[@]}"; do
        wait "${begun[index]}" || failed=1
        cat "$scratch/step-$index"
    done
    begun=()
}

# Each kernel is compiled for this GPU once, by many processes.
compile() {
    local jobs=() share status=0 shares
    shares=$(($(nproc) < 16 ? $(nproc) : 16))
    for ((share = 0; share < shares; share++)); do
        timeout 240 "$python" tests/cuda/compiled_kernels.py --here "$share" "$shares" &
        jobs+=($!)
    done
    for share in "${jobs[@]}"; do
        wait "$share" || status=1
    done
    return "$status"
}

began=$SECONDS
say "compiling"
compile || { failed=1; say "compiling: FAILED"; }
say "compiling: $((SECONDS - began)) s"
begin "kernels against plain loops" 200 "$python" -m pytest -q -n 6 -p no:cacheprovider \
    tests/cuda/device_kernels.py
begin "nets against the CPU" 200 env PYTHONPATH="$PWD/tests/cuda:$PYTHONPATH" "$python" -m pytest \
    -q -n 4 -p no:cacheprovider tests/cuda/device_nets.py tests/cuda/device_benchmark.py \
    tests/cuda/device_roads.py
begin "gradients against the CPU's" 200 bash -c '"$1" -m tinyfcn.gradcheck --device cuda > "$2"
    status=$?; grep -B 1 WRONG "$2"; tail -n 1 "$2"; exit $status' - "$python" "$scratch/gradients"
joined
step "from a naive product to the fast one" 60 "$python" tests/cuda/roads.py --times
step "what it aims at" 300 "$python" -m tinyfcn.benchmark --device cuda --aims --repeat 7
precisions=$("$python" - <<'PYTHON'
from tinyfcn.kernels import devices

gpu = devices.usable_gpus()[int(devices.find("cuda").partition(":")[2])]
print("float32 tf32 bf16" if gpu.capability >= (8, 0) else "float32")
PYTHON
)
for precision in $precisions; do
    step "layer by layer, $precision" 60 "$python" -m tinyfcn.benchmark --device cuda \
        --precision "$precision" --layers --repeat 7
done
exit "$failed"
