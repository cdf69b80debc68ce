// tests/support/print.hpp -- codes, scales and blocks as hexadecimal in a failed CHECK.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <catch2/catch_tostring.hpp>
#include <cstdio>
#include <string>

#include "mxfp4/format/block.hpp"

namespace mxfp4::test {

template <class E>
std::string hex(E value) {
  char text[8];
  std::snprintf(text, sizeof text, "0x%02X", static_cast<unsigned>(value));
  return text;
}

}  // namespace mxfp4::test

namespace Catch {

template <>
struct StringMaker<mxfp4::e2m1> {
  static std::string convert(mxfp4::e2m1 code) { return mxfp4::test::hex(code); }
};
template <>
struct StringMaker<mxfp4::e8m0> {
  static std::string convert(mxfp4::e8m0 scale) { return mxfp4::test::hex(scale); }
};
template <>
struct StringMaker<mxfp4::bf16> {
  static std::string convert(mxfp4::bf16 x) { return mxfp4::test::hex(x); }
};
template <>
struct StringMaker<mxfp4::f16> {
  static std::string convert(mxfp4::f16 x) { return mxfp4::test::hex(x); }
};
template <>
struct StringMaker<mxfp4::block> {
  static std::string convert(const mxfp4::block& b) {
    std::string text = "scale " + mxfp4::test::hex(b.scale) + ", codes";
    for (const auto byte : b.codes) text += " " + mxfp4::test::hex(byte);
    return text;
  }
};

}  // namespace Catch
