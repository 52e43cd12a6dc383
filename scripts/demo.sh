#!/usr/bin/env bash
# Installs what is missing, builds, and tells a story with experts that stream from disk.
set -euo pipefail
cd "$(dirname "$0")/.."

model=models/moe-27m.q4_k.gguf
prompt=${1:-"It was a cold evening in November, and the old house"}
context=1024
chunk=32

scripts/install_deps.sh
scripts/build.sh release stoker
stoker=build/release/cli/stoker

# The budget that leaves room for a quarter of the experts: what a run takes with none of them
# beyond that, and a quarter of their size.
budget=$("$stoker" inspect "$model" --ctx $context --chunk $chunk --json | python3 -c '
import json, sys
model = json.load(sys.stdin)
memory, experts = model["memory"], model["experts"]["bytes"]
fixed = memory["full_bytes"] - experts
print(max(memory["minimum_bytes"], fixed + experts // 4))')

echo "--- $model, $budget bytes of memory: room for about a quarter of its experts ---" >&2
echo
printf '%s' "$prompt"
"$stoker" run -m "$model" -p "$prompt" --ram "$budget" --ctx $context --chunk $chunk \
  --temp 0.8 --seed 7 -n 200
echo
