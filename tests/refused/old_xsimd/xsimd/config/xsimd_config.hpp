// tests/refused/old_xsimd -- as much of xsimd 12.1.1 as says which version it is.
// SPDX-License-Identifier: Apache-2.0
#define XSIMD_VERSION_MAJOR 12
#define XSIMD_VERSION_MINOR 1
#define XSIMD_VERSION_PATCH 1
