// tests/dispatch.leak/sse2.cpp -- a unit as mxfp4::dispatch must not have it: dispatch.symbol_gate.leak names leaks().
// SPDX-License-Identifier: Apache-2.0
namespace mxfp4 {
[[gnu::noinline]] inline int leaks(int x) { return x + 1; }
inline namespace dispatch_sse2 {
[[gnu::noinline]] inline int is_tagged(int x) { return x * 2; }
}  // namespace dispatch_sse2
}  // namespace mxfp4

int call_both(int x);
int call_both(int x) { return mxfp4::leaks(x) + mxfp4::is_tagged(x); }
