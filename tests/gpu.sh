#!/usr/bin/env bash
# All that only a GPU can tell, in one call of a few minutes: the kernels and nets on it against the
# CPU, gradient checks, then figures against PyTorch. Prints figures as Markdown; its exit status
# says whether all tests passed. Needs an NVIDIA GPU, Python >= 3.10 (PYTHON names another) and
# either an environment with tinyfcn[cuda,test] and PyTorch (USE_CURRENT=1) or a package index.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf '== %s\n' "$*" >&2; }

python=${PYTHON:-python3}
if [ "${USE_CURRENT:-}" != 1 ]; then
    say "environment"
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    "$python" -m venv "$scratch"
    python=$scratch/bin/python
    "$python" -m pip install --quiet -e '.[cuda,test]' torch >&2
fi
unset NUMBA_ENABLE_CUDASIM

failed=0
say "kernels against plain loops, nets against the CPU"
"$python" -m pytest -q -p no:cacheprovider tests/cuda/device_kernels.py tests/cuda/device_nets.py \
    || failed=1
say "gradients against the CPU's"
"$python" -m tinyfcn.gradcheck --device cuda | tail -n 1 || failed=1
say "figures"
"$python" tests/cuda/figures.py || failed=1
exit $failed
