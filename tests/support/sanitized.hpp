// tests/support/sanitized.hpp -- MXFP4_TEST_ASAN, where AddressSanitizer is compiled in.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#if defined(__SANITIZE_ADDRESS__)  // g++
#define MXFP4_TEST_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)  // clang++
#define MXFP4_TEST_ASAN 1
#endif
#endif
