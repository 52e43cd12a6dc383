#!/usr/bin/env bash
# Prints what each GPU kernel takes of a multiprocessor, and fails when one spills registers.
#
#   scripts/cuda_registers.sh [--save] [ARCHITECTURE...]
#
# Architectures are compute capabilities without the dot; all that releases cover (80, 86, 89, 90
# and 120) when none is named. --save keeps the report in bench/results/kernels/registers.txt as
# well, with the compiler's version.
# The compiler is $CUDACXX, else the nvcc in the PATH, else that of /usr/local/cuda.
set -euo pipefail
cd "$(dirname "$0")/.."

save=
architectures=()
for argument in "$@"; do
  case $argument in
    -h | --help)
      sed -n '/^set /q; 2,$s/^# \{0,1\}//p' "scripts/$(basename "$0")"
      exit 0
      ;;
    --save) save=bench/results/kernels/registers.txt ;;
    [0-9]*) architectures+=("$argument") ;;
    *)
      echo "cuda_registers: there is no argument '$argument'; $0 --help shows those there are" >&2
      exit 2
      ;;
  esac
done
[[ ${#architectures[@]} -gt 0 ]] || architectures=(80 86 89 90 120)

nvcc=${CUDACXX:-$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)}
if [[ ! -x "$nvcc" ]]; then
  echo "cuda_registers: no nvcc" >&2
  echo "  likely: the CUDA toolkit is not installed, or not in the PATH" >&2
  echo "  try: CUDACXX=/path/to/nvcc $0" >&2
  exit 1
fi
# As kernels/cuda/CMakeLists.txt compiles them.
flags=(-std=c++20 -O3 --fmad=false -prec-div=true -prec-sqrt=true -ftz=false -I.
  -DSTOKER_DEVICE_NAMESPACE=cuda -Xptxas=-v)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# What the compiler says of every kernel, each line behind its source and architecture.
compile() {
  local architecture source
  for architecture in "${architectures[@]}"; do
    for source in kernels/cuda/*.cu; do
      "$nvcc" "${flags[@]}" "-arch=sm_$architecture" -cubin "$source" -o "$scratch/cubin" \
        2>"$scratch/log" || { cat "$scratch/log" >&2; exit 1; }
      c++filt -n <"$scratch/log" | sed "s|^|$(basename "$source" .cu) sm_$architecture |"
    done
  done
}

tabulate() {
  awk '
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
}

status=0
compile >"$scratch/said"
tabulate <"$scratch/said" >"$scratch/report" || status=$?
cat "$scratch/report"
if [[ -n "$save" ]]; then
  mkdir -p "$(dirname "$save")"
  {
    echo "Registers, stack, spills and shared memory of GPU kernels (scripts/cuda_registers.sh)."
    "$nvcc" --version | grep release
    cat "$scratch/report"
  } >"$save"
fi
exit "$status"
