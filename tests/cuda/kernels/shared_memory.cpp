// tests/cuda/kernels/shared_memory.cpp -- what machine code does not say of the kernels in it: threads of a block and
// the most dynamic shared memory. A line for each: mangled name, threads, bytes. For sass/check.py.
//
// SPDX-License-Identifier: Apache-2.0
#include <cstdio>
#include <typeinfo>

#include "mxfp4/cuda/gemm.cuh"
#include "mxfp4/cuda/gemm_mxfp8.cuh"
#include "mxfp4/cuda/gemv_mxfp8.cuh"
#include "mxfp4/cuda/moe.cuh"

namespace {

using namespace mxfp4::cuda;
using mxfp4::bf16, mxfp4::f16;

template <class... Kernels>
void print(kernel_set<Kernels...>) {
  (static_cast<void>(
       std::printf("%s %d %d\n", typeid(Kernels).name(), Kernels::threads, detail::most_shared_bytes<Kernels>())),
   ...);
}

}  // namespace

int main() {  // the kernels of products.cu and products_mxfp8.cu
  print(gemm_kernels<bf16, float>{});
  print(gemm_kernels<f16, f16>{});
  print(gemv_mma16_kernels<bf16, float>{});
  print(gemv_mma16_kernels<f16, f16>{});
  print(moe_kernels<bf16, bf16>{});
  print(moe_kernels<f16, float>{});
  print(gemm_mxfp8_kernels<bf16>{});
  print(gemv_mxfp8_kernels<float>{});
}
