// mxfp4/executor.hpp -- who runs the tasks of a call: executor_ref, task_ref, serial; adapters are in executor/.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "mxfp4/core/executor_ref.hpp"
