// mxfp4/executor.hpp -- who runs the tasks of a call: executor_ref, task_ref, serial; adapters are in executor/.
// SPDX-License-Identifier: Apache-2.0
//
// The library has no threads. Every whole-matrix function takes `{.executor = pool}` as its last argument, where pool
// is an object with a member run(tasks, body): an adapter of executor/, or a few lines round the pool that you have. It
// must have a name and outlive the call. Results do not depend on it, bit for bit.
//
// Example:
//
//   struct four_threads {
//     void run(std::size_t tasks, mxfp4::task_ref body) const {
//       std::vector<std::jthread> team;
//       for (std::size_t t = 0; t < 4; ++t)
//         team.emplace_back([=] {
//           for (std::size_t i = t; i < tasks; i += 4) body(i);
//         });
//     }
//   };
#pragma once

#include "mxfp4/core/executor_ref.hpp"
