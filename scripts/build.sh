#!/usr/bin/env bash
# Builds a preset into build/<preset>: scripts/build.sh [PRESET [TARGET...]].
set -euo pipefail
cd "$(dirname "$0")/.."

preset=${1:-release}
shift || true
[[ -f "build/$preset/build.ninja" ]] || cmake --preset "$preset" --log-level=WARNING >&2
cmake --build --preset "$preset" ${1:+--target "$@"} >&2
