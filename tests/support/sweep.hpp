// tests/support/sweep.hpp -- a check over a range of bit patterns that reports once, not four billion times.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <ios>
#include <ostream>
#include <thread>

namespace mxfp4::test {

/// How many places of a sweep were wrong, and the first of them. CHECK(sweep(...) == none) prints both.
struct findings {
  std::uint64_t count = 0;
  std::uint64_t first = 0;

  void expect(bool right, std::uint64_t where) {
    if (right) return;
    if (count == 0) first = where;
    ++count;
  }
  friend bool operator==(const findings&, const findings&) = default;
  friend std::ostream& operator<<(std::ostream& out, const findings& f) {
    if (f.count == 0) return out << "nothing wrong";
    return out << std::dec << f.count << " wrong, the first at 0x" << std::hex << f.first << std::dec;
  }
};
inline constexpr findings none{};

/// `part(begin, end)` checks a range and returns its findings; here it is run on two halves at once.
template <class Part>
findings sweep(std::uint64_t begin, std::uint64_t end, Part part) {
  const std::uint64_t middle = begin + (end - begin) / 2;
  findings upper;
  std::thread other([&] { upper = part(middle, end); });
  findings lower = part(begin, middle);
  other.join();
  if (lower.count == 0) return upper;
  lower.count += upper.count;
  return lower;
}

/// The same for a check of one pattern, `check(i) -> bool`, at every `stride`-th place.
template <class Check>
findings sweep_each(std::uint64_t begin, std::uint64_t end, Check check, std::uint64_t stride = 1) {
  return sweep(0, (end - begin + stride - 1) / stride, [&](std::uint64_t from, std::uint64_t to) {
    findings found;
    for (std::uint64_t i = from; i < to; ++i) found.expect(check(begin + i * stride), begin + i * stride);
    return found;
  });
}

}  // namespace mxfp4::test
