#!/usr/bin/env bash
# Compiles every CUDA kernel for sm_80 and sm_90 and prints registers and spills; fails on
# spills in the hot kernels. Needs nvcc and no GPU; without nvcc it says so and succeeds.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

nvcc=${NVCC:-nvcc}
if ! command -v "$nvcc" >/dev/null; then
    echo "nvcc is not installed: the CUDA kernels are not checked."
    exit 0
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# All kernels that touch features; the others run once per round and read coordinates.
hot='attention_|deform_|merge_|patches_'
failed=0
for source in csrc/cuda/*.cu; do
    name=$(basename "$source" .cu)
    extra=()
    [ "$name" = places ] && extra=(-fmad=false)
    for arch in 80 90; do
        log="$folder/$name.$arch"
        "$nvcc" -std=c++17 -O3 "${extra[@]}" -gencode="arch=compute_$arch,code=sm_$arch" \
            -Xcompiler -fPIC -Xptxas -v -c "$source" -o "$folder/$name.$arch.o" 2>"$log" ||
            { cat "$log"; exit 1; }
        # One line for each kernel: name, number type and lanes, registers, spills.
        c++filt <"$log" | awk -v arch="$arch" -v hot="$hot" '
            /Compiling entry function/ {
                kernel = $0
                sub(/.*entry function .?/, "", kernel)
                sub(/ for .sm_.*/, "", kernel)
                gsub(/\(anonymous namespace\)::|void |\x27|arta::/, "", kernel)
                sub(/\(.*/, "", kernel)
            }
            /bytes spill stores/ { spills = $5 + $9 }
            /Used [0-9]+ registers/ {
                match($0, /Used [0-9]+/)
                registers = substr($0, RSTART + 5, RLENGTH - 5)
                printf "sm_%s  %3d registers  %4d spilled bytes  %s\n", arch, registers, spills, kernel
                if (spills > 0 && kernel ~ hot) bad = 1
                spills = 0
            }
            END { exit bad }' || failed=1
    done
done
if [ "$failed" = 1 ]; then
    echo "A hot kernel spills registers." >&2
    exit 1
fi
