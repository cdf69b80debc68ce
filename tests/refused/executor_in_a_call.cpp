// refused: an executor has a member run(std::size_t tasks, mxfp4::task_ref body), as a lambda has not
// SPDX-License-Identifier: Apache-2.0
// lines: 20
#include "mxfp4/core/executor_ref.hpp"

struct without_run {
  void start(int);
};

void quantize(int recipe, mxfp4::executor_ref with = {});

void f(without_run& threads) {
#ifdef MXFP4_CONTROL
  static_cast<void>(threads);
  const mxfp4::executor_ref with;
  quantize(1, with);
  quantize(1, mxfp4::executor_ref{});
  quantize(1, mxfp4::serial);
  quantize(1, {});
#else
  quantize(1, threads);
#endif
}
