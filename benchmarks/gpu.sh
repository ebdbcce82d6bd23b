#!/usr/bin/env bash
# On a machine with an NVIDIA GPU, nvcc and PyTorch: builds the CUDA library, runs every test that
# uses the GPU, then times the ops and whole models. Under ten minutes, without the network.
#
#   benchmarks/gpu.sh [folder for the results]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python=${PYTHON:-python3}
out=${1:-benchmarks/results}
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
"$python" -c 'import torch, sys
sys.exit(0 if torch.cuda.is_available() else "PyTorch finds no CUDA device")'

# For this GPU alone: all others would take minutes.
if [ -z "${MMSEG_ARTA_CUDA_ARCHS:-}" ]; then
    MMSEG_ARTA_CUDA_ARCHS=$("$python" -c 'import torch
print("%d%d" % torch.cuda.get_device_capability())')
    export MMSEG_ARTA_CUDA_ARCHS
fi
"$python" -m mmseg_arta.ops.cpu.build
"$python" -m mmseg_arta.ops.cuda.build
"$python" -m mmseg_arta.ops --device cuda

"$python" -m pytest -q tests/ops/test_gpu.py
for dtype in float32 bfloat16; do
    "$python" benchmarks/ops.py --device cuda --dtype "$dtype" --batch 2 --out "$out"
    "$python" benchmarks/models.py --device cuda --dtype "$dtype" --batch 2 --out "$out"
done
