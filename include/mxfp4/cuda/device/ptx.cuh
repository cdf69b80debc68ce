// mxfp4/cuda/device/ptx.cuh -- the functions of intrinsics.cuh as PTX.
// SPDX-License-Identifier: Apache-2.0
//
// Source: PTX ISA 9.0. Reached through intrinsics.cuh, which describes the fragments.
#pragma once

// Instructions that only some architectures have are functions on all of them: on the others the function traps, and
// kernels ask `target` before they call it.
#if defined(__CUDA_ARCH_FAMILY_SPECIFIC__)
#define MXFP4_PTX_FAMILY __CUDA_ARCH_FAMILY_SPECIFIC__
#elif defined(__CUDA_ARCH_FEAT_SM100_ALL)  // nvcc 12.8 has sm_100a, 101a and 120a, and no word for families
#define MXFP4_PTX_FAMILY 1000
#elif defined(__CUDA_ARCH_FEAT_SM101_ALL)
#define MXFP4_PTX_FAMILY 1010
#elif defined(__CUDA_ARCH_FEAT_SM120_ALL)
#define MXFP4_PTX_FAMILY 1200
#else
#define MXFP4_PTX_FAMILY 0
#endif

namespace mxfp4::inline MXFP4_VERSION_NS::cuda::device {

/// What the architecture being compiled for has in hardware. Kernels take it as a template argument, so that the
/// emulator can try each way. All false in nvcc's host pass.
struct target {
#if defined(__CUDA_ARCH__)
  static constexpr int arch = __CUDA_ARCH__;
#else
  static constexpr int arch = 0;
#endif
  static constexpr int family = MXFP4_PTX_FAMILY;
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  static constexpr bool wgmma = true;
#else
  static constexpr bool wgmma = false;
#endif
  static constexpr bool e2m1_convert = family >= 1000;           ///< cvt of e2m1x2 from f32 and to f16
  static constexpr bool e4m3_convert = arch >= 890;              ///< cvt of e4m3x2 from f32
  static constexpr bool e4m3_mma = arch == 890 || arch >= 1200;  ///< mma.m16n8k32 of e4m3; sm_90 and sm_100 emulate it
  static constexpr bool block_scaled_mma = family >= 1200 && family < 1300;  ///< mma kind::mxf8f6f4
};

// ---- where a thread is ----------------------------------------------------------------------------------------------

MXFP4_DEVICE int thread_index() { return static_cast<int>(threadIdx.x); }
MXFP4_DEVICE int lane_index() { return static_cast<int>(threadIdx.x) & 31; }
MXFP4_DEVICE int warp_index() { return static_cast<int>(threadIdx.x) >> 5; }
MXFP4_DEVICE int block_threads() { return static_cast<int>(blockDim.x); }
MXFP4_DEVICE int block_x() { return static_cast<int>(blockIdx.x); }
MXFP4_DEVICE int block_y() { return static_cast<int>(blockIdx.y); }
MXFP4_DEVICE int block_z() { return static_cast<int>(blockIdx.z); }
MXFP4_DEVICE int grid_x() { return static_cast<int>(gridDim.x); }
MXFP4_DEVICE int grid_y() { return static_cast<int>(gridDim.y); }
MXFP4_DEVICE int grid_z() { return static_cast<int>(gridDim.z); }

// ---- memory ---------------------------------------------------------------------------------------------------------

namespace detail {
template <int Bytes>
struct register_of;
template <>
struct register_of<1> {
  using type = unsigned char;
};
template <>
struct register_of<2> {
  using type = unsigned short;
};
template <>
struct register_of<4> {
  using type = unsigned;
};
template <>
struct register_of<8> {
  using type = uint2;
};
template <>
struct register_of<16> {
  using type = uint4;
};

/// The built-in type that moves a T in one instruction.
template <class T>
using register_for = typename register_of<static_cast<int>(sizeof(T))>::type;
static_assert(sizeof(uint4) == 16 && sizeof(uint2) == 8);

MXFP4_DEVICE unsigned shared_address(const void* p) { return static_cast<unsigned>(__cvta_generic_to_shared(p)); }

extern __shared__ __align__(1024) unsigned char dynamic_shared_memory[];
}  // namespace detail

/// The block's dynamic shared memory, aligned to 1024 bytes; undefined at the start.
MXFP4_DEVICE std::uint8_t* shared_memory() { return detail::dynamic_shared_memory; }

/// T is trivially copyable, 1, 2, 4, 8 or 16 bytes, naturally aligned.
template <class T>
MXFP4_DEVICE T load(const T* p) {
  return mxfp4::detail::bit_cast<T>(*reinterpret_cast<const detail::register_for<T>*>(p));
}
/// Loads through the read-only cache: nothing may write there while the kernel runs.
template <class T>
MXFP4_DEVICE T load_constant(const T* p) {
  return mxfp4::detail::bit_cast<T>(__ldg(reinterpret_cast<const detail::register_for<T>*>(p)));
}
/// The same for data that is read once: it is not kept in the caches.
template <class T>
MXFP4_DEVICE T load_streaming(const T* p) {
  return mxfp4::detail::bit_cast<T>(__ldcs(reinterpret_cast<const detail::register_for<T>*>(p)));
}
template <class T>
MXFP4_DEVICE void store(T* p, const T& value) {
  *reinterpret_cast<detail::register_for<T>*>(p) = mxfp4::detail::bit_cast<detail::register_for<T>>(value);
}
/// The same for data that this kernel does not read again.
template <class T>
MXFP4_DEVICE void store_streaming(T* p, const T& value) {
  __stcs(reinterpret_cast<detail::register_for<T>*>(p), mxfp4::detail::bit_cast<detail::register_for<T>>(value));
}
/// Shared memory, `p` being within shared_memory().
template <class T>
MXFP4_DEVICE T load_shared(const T* p) {
  return mxfp4::detail::bit_cast<T>(*reinterpret_cast<const detail::register_for<T>*>(p));
}
template <class T>
MXFP4_DEVICE void store_shared(T* p, const T& value) {
  *reinterpret_cast<detail::register_for<T>*>(p) = mxfp4::detail::bit_cast<detail::register_for<T>>(value);
}

/// Starts to copy Bytes (4, 8 or 16; both sides aligned to them) from global to shared memory. Where `valid` is false,
/// zeros arrive and `global` is not read. The bytes are there for this thread after copy_async_wait, for others after a
/// barrier that follows it.
template <int Bytes>
MXFP4_DEVICE void copy_async(void* shared, const void* global, bool valid = true) {
  static_assert(Bytes == 4 || Bytes == 8 || Bytes == 16);
  if constexpr (Bytes == 16)
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(detail::shared_address(shared)), "l"(global),
                 "r"(valid ? 16 : 0)
                 : "memory");
  else
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(detail::shared_address(shared)), "l"(global),
                 "n"(Bytes), "r"(valid ? Bytes : 0)
                 : "memory");
}
/// The same, of which only the first `bytes`, 0 .. Bytes, are read; zeros arrive for the rest. Bytes is 4 or 8.
template <int Bytes>
MXFP4_DEVICE void copy_async_part(void* shared, const void* global, int bytes) {
  static_assert(Bytes == 4 || Bytes == 8);
  asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(detail::shared_address(shared)), "l"(global),
               "n"(Bytes), "r"(bytes)
               : "memory");
}
/// Closes this thread's group of copies, which may be empty.
MXFP4_DEVICE void copy_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
/// Waits until at most Pending of this thread's latest groups are under way.
template <int Pending>
MXFP4_DEVICE void copy_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(Pending) : "memory");
}

