// The table of operations of one compilation of the kernels.
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/tables.h"

#define STOKER_NAME_OF(name) #name
#define STOKER_TEXT_OF(name) STOKER_NAME_OF(name)

namespace stoker::STOKER_DEVICE_NAMESPACE {

const DeviceOps kOps = {
    .name = STOKER_TEXT_OF(STOKER_DEVICE_NAMESPACE),
    .norm_rows = MakeDeviceOp<NormRowsArgs, NormRows>("norm_rows"),
    .quantize_rows = MakeDeviceOp<QuantizeRowsArgs, QuantizeRows>("quantize_rows"),
    .matmul_rows = MakeDeviceOp<MatmulRowsArgs, MatmulRows>("matmul_rows"),
    .gate_rows = MakeDeviceOp<GateRowsArgs, GateRows>("gate_rows"),
    .finish_heads = MakeDeviceOp<FinishHeadsArgs, FinishHeads>("finish_heads"),
    .finish_latent = MakeDeviceOp<FinishLatentArgs, FinishLatent>("finish_latent"),
    .head_product = MakeDeviceOp<HeadProductArgs, HeadProduct>("head_product"),
    .attend_rows = MakeDeviceOp<AttendRowsArgs, AttendRows>("attend_rows"),
    .route_rows = MakeDeviceOp<RouteRowsArgs, RouteRows>("route_rows"),
    .group_pairs = MakeDeviceOp<GroupPairsArgs, GroupPairs>("group_pairs"),
    .expert_group = MakeDeviceOp<ExpertGroupArgs, ExpertGroup>("expert_group"),
    .sum_parts = MakeDeviceOp<SumPartsArgs, SumParts>("sum_parts"),
    .log_sum_exp = MakeDeviceOp<LogSumExpArgs, LogSumExp>("log_sum_exp"),
    .embed_rows = MakeDeviceOp<EmbedRowsArgs, EmbedRows>("embed_rows"),
};

}  // namespace stoker::STOKER_DEVICE_NAMESPACE
