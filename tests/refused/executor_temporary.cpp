// refused: a temporary executor would be gone before it is used: give it a name, and pass that
// SPDX-License-Identifier: Apache-2.0
// lines: 20
#include "mxfp4/tensor/gemm_options.hpp"

struct pool {
  void run(std::size_t tasks, mxfp4::task_ref body) {
    for (std::size_t i = 0; i < tasks; ++i) body(i);
  }
};

void multiply(mxfp4::gemm_options);

void f() {
#ifdef MXFP4_CONTROL
  pool threads;
  multiply({.executor = threads});
#else
  multiply({.executor = pool{}});
#endif
}
