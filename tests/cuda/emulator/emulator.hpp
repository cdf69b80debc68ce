// tests/cuda/emulator/emulator.hpp -- what the device headers ask of an emulator; MXFP4_CUDA_EMULATOR names this file.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "cuda/emulator/intrinsics.hpp"
#include "cuda/emulator/runtime.hpp"
