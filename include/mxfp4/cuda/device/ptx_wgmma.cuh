// mxfp4/cuda/device/ptx_wgmma.cuh -- wgmma as PTX.
// SPDX-License-Identifier: Apache-2.0
//
// Source: PTX ISA 9.0, "Asynchronous Warpgroup Level Matrix Multiply-Accumulate Instructions". Reached through
// intrinsics.cuh, which describes fragments, operands and rules. All but async_proxy_fence and shared_address need
// target::wgmma, and trap elsewhere.
#pragma once

namespace mxfp4::inline MXFP4_VERSION_NS::cuda::device {

namespace detail {
/// Keeps the compiler, too, from moving what it does with registers across a fence or a wait.
MXFP4_DEVICE void pin(float& r) { asm volatile("" : "+f"(r)::"memory"); }
MXFP4_DEVICE void pin(std::uint32_t& r) { asm volatile("" : "+r"(r)::"memory"); }
template <class T, std::size_t N>
MXFP4_DEVICE void pin(T (&registers)[N]) {
  MXFP4_UNROLL
  for (std::size_t i = 0; i < N; ++i) pin(registers[i]);
}
}  // namespace detail

/// The address of `p` within shared memory.
MXFP4_DEVICE std::uint32_t shared_address(const void* p) { return detail::shared_address(p); }

/// This thread's writes to shared memory, and its asynchronous copies that it has waited for, are seen by a wgmma after
/// the next barrier of the block. sm_90 and later.
MXFP4_DEVICE void async_proxy_fence() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#else
  __trap();
#endif
}

/// Orders this thread's accesses to `registers` before the wgmma that follow.
template <class... Registers>
MXFP4_DEVICE void wgmma_fence(Registers&... registers) {
  (detail::pin(registers), ...);
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#else
  __trap();
#endif
}
/// Closes the group of the wgmma since the last one, which may be none.
MXFP4_DEVICE void wgmma_commit() {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
#else
  __trap();
#endif
}
/// Waits until at most Pending of the latest groups are under way. `registers` are those of ended groups that the
/// thread is about to use.
template <int Pending, class... Registers>
MXFP4_DEVICE void wgmma_wait(Registers&... registers) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(Pending) : "memory");
#else
  __trap();
#endif
  (detail::pin(registers), ...);
}

#define MXFP4_PTX_D4(i) "+f"(d[i]), "+f"(d[(i) + 1]), "+f"(d[(i) + 2]), "+f"(d[(i) + 3])
#define MXFP4_PTX_D16(i) MXFP4_PTX_D4(i), MXFP4_PTX_D4((i) + 4), MXFP4_PTX_D4((i) + 8), MXFP4_PTX_D4((i) + 12)
// clang-format off
#define MXFP4_PTX_WGMMA_64(type)                                                                                       \
  asm volatile("{\n\t.reg .pred p;\n\tsetp.ne.b32 p, %37, 0;\n\t"                                                      \
               "wgmma.mma_async.sync.aligned.m64n64k16.f32." type "." type " "                                         \
               "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "                               \
               "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, "                     \
               "{%32, %33, %34, %35}, %36, p, 1, 1, 0;\n\t}"                                                           \
               : MXFP4_PTX_D16(0), MXFP4_PTX_D16(16)                                                                   \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b.bits), "n"(Accumulate ? 1 : 0)                      \
               : "memory")
#define MXFP4_PTX_WGMMA_128(type)                                                                                      \
  asm volatile("{\n\t.reg .pred p;\n\tsetp.ne.b32 p, %69, 0;\n\t"                                                      \
               "wgmma.mma_async.sync.aligned.m64n128k16.f32." type "." type " "                                        \
               "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "                               \
               "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "                      \
               "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "                      \
               "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, "                     \
               "{%64, %65, %66, %67}, %68, p, 1, 1, 0;\n\t}"                                                           \
               : MXFP4_PTX_D16(0), MXFP4_PTX_D16(16), MXFP4_PTX_D16(32), MXFP4_PTX_D16(48)                             \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b.bits), "n"(Accumulate ? 1 : 0)                      \
               : "memory")
// clang-format on

/// Starts d = a * b, or d += a * b if Accumulate: bf16, 64 x 16 x N, N = 2 Registers.
template <bool Accumulate, std::size_t Registers>
MXFP4_DEVICE void wgmma_bf16(float (&d)[Registers], const std::uint32_t (&a)[4], shared_operand b) {
  static_assert(Registers == 32 || Registers == 64);
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  if constexpr (Registers == 32) MXFP4_PTX_WGMMA_64("bf16");
  else MXFP4_PTX_WGMMA_128("bf16");
#else
  __trap();
#endif
}
/// The same with f16.
template <bool Accumulate, std::size_t Registers>
MXFP4_DEVICE void wgmma_f16(float (&d)[Registers], const std::uint32_t (&a)[4], shared_operand b) {
  static_assert(Registers == 32 || Registers == 64);
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  if constexpr (Registers == 32) MXFP4_PTX_WGMMA_64("f16");
  else MXFP4_PTX_WGMMA_128("f16");
#else
  __trap();
#endif
}

#undef MXFP4_PTX_WGMMA_128
#undef MXFP4_PTX_WGMMA_64
#undef MXFP4_PTX_D16
#undef MXFP4_PTX_D4

}  // namespace mxfp4::cuda::device
