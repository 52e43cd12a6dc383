#!/usr/bin/env bash
# Installs, builds and tests everything: scripts/test.sh [--sanitize asan|ubsan|tsan].
set -euo pipefail
cd "$(dirname "$0")/.."

preset=release
if [[ "${1:-}" == "--sanitize" ]]; then
  preset=${2:?usage: scripts/test.sh [--sanitize asan|ubsan|tsan]}
elif [[ $# -gt 0 ]]; then
  echo "usage: scripts/test.sh [--sanitize asan|ubsan|tsan]" >&2
  exit 2
fi

scripts/install_deps.sh --all
scripts/build.sh "$preset"
python3 tests/tidy.py --headers --format
# What a sanitizer slows down is not run under it: the suite's fast part covers the same code.
labels=()
[[ "$preset" == release ]] || labels=(-L unit)
ctest --test-dir "build/$preset" --output-on-failure -j "$(nproc)" "${labels[@]}"
