#!/usr/bin/env bash
# Fuzzes the GGUF reader and the tokenizer with clang's libFuzzer: scripts/fuzz.sh [SECONDS_EACH].
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-120}
scripts/install_deps.sh --all
[[ -f build/fuzz/build.ninja ]] || cmake -S . -B build/fuzz -G Ninja --log-level=WARNING \
  -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_COMPILER=clang++-14 -DSTOKER_FUZZ=ON -DSTOKER_BENCH=OFF
cmake --build build/fuzz --target gguf_fuzz tokenizer_fuzz
found=$(mktemp -d)
trap 'rm -rf "$found"' EXIT
for target in gguf tokenizer; do
  mkdir "$found/$target"
  # New inputs go to the first folder; the corpus in the tree is only read.
  "build/fuzz/tests/fuzz/${target}_fuzz" -max_total_time="$seconds" -print_final_stats=1 \
    "$found/$target" "tests/fuzz/corpus/$target"
done
