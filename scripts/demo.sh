#!/usr/bin/env bash
# Installs what is missing, builds, and tells a story with experts that stream from disk.
set -euo pipefail
cd "$(dirname "$0")/.."

model=models/moe-27m.q4_k.gguf
prompt=${1:-"It was a cold evening in November, and the old house"}
sizes=(--ctx 1024 --chunk 32)

scripts/install_deps.sh
scripts/build.sh release stoker
stoker=build/release/stoker

# The budget that leaves slots for about a quarter of the experts: what a run takes beside them, and
# a quarter of their size.
budget=$("$stoker" inspect "$model" "${sizes[@]}" --json | python3 -c '
import json, sys
model = json.load(sys.stdin)
memory, experts = model["memory"], model["experts"]["bytes"]
beside_experts = memory["full_bytes"] - experts
print(max(memory["minimum_bytes"], beside_experts + experts // 4))')

echo "$model with $budget bytes for everything: about a quarter of its experts fit" >&2
echo "prompt: $prompt ..." >&2
"$stoker" run -m "$model" -p "$prompt" --ram "$budget" "${sizes[@]}" --temp 0.8 --seed 7 -n 200
echo
