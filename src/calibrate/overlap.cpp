// src/calibrate/overlap.cpp -- see overlap.hpp.
// SPDX-License-Identifier: Apache-2.0
#include "calibrate/overlap.hpp"

#include <algorithm>
#include <cstdio>
#include <unordered_set>

namespace mxfp4::calibrate {

namespace {

constexpr std::int64_t most_prints = 1024;
constexpr std::uint64_t base = 0x9E3779B97F4A7C15;  ///< odd: a token that leaves is taken off exactly

[[nodiscard]] std::string text_of(std::uint64_t hash) {
  hash ^= hash >> 32;  // the low bits of a product know little of the high ones
  hash *= 0xD6E8FEB86659FD93;
  hash ^= hash >> 32;
  char text[20];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(hash));
  return text;
}

/// body(position, hash) for every run of fingerprint_tokens tokens.
template <class Body>
void for_each_run(const std::vector<std::int64_t>& ids, Body body) {
  std::uint64_t hash = 0, leaving = 1;
  for (std::int64_t i = 0; i < fingerprint_tokens; ++i) leaving *= base;
  for (std::int64_t i = 0; i < std::ssize(ids); ++i) {
    hash = hash * base + static_cast<std::uint64_t>(ids[static_cast<std::size_t>(i)]) + 1;
    const std::int64_t first = i - fingerprint_tokens + 1;
    if (first > 0) hash -= leaving * (static_cast<std::uint64_t>(ids[static_cast<std::size_t>(first - 1)]) + 1);
    if (first >= 0) body(first, hash);
  }
}

}  // namespace

std::vector<std::string> fingerprints(const std::vector<std::int64_t>& ids, std::int64_t context) {
  const std::int64_t step = std::max(fingerprint_tokens, (std::ssize(ids) + most_prints - 1) / most_prints);
  std::vector<std::string> prints;
  std::int64_t next = 0;
  for_each_run(ids, [&](std::int64_t at, std::uint64_t hash) {
    if (at < next || at % context + fingerprint_tokens > context) return;
    prints.push_back(text_of(hash));
    next = at + step;
  });
  return prints;
}

std::int64_t count_found(const std::vector<std::string>& prints, const std::vector<std::int64_t>& ids) {
  std::unordered_set<std::string> there;
  for_each_run(ids, [&there](std::int64_t, std::uint64_t hash) { there.insert(text_of(hash)); });
  return std::count_if(prints.begin(), prints.end(), [&there](const std::string& p) { return there.contains(p); });
}

}  // namespace mxfp4::calibrate
