#!/usr/bin/env bash
# On a machine with an NVIDIA GPU, nvcc and PyTorch: builds the kernels, runs every test that uses
# the GPU, then times the ops and whole models. Under ten minutes, without the network. Leaves JSON
# and the printed tables in the folder for the results.
#
#   benchmarks/gpu.sh [folder for the results, by default benchmarks/results]
#
# PYTHON names the interpreter (python3), NVCC the compiler, MMSEG_ARTA_CUDA_ARCHS the GPUs to build
# for (this machine's). A step that fails does not keep the others from running.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=${1:-$here/results}
mkdir -p "$out"
out=$(cd "$out" && pwd)
cd "$here/.."

python=${PYTHON:-python3}
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONWARNINGS=ignore
# Only this machine's GPU: all others would take minutes.
export MMSEG_ARTA_CUDA_ARCHS=${MMSEG_ARTA_CUDA_ARCHS:-native}
# Triton tunes each kernel once, not once a process.
export TRITON_CACHE_AUTOTUNING=1
unset MMSEG_ARTA_OPS TRITON_INTERPRET

# What is missing is said before anything takes time.
command -v "$python" >/dev/null || { echo "error: $python is not found; set PYTHON" >&2; exit 1; }
"$python" - <<'EOF'
import importlib.util
import sys

needed = ('torch', 'mmengine', 'mmcv', 'mmseg', 'pytest')
missing = [name for name in needed if importlib.util.find_spec(name) is None]
if missing:
    sys.exit(f'error: {sys.executable} lacks {", ".join(missing)}: install what README.md names')
import torch

if not torch.cuda.is_available():
    sys.exit(
        f'error: PyTorch {torch.__version__} of {sys.executable} finds no CUDA device; '
        'nvidia-smi tells whether the driver sees one'
    )
from mmseg_arta.ops.build import BuildError, find_nvcc

try:
    print(f'{torch.cuda.get_device_name(0)}, PyTorch {torch.__version__}, {find_nvcc()}')
except BuildError as error:
    sys.exit(f'error: {error}')
EOF

failed=()
step() {
    local name=$1 begin=$SECONDS
    shift
    echo "--- $name"
    "$@" || failed+=("$name")
    echo "--- $name: $((SECONDS - begin)) s"
}

step 'C++ kernels' "$python" -m mmseg_arta.ops.build cpu
step 'CUDA kernels' "$python" -m mmseg_arta.ops.build cuda
step 'back ends' "$python" -m mmseg_arta.ops --device cuda
step 'tests' "$python" -m pytest -q -p no:cacheprovider tests/ops/test_gpu.py

measure() {
    "$python" "benchmarks/$1.py" --device cuda --dtype "$2" --batch 2 --out "$out" "${@:3}" |
        tee "$out/$1_cuda_$2.txt"
}
for dtype in float32 bfloat16; do
    step "ops, $dtype" measure ops "$dtype" --rounds 3
    step "models, $dtype" measure models "$dtype"
done

echo "results: $out, after $SECONDS s"
if [ "${#failed[@]}" -gt 0 ]; then
    printf 'failed: %s\n' "${failed[@]}" >&2
    exit 1
fi
