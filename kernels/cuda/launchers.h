// The operations of kernels/device_ops.h, each a function that starts its kernels.
//
// They return 0 or the error code of the runtime. STOKER_DEVICE_NAMESPACE (cuda or twin) comes from
// the build: see port.cuh.
#pragma once

#include "kernels/device_args.h"

#ifdef STOKER_DEVICE_NAMESPACE
namespace stoker::STOKER_DEVICE_NAMESPACE {

int NormRows(const NormRowsArgs& args, void* native_stream);
int QuantizeRows(const QuantizeRowsArgs& args, void* native_stream);
int MatmulRows(const MatmulRowsArgs& args, void* native_stream);
int GateRows(const GateRowsArgs& args, void* native_stream);
int FinishHeads(const FinishHeadsArgs& args, void* native_stream);
int FinishLatent(const FinishLatentArgs& args, void* native_stream);
int HeadProduct(const HeadProductArgs& args, void* native_stream);
int AttendRows(const AttendRowsArgs& args, void* native_stream);
int RouteRows(const RouteRowsArgs& args, void* native_stream);
int GroupPairs(const GroupPairsArgs& args, void* native_stream);
int ExpertGroup(const ExpertGroupArgs& args, void* native_stream);
int SumParts(const SumPartsArgs& args, void* native_stream);
int LogSumExp(const LogSumExpArgs& args, void* native_stream);
int EmbedRows(const EmbedRowsArgs& args, void* native_stream);

}  // namespace stoker::STOKER_DEVICE_NAMESPACE
#endif
