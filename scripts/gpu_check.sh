#!/usr/bin/env bash
# Checks and measures all that needs a GPU, on a machine that has one, within nine minutes.
#
#   scripts/gpu_check.sh [--out DIR] [--rehearse] [STAGE...]
#   scripts/gpu_check.sh --pack
#
# Stages, in order; all of them when none is named:
#   build     programs and tests in build/gpu (or $STOKER_BUILD), unless build/gpu-pack holds them
#   test      every test of the device and of its kernels
#   exact     the shipped model's logits on the GPU, over budgets and placements, against the CPU's
#   drafts    the shipped model's text with each drafter, against the CPU's without
#   sanitize  compute-sanitizer (memcheck, racecheck) over the smaller kernel tests
#   links     what the links give, alone and together
#   resident  a 30B-A3B model, all in VRAM: prompt and decode beside the memory's ceiling
#   budget    the same with 75, 50 and 25 % of its experts in VRAM, the rest in RAM
#   slice     DeepSeek-V3's layers in 24 GB of VRAM and 6 GB of RAM, the rest on the drive
#   report    the tables, from what the stages left
# Results go to bench/results/<gpu>/ (or DIR), one JSON file a measurement and README.md. --pack
# builds here, for a machine without compilers or packages, and gathers programs, tests and
# libraries in build/gpu-pack, which the stages then use. --rehearse runs every stage on the
# modelled GPU with small models: it checks this script, and measures nothing. No stage but the
# report begins after STOKER_GPU_CHECK_SECONDS (480).
set -euo pipefail
cd "$(dirname "$0")/.."

device=cuda
out=
scratch=${TMPDIR:-/tmp}/stoker-gpu-check
seconds_max=${STOKER_GPU_CHECK_SECONDS:-480}  # after which no stage begins
stages=()
all_stages=(build test exact drafts sanitize links resident budget slice report)
resident_model=(qwen3moe-9g --layers 48 --vocab 151936)
slice_model=(deepseek3-slice --layers 6)
# So little RAM that a third of what is not in VRAM stays on the drive.
slice_budgets=(--vram 24G --ram 6G)
tokens=(-p 512 -n 64 -r 3)
draft_tokens=200

pack=build/gpu-pack
build=${STOKER_BUILD:-build/gpu}
test_programs=(device_contract_test device_attend_rows_test device_embed_rows_test
  device_expert_group_test device_finish_heads_test device_finish_latent_test
  device_gate_rows_test device_group_pairs_test device_head_product_test device_log_sum_exp_test
  device_matmul_rows_test device_norm_rows_test device_quantize_rows_test device_route_rows_test
  device_sum_parts_test)
sanitized_programs=(device_norm_rows_test device_route_rows_test device_group_pairs_test
  device_sum_parts_test device_quantize_rows_test device_log_sum_exp_test)

say() { echo "gpu_check: $*" >&2; }

# Prints the path of a program, from the pack or the build tree.
program() {
  if [[ -x $pack/bin/$1 ]]; then
    echo "$pack/bin/$1"
  else
    find "$build" -type f -name "$1" -perm -u+x | head -1
  fi
}

build_tree() {
  local architectures=$1
  shift
  cmake -S . -B "$build" -G Ninja --log-level=WARNING -DCMAKE_BUILD_TYPE=Release \
    -DSTOKER_CUDA="$stoker_cuda" -DSTOKER_CUDA_ARCHITECTURES="$architectures" >&2
  cmake --build "$build" --target stoker make_model "${test_programs[@]}" "$@" >&2
}

