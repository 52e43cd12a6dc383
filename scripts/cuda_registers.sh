#!/usr/bin/env bash
# Prints what each GPU kernel takes of a multiprocessor, and fails when one spills registers.
# usage: cuda_registers.sh [ARCHITECTURE...]     compute capabilities without the dot; default 80 90
set -euo pipefail
cd "$(dirname "$0")/.."

nvcc=${CUDACXX:-$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)}
if [[ ! -x "$nvcc" ]]; then
  echo "cuda_registers: no nvcc" >&2
  echo "  likely: the CUDA toolkit is not installed, or not in the PATH" >&2
  echo "  try: CUDACXX=/path/to/nvcc $0" >&2
  exit 1
fi
architectures=("$@")
[[ ${#architectures[@]} -gt 0 ]] || architectures=(80 90)
# As kernels/cuda/CMakeLists.txt compiles them.
flags=(-std=c++20 -O3 --fmad=false -prec-div=true -prec-sqrt=true -ftz=false -I.
  -DSTOKER_DEVICE_NAMESPACE=cuda -Xptxas=-v)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

for architecture in "${architectures[@]}"; do
  for source in kernels/cuda/*.cu; do
    "$nvcc" "${flags[@]}" "-arch=sm_$architecture" -cubin "$source" -o "$scratch/cubin" \
      2>"$scratch/log" || { cat "$scratch/log" >&2; exit 1; }
    c++filt -n <"$scratch/log" | sed "s|^|$(basename "$source" .cu) sm_$architecture |"
  done
done | awk '
  /Compiling entry function/ {
    split($0, parts, "\047")
    name = parts[2]
    gsub(/stoker::|cuda::|\(anonymous namespace\)::|_GLOBAL__N_[^:]*::/, "", name)
    sub(/^void /, "", name)
    sub(/\(.*/, "", name)
    source = $1; architecture = $2
  }
  /bytes stack frame/ {
    for (i = 1; i <= NF; i++) {
      if ($(i + 1) == "bytes" && $(i + 2) == "stack") stack = $i
      if ($(i + 1) == "bytes" && $(i + 2) == "spill") spilled[$(i + 3)] = $i
    }
  }
  /Used .* registers/ {
    shared = 0
    for (i = 1; i <= NF; i++) {
      if ($(i + 1) ~ /^registers/) registers = $i
      if ($(i + 1) == "bytes" && $(i + 2) ~ /^smem/) shared = $i
    }
    if (!head++) {
      printf "%-6s %-14s %9s %6s %6s %7s  %s\n", "", "source", "registers", "stack", "spills",
        "shared", "kernel"
    }
    spills = spilled["stores,"] + spilled["loads"]
    printf "%-6s %-14s %9d %6d %6d %7d  %s\n", architecture, source, registers, stack, spills,
      shared, name
    if (spills > 0) spilling++
    kernels++
  }
  END {
    printf "%d kernels, %d of them spill\n", kernels, spilling
    exit kernels == 0 || spilling > 0
  }'
