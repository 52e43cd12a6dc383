#!/usr/bin/env bash
# Runs the kernels' twin and the devices under the address and undefined-behaviour sanitizers.
set -euo pipefail
cd "$(dirname "$0")/.."

tests=(twin_machine_test mma_test device_test device_contract_test device_attend_rows_test
  device_embed_rows_test device_expert_group_test device_finish_heads_test
  device_finish_latent_test device_gate_rows_test device_group_pairs_test
  device_head_product_test device_log_sum_exp_test device_matmul_rows_test
  device_norm_rows_test device_quantize_rows_test device_route_rows_test
  device_sum_parts_test)

scripts/install_deps.sh
[[ -f build/twin/build.ninja ]] || cmake -S . -B build/twin -G Ninja --log-level=WARNING \
  -DCMAKE_BUILD_TYPE=Release -DSTOKER_SANITIZE=address,undefined -DSTOKER_BENCH=OFF \
  -DSTOKER_CUDA=OFF >&2
cmake --build build/twin --target "${tests[@]}" >&2
for name in "${tests[@]}"; do
  "$(find build/twin/tests -type f -name "$name" -perm -u+x)" --gtest_brief=1
done
