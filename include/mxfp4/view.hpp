// mxfp4/view.hpp -- matrices that somebody else owns: mx_view, dense_view, mxfp8_view, and their checked factories.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "mxfp4/tensor/mxfp8_view.hpp"
#include "mxfp4/tensor/view.hpp"
