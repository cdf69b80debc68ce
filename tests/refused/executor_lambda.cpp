// refused: an executor has a member run(std::size_t tasks, mxfp4::task_ref body), as a lambda has not
// SPDX-License-Identifier: Apache-2.0
// lines: 20
#include "mxfp4/tensor/gemm_options.hpp"

struct pool {
  void run(std::size_t tasks, mxfp4::task_ref body) const {
    for (std::size_t i = 0; i < tasks; ++i) body(i);
  }
};

void multiply(mxfp4::gemm_options = {});

void f() {
#ifdef MXFP4_CONTROL
  const pool threads;
  multiply({.executor = threads});
  multiply({.executor = {}});
  multiply();
#else
  const auto threads = [](std::size_t tasks, mxfp4::task_ref body) {
    for (std::size_t i = 0; i < tasks; ++i) body(i);
  };
  multiply({.executor = threads});
#endif
}
