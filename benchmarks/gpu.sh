#!/usr/bin/env bash
# On a machine with an NVIDIA GPU, nvcc and PyTorch: builds the kernels, tries them, tests them and
# measures whole models, ops and training, the most valuable part first. Without the network.
#
#   benchmarks/gpu.sh [--budget SECONDS] [--stages NAME ...] [--out FOLDER] [--camvid FOLDER]
#
# A second call with the same folder goes on where the first one ended. PYTHON names the
# interpreter (python3), NVCC the compiler, MMSEG_ARTA_CUDA_ARCHS the GPUs to build for (this
# machine's). `--device cpu --tiny` tries all of it out without a GPU.
set -euo pipefail
# Folders in the arguments are the caller's.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

python=${PYTHON:-python3}
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}" PYTHONWARNINGS=ignore PYTHONUNBUFFERED=1
# Only this machine's GPU: all others would take minutes.
export MMSEG_ARTA_CUDA_ARCHS=${MMSEG_ARTA_CUDA_ARCHS:-native}
# Triton tunes each kernel once, not once a process.
export TRITON_CACHE_AUTOTUNING=1
unset MMSEG_ARTA_OPS TRITON_INTERPRET

# What is missing is said before anything takes time.
command -v "$python" >/dev/null || { echo "error: $python is not found; set PYTHON" >&2; exit 1; }
wants_gpu=1
case " $* " in *" --device cpu "* | *" --device=cpu "* | *" --help "* | *" -h "*) wants_gpu=0 ;; esac
WANTS_GPU=$wants_gpu "$python" - <<'PYTHON'
import importlib.util
import os
import sys

needed = ('torch', 'mmengine', 'mmcv', 'mmseg', 'pytest')
missing = [name for name in needed if importlib.util.find_spec(name) is None]
if missing:
    sys.exit(f'error: {sys.executable} lacks {", ".join(missing)}: install what README.md names')
import torch

if os.environ['WANTS_GPU'] == '1':
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
PYTHON
exec "$python" "$root/benchmarks/gpu/run.py" "$@"