// ---- atomics, relaxed, seen by the whole device; they return the old value ------------------------------------------

MXFP4_DEVICE std::uint32_t atomic_add(std::uint32_t* p, std::uint32_t value) { return atomicAdd(p, value); }
MXFP4_DEVICE std::uint32_t atomic_or(std::uint32_t* p, std::uint32_t value) { return atomicOr(p, value); }
MXFP4_DEVICE std::uint32_t atomic_max(std::uint32_t* p, std::uint32_t value) { return atomicMax(p, value); }
MXFP4_DEVICE std::uint32_t atomic_exchange(std::uint32_t* p, std::uint32_t value) { return atomicExch(p, value); }
/// The same on shared memory.
MXFP4_DEVICE std::uint32_t atomic_add_shared(std::uint32_t* p, std::uint32_t value) { return atomicAdd(p, value); }
/// This thread's earlier writes are seen by the device before its later ones.
MXFP4_DEVICE void memory_fence() { __threadfence(); }

// ---- barriers and warp collectives ----------------------------------------------------------------------------------

MXFP4_DEVICE void block_barrier() { __syncthreads(); }
MXFP4_DEVICE void warp_barrier() { __syncwarp(); }

/// The value of lane `lane ^ mask`; T: std::uint32_t, int or float.
template <class T>
MXFP4_DEVICE T shuffle_xor(T value, int mask) {
  return __shfl_xor_sync(~0u, value, mask);
}
/// The value of lane `source`, 0 .. 31, which may differ between lanes.
template <class T>
MXFP4_DEVICE T shuffle(T value, int source) {
  return __shfl_sync(~0u, value, source);
}
/// The value of lane `lane - delta`, the own value where there is none.
template <class T>
MXFP4_DEVICE T shuffle_up(T value, int delta) {
  return __shfl_up_sync(~0u, value, static_cast<unsigned>(delta));
}
/// Bit i: the predicate of lane i.
MXFP4_DEVICE std::uint32_t ballot(bool predicate) { return __ballot_sync(~0u, predicate); }
/// Over the 32 lanes, in every lane.
MXFP4_DEVICE std::uint32_t warp_max(std::uint32_t value) { return __reduce_max_sync(~0u, value); }
MXFP4_DEVICE std::uint32_t warp_add(std::uint32_t value) { return __reduce_add_sync(~0u, value); }

