// mxfp4/status.hpp -- what a call says of its arguments: status, errc, message(), result<T>.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "mxfp4/core/status.hpp"
