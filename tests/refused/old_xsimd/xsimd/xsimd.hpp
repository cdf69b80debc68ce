// tests/refused/old_xsimd -- nothing of it is used.
// SPDX-License-Identifier: Apache-2.0