// ---- bytes and pairs ------------------------------------------------------------------------------------------------

/// Byte i of the result: byte (selector >> 4i) & 7 of b:a; with bit 3 of the selector its sign bit in all places.
MXFP4_DEVICE std::uint32_t permute_bytes(std::uint32_t a, std::uint32_t b, std::uint32_t selector) {
  return __byte_perm(a, b, selector);
}

/// Two bf16 products, each rounded to nearest even, subnormals kept.
MXFP4_DEVICE std::uint32_t multiply_bf16x2(std::uint32_t a, std::uint32_t b) {
  std::uint32_t d;
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm("mul.rn.bf16x2 %0, %1, %2;" : "=r"(d) : "r"(a), "r"(b));
#else
  asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(0x80008000u));  // + -0 keeps every product
#endif
  return d;
}
/// Two sums a * b + c of bf16 likewise, rounded once.
MXFP4_DEVICE std::uint32_t multiply_add_bf16x2(std::uint32_t a, std::uint32_t b, std::uint32_t c) {
  std::uint32_t d;
  asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
  return d;
}
/// The smaller of two bf16, twice; neither is NaN.
MXFP4_DEVICE std::uint32_t min_bf16x2(std::uint32_t a, std::uint32_t b) {
  std::uint32_t d;
  asm("min.bf16x2 %0, %1, %2;" : "=r"(d) : "r"(a), "r"(b));
  return d;
}
/// The larger of two bf16, twice; NaN if either is.
MXFP4_DEVICE std::uint32_t max_bf16x2(std::uint32_t a, std::uint32_t b) {
  std::uint32_t d;
  asm("max.NaN.bf16x2 %0, %1, %2;" : "=r"(d) : "r"(a), "r"(b));
  return d;
}
/// Two f16 products likewise.
MXFP4_DEVICE std::uint32_t multiply_f16x2(std::uint32_t a, std::uint32_t b) {
  std::uint32_t d;
  asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(d) : "r"(a), "r"(b));
  return d;
}

/// Two floats to two f16, nearest even, overflow to infinity; the first into the lower half.
MXFP4_DEVICE std::uint32_t convert_f32x2_f16x2(float low, float high) {
  std::uint32_t d;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(d) : "f"(high), "f"(low));
  return d;
}

/// The two f16 of a pair as floats, exactly; NaN may lose its sign.
MXFP4_DEVICE void convert_f16x2_f32x2(std::uint32_t pair, float& low, float& high) {
  asm("{\n\t.reg .b16 l, h;\n\tmov.b32 {l, h}, %2;\n\tcvt.f32.f16 %0, l;\n\tcvt.f32.f16 %1, h;\n\t}"
      : "=f"(low), "=f"(high)
      : "r"(pair));
}

/// a * b rounded to nearest even, subnormals kept whatever -ftz says.
MXFP4_DEVICE float multiply_f32(float a, float b) {
  float d;
  asm("mul.rn.f32 %0, %1, %2;" : "=f"(d) : "f"(a), "f"(b));
  return d;
}
/// a * b + c rounded once.
MXFP4_DEVICE float fused_multiply_add(float a, float b, float c) { return __fmaf_rn(a, b, c); }

