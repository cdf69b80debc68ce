// tests/cuda/kernels/scalar.cu -- the scalar functions are device code: what a kernel author calls, in a kernel.
// SPDX-License-Identifier: Apache-2.0
#include "mxfp4/cuda/device/launch.cuh"
#include "mxfp4/format/block.hpp"
#include "mxfp4/format/mxfp8.hpp"
#include "mxfp4/format/peer_cast.hpp"
#include "mxfp4/tensor/layout.hpp"
#include "mxfp4/tensor/view.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::cuda::kernel {

struct use_scalar {
  static constexpr int threads = 32;
  static constexpr int blocks_per_processor = 1;
  struct arguments {
    const float* x;
    mx_view<> w;
    float* y;
  };
  static MXFP4_DEVICE void run(const arguments& a) {
    constexpr e2m1 three = encode_e2m1(3.1f);  // in a constant expression ...
    static_assert(decode(three) == 3.0f && decode(e8m0{0}) == 0x1p-127f);
    static_assert(choose_scale<scale_floor>(6.0f).byte == 127 && encode_f16(1.0f) == f16{0x3C00});
    float x[block_size];  // ... and with what only the device knows
    for (int i = 0; i < block_size; ++i) x[i] = a.x[i];
    const block encoded = encode_block<recipe::compressed_tensors>(x);
    for (int j = 0; j < block_code_bytes; ++j) a.w.block_codes(0, 0)[j] = encoded.codes[j];
    *a.w.block_scale(0, 0) = static_cast<std::uint8_t>(encoded.scale);
    bf16 back[block_size];
    decode_block<dialect::ggml>(encoded, back);
    const mxfp8_block eight = encode_mxfp8(x);
    a.y[0] = decode(back[3]) + decode(eight.element[1], eight.scale) + decode_weight(three, encoded.scale);
  }
};

}  // namespace mxfp4::cuda::kernel

template cudaError_t mxfp4::cuda::launch<mxfp4::cuda::kernel::use_scalar>(const grid&, std::size_t, cudaStream_t,
                                                                          const kernel::use_scalar::arguments&);