# Programs and the libraries that a bare machine lacks; the C library stays the machine's own.
make_pack() {
  scripts/install_deps.sh
  stoker_cuda=ON build_tree "${STOKER_CUDA_ARCHITECTURES:-90}"
  rm -rf "$pack"
  mkdir -p "$pack/bin" "$pack/lib"
  local name path
  for name in stoker make_model "${test_programs[@]}"; do
    path=$(find "$build" -type f -name "$name" -perm -u+x | head -1)
    strip -o "$pack/bin/$name" "$path"
    ldd "$path" | awk '$3 ~ /^\// {print $3}'
  done | sort -u | grep -vE '/(libc|libm|libdl|librt|libpthread|libresolv)\.so' |
    xargs -I{} cp -L {} "$pack/lib/"
  local packed_mib sources_mib pack_mib_max
  packed_mib=$(du -sm "$pack" | cut -f1)
  sources_mib=$(git ls-files -z | du --files0-from=- -cm | tail -1 | cut -f1)
  pack_mib_max=$((64 - sources_mib))
  [[ $packed_mib -le $pack_mib_max ]] || {
    say "FAILED: packed $packed_mib MiB in $pack, more than $pack_mib_max"
    say "  try: STOKER_CUDA_ARCHITECTURES with one architecture only"
    return 1
  }
  say "packed $packed_mib MiB in $pack"
}

stage_build() {
  if [[ -x $pack/bin/stoker ]]; then
    say "using $pack"
  elif [[ $device == cuda ]]; then
    stoker_cuda=ON build_tree native
  else
    stoker_cuda=AUTO build_tree 80
  fi
}

# Google Test prints what it skipped; a suite that skipped everything has checked nothing.
stage_test() {
  local name failed=0
  for name in "${test_programs[@]}"; do
    say "test: $name"
    timeout 120 "$(program "$name")" --gtest_brief=1 >"$out/$name.log" 2>&1 || {
      say "FAILED: $name, see $out/$name.log"
      failed=1
    }
  done
  cat "$out"/device_*_test.log >"$out/tests.log"
  rm "$out"/device_*_test.log
  return $failed
}

stage_exact() {
  local stoker model=models/moe-27m.q4_k.gguf ids some count=0 flags
  stoker=$(program stoker)
  ids=$(seq -s ' ' 3 7 300)
  some=$(vram_for_share "$model" 40)
  "$stoker" logits -m "$model" --ids "$ids" --device cpu -o "$scratch/cpu.safetensors"
  while read -r flags; do
    # shellcheck disable=SC2086
    "$stoker" logits -m "$model" --ids "$ids" --device "$device" $flags \
      -o "$scratch/device.safetensors"
    cmp "$scratch/cpu.safetensors" "$scratch/device.safetensors" || {
      say "FAILED: logits with $flags are not those of the CPU"
      return 1
    }
    count=$((count + 1))
  done <<FLAGS
--vram auto --ram auto --place gpu
--vram auto --ram min --place gpu --chunk 1
--vram min --ram min --place cpu
--vram $some --ram min --place auto --chunk 7
--vram $some --ram min --place copy
--vram $some --ram auto --place auto --policy lfu
FLAGS
  echo "{\"runs\": $count, \"same_bits\": true}" >"$out/exact.json"
}

# generate FLAGS...: text of the shipped model, which must not depend on the flags; what speculation
# did is told on stderr.
generate() {
  "$(program stoker)" run -m models/moe-27m.q4_k.gguf -p "It was a bright cold day" \
    -n "$draft_tokens" --ctx 1024 --temp 0.7 --seed 4 "$@"
}

stage_drafts() {
  local draft length expected text count=0
  expected=$(generate --device cpu 2>/dev/null)
  : >"$out/drafts.log"
  for draft in ngram mtp models/draft-1m.q8_0.gguf; do
    for length in auto 3; do
      text=$(generate --device "$device" --vram "$(vram_for_share models/moe-27m.q4_k.gguf 40)" \
        --ram min --draft "$draft" --draft-len "$length" 2>>"$out/drafts.log")
      [[ $text == "$expected" ]] || {
        say "FAILED: with --draft $draft --draft-len $length the text is not that of the CPU"
        return 1
      }
      count=$((count + 1))
    done
  done
  echo "{\"runs\": $count, \"same_text\": true}" >"$out/drafts.json"
}

stage_sanitize() {
  local name tool
  [[ $device == cuda ]] || return 0
  command -v compute-sanitizer >/dev/null || {
    say "FAILED: there is no compute-sanitizer here; it comes with the CUDA toolkit"
    return 1
  }
  for name in "${sanitized_programs[@]}"; do
    for tool in memcheck racecheck; do
      say "compute-sanitizer $tool: $name"
      timeout 90 compute-sanitizer --tool "$tool" --error-exitcode 9 "$(program "$name")" \
        --gtest_brief=1 >"$out/$tool.log" 2>&1 || {
        say "FAILED: $tool found something in $name, or ran too long: see $out/$tool.log"
        return 1
      }
    done
  done
  rm -f "$out/memcheck.log" "$out/racecheck.log"
}