/// Eight codes, code i in bits 4i .. 4i + 3, to eight f16: d[j] holds values 2j (low half) and 2j + 1.
MXFP4_DEVICE void convert_e2m1x8_f16(std::uint32_t codes, std::uint32_t (&d)[4]) {
#if MXFP4_PTX_FAMILY >= 1000
  asm("{\n\t.reg .b8 b0, b1, b2, b3;\n\tmov.b32 {b0, b1, b2, b3}, %4;\n\t"
      "cvt.rn.f16x2.e2m1x2 %0, b0;\n\tcvt.rn.f16x2.e2m1x2 %1, b1;\n\t"
      "cvt.rn.f16x2.e2m1x2 %2, b2;\n\tcvt.rn.f16x2.e2m1x2 %3, b3;\n\t}"
      : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
      : "r"(codes));
#else
  __trap();
#endif
}
/// Eight floats to eight codes, nearest even, saturating, NaN to 7; code i in bits 4i .. 4i + 3.
MXFP4_DEVICE std::uint32_t convert_f32x8_e2m1(const float (&x)[8]) {
  std::uint32_t d = 0;
#if MXFP4_PTX_FAMILY >= 1000
  asm("{\n\t.reg .b8 b0, b1, b2, b3;\n\t"
      "cvt.rn.satfinite.e2m1x2.f32 b0, %2, %1;\n\tcvt.rn.satfinite.e2m1x2.f32 b1, %4, %3;\n\t"
      "cvt.rn.satfinite.e2m1x2.f32 b2, %6, %5;\n\tcvt.rn.satfinite.e2m1x2.f32 b3, %8, %7;\n\t"
      "mov.b32 %0, {b0, b1, b2, b3};\n\t}"
      : "=r"(d)
      : "f"(x[0]), "f"(x[1]), "f"(x[2]), "f"(x[3]), "f"(x[4]), "f"(x[5]), "f"(x[6]), "f"(x[7]));
#else
  __trap();
#endif
  return d;
}

/// Four floats to four e4m3, nearest even, saturating at 448, NaN to NaN; float i in byte i.
MXFP4_DEVICE std::uint32_t convert_f32x4_e4m3(const float (&x)[4]) {
  std::uint32_t d = 0;
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 890
  asm("{\n\t.reg .b16 h0, h1;\n\tcvt.rn.satfinite.e4m3x2.f32 h0, %2, %1;\n\tcvt.rn.satfinite.e4m3x2.f32 h1, %4, %3;\n\t"
      "mov.b32 %0, {h0, h1};\n\t}"
      : "=r"(d)
      : "f"(x[0]), "f"(x[1]), "f"(x[2]), "f"(x[3]));
#else
  __trap();
#endif
  return d;
}

// ---- tensor cores: d += a * b, all 32 lanes together ----------------------------------------------------------------

/// The rows' addresses: lane 8i + j names row j of matrix i, 0 <= i < 4.
MXFP4_DEVICE void ldmatrix_x4(std::uint32_t (&d)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
               : "r"(detail::shared_address(row))
               : "memory");
}
/// Each matrix transposed.
MXFP4_DEVICE void ldmatrix_x4_trans(std::uint32_t (&d)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
               : "r"(detail::shared_address(row))
               : "memory");
}
/// Two matrices: the addresses of lanes 16 .. 31 are not used, but must be valid.
MXFP4_DEVICE void ldmatrix_x2(std::uint32_t (&d)[2], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
               : "=r"(d[0]), "=r"(d[1])
               : "r"(detail::shared_address(row))
               : "memory");
}

/// 16 x 8 x 16 of bf16, sums in f32.
MXFP4_DEVICE void mma_bf16(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
/// 16 x 8 x 16 of f16, sums in f32.
MXFP4_DEVICE void mma_f16(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/// 16 x 8 x 32 of e4m3, sums in f32. In hardware where target::e4m3_mma; elsewhere the compiler widens to f16.
MXFP4_DEVICE void mma_e4m3(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 890
  asm("mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  __trap();
#endif
}

/// 16 x 8 x 32, A of e2m1 (one code a byte, in bits 2 .. 5, the others zero), B of e4m3, each with an E8M0 scale for
/// its 32 values; sums in f32. Scales of A: byte ByteA of scale_a in lanes t = 0 (row g) and t = 1 (row g + 8); of B:
/// byte ByteB of scale_b in lanes t = 0 (column g).
template <int ByteA, int ByteB>
MXFP4_DEVICE void mma_e2m1_e4m3(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2],
                                std::uint32_t scale_a, std::uint32_t scale_b) {
  static_assert(ByteA >= 0 && ByteA < 4 && ByteB >= 0 && ByteB < 4);
#if MXFP4_PTX_FAMILY >= 1200 && MXFP4_PTX_FAMILY < 1300
  asm("mma.sync.aligned.m16n8k32.row.col.kind::mxf8f6f4.block_scale.scale_vec::1X.f32.e2m1.e4m3.f32.ue8m0 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3}, {%10}, {%11, 0}, {%12}, {%13, 0};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "r"(scale_a), "n"(ByteA), "r"(scale_b),
        "n"(ByteB));
#else
  __trap();
#endif
}

#undef MXFP4_PTX_FAMILY

}  // namespace mxfp4::cuda::device
