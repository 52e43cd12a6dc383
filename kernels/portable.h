// What lets one source be compiled for several instruction sets and devices in one program.
//
// An inline function that two translation units emit out of line is one function to the linker,
// which keeps either copy: were one of them compiled for AVX-512, the baseline would run AVX-512
// code. So everything that kernels compiled for an instruction set share is STOKER_INLINE, which
// never leaves an out-of-line copy, and those kernels include no header of the standard library
// beyond <cstddef> and <cstdint> that has code to emit. To a compiler of GPU code the same
// functions are ones that run on both sides; STOKER_HOST_INLINE is for those that call back into
// code of the host.
#pragma once

#define STOKER_HOST_INLINE [[gnu::always_inline]] inline

#ifdef __CUDACC__
#define STOKER_INLINE __host__ __device__ __attribute__((always_inline)) inline
#else
#define STOKER_INLINE [[gnu::always_inline]] inline
#endif