# bench NAME FLAGS...: one measurement on the device.
bench() {
  local name=$1
  shift
  say "bench $name: $*"
  "$(program stoker)" bench --device "$device" --format json "$@" >"$out/$name.json"
}

# model_file NAME SHAPE...: a synthetic model, made once.
model_file() {
  local path=$scratch/$1.gguf
  shift
  [[ -f $path ]] || "$(program make_model)" "$@" -o "$path" >&2
  echo "$path"
}

stage_links() { bench links --links; }

stage_resident() {
  local model
  model=$(model_file resident "${resident_model[@]}")
  bench resident -m "$model" "${tokens[@]}" --place gpu
}

# vram_for_share MODEL PERCENT: the budget at which that share of the experts is in VRAM.
vram_for_share() {
  "$(program stoker)" inspect "$1" --plan --json --device "$device" --ctx 1024 |
    python3 -c '
import json, sys
device, percent = json.load(sys.stdin)["device"], int(sys.argv[1])
least = device["minimum_bytes"]
print(least + (device["full_bytes"] - least) * percent // 100)' "$2"
}

stage_budget() {
  local model percent place
  model=$(model_file resident "${resident_model[@]}")
  for percent in 75 50 25; do
    for place in auto cpu copy; do
      bench "budget-$percent-$place" -m "$model" "${tokens[@]}" --ctx 1024 --place "$place" \
        --vram "$(vram_for_share "$model" "$percent")"
    done
  done
}

stage_slice() {
  local model
  rm -f "$scratch/resident.gguf"
  model=$(model_file slice "${slice_model[@]}")
  bench slice -m "$model" "${tokens[@]}" --ctx 1024 "${slice_budgets[@]}"
}

stage_report() { python3 bench/gpu_report.py "$out" >"$out/README.md"; }

rehearse() {
  device=modelled
  out=${out:-$scratch/rehearsal}
  resident_model=(tiny-qwen3moe)
  slice_model=(tiny-qwen3moe)
  slice_budgets=(--vram min --ram min)
  tokens=(-p 8 -n 4 -r 1)
  draft_tokens=6
}

while [[ $# -gt 0 ]]; do
  case $1 in
    --pack) make_pack; exit ;;
    --out) out=${2:?--out needs a folder} && shift ;;
    --rehearse) rehearse ;;
    -*) say "unknown flag $1; see the head of $0" && exit 2 ;;
    *) stages+=("$1") ;;
  esac
  shift
done
[[ ${#stages[@]} -gt 0 ]] || stages=("${all_stages[@]}")
if [[ $device == cuda ]]; then
  gpu=$(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | head -1) || true
  [[ -n $gpu ]] || {
    say "no GPU found: nvidia-smi names none"
    say "  likely: this machine has none, or its driver is not loaded"
    say "  try: a machine with one, or --rehearse to check the script without"
    exit 1
  }
  out=${out:-bench/results/$(tr 'A-Z ' 'a-z-' <<<"$gpu")}
fi
mkdir -p "$out" "$scratch"
[[ -d $pack/lib ]] && export LD_LIBRARY_PATH=$PWD/$pack/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}

failed=()
for stage in "${stages[@]}"; do
  if [[ " ${all_stages[*]} " != *" $stage "* ]]; then
    say "no stage $stage: ${all_stages[*]}"
    exit 2
  fi
  if [[ $SECONDS -ge $seconds_max && $stage != report ]]; then
    say "FAILED: no time left for $stage: $SECONDS s of $seconds_max are over"
    failed+=("$stage")
    continue
  fi
  start=$SECONDS
  # A subshell of its own, outside any condition, so that its first failure ends the stage.
  set +e
  (
    set -e
    "stage_$stage"
  )
  [[ $? -eq 0 ]] || failed+=("$stage")
  set -e
  say "$stage took $((SECONDS - start)) s"
done
[[ ${#failed[@]} -eq 0 ]] || { say "failed: ${failed[*]}" && exit 1; }
