// src/checkpoint/verify_content.cpp -- are the bytes of the MXFP4 tensors those that an encoder writes?
// SPDX-License-Identifier: Apache-2.0
#include <oneapi/tbb/parallel_for.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "checkpoint/block_encoder.hpp"
#include "checkpoint/shared_progress.hpp"
#include "checkpoint/statistics_json.hpp"
#include "checkpoint/verification.hpp"
#include "io/content_hash.hpp"
#include "io/slabs.hpp"
#include "io/strict_json.hpp"
#include "mxfp4/block.hpp"
#include "mxfp4/checkpoint/quantize_file.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

using namespace io;

namespace {

using nlohmann::ordered_json;

/// Of the two codes in a byte.
struct code_pair {
  std::uint16_t squares = 0;  ///< the sum of their (2 * magnitude)^2, integers
  std::uint8_t extreme = 0;   ///< how many are +-6
  std::uint8_t present = 0;   ///< bit m: one has magnitude m, of 8
};

constexpr std::array<code_pair, 256> code_pairs = [] {
  constexpr std::array<std::uint16_t, 8> doubled_squares = {0, 1, 4, 9, 16, 36, 64, 144};
  std::array<code_pair, 256> pairs{};
  for (unsigned byte = 0; byte < pairs.size(); ++byte)
    for (const unsigned magnitude : {byte & 7u, byte >> 4 & 7u}) {
      code_pair& p = pairs[byte];
      p.squares = static_cast<std::uint16_t>(p.squares + doubled_squares[magnitude]);
      p.extreme = static_cast<std::uint8_t>(p.extreme + (magnitude == 7 ? 1 : 0));
      p.present = static_cast<std::uint8_t>(p.present | 1u << magnitude);
    }
  return pairs;
}();

/// Whatever the scale rule, a block's largest weight is more than 1.5 and at most 8.5 scales (modelopt's the one, mlx's
/// the other): its code is that of 1.5 at least. Below scale byte 3 rules end, and any code may be the largest.
constexpr int least_largest_code = 3, first_regular_byte = 3;
constexpr unsigned all_zero = 1, all_small = 0b111;  // code_pair::present, where no other bit is set
static_assert(all_small == (1u << least_largest_code) - 1);

struct content {
  std::int64_t blocks = 0, nan_blocks = 0, first_nan = -1;
  std::int64_t regular_blocks = 0;  ///< with a nonzero code and an ordinary scale
  std::int64_t small_blocks = 0;    ///< of these, whose largest code is too small
  std::int64_t extreme_codes = 0;   ///< +-6, in regular blocks
  std::array<std::int64_t, 256> scales{};
  std::array<std::int64_t, 256> squares{};  ///< by scale byte: the sum of (2 w / scale)^2
  std::string codes_hash, scales_hash;
  std::string error;
};

void add_block(content& c, const std::uint8_t* codes, std::uint8_t scale) {
  ++c.scales[scale];
  ++c.blocks;
  if (scale == static_cast<std::uint8_t>(e8m0::nan)) {
    if (c.nan_blocks++ == 0) c.first_nan = c.blocks - 1;
    return;
  }
  int squares = 0, extreme = 0;
  unsigned present = 0;
  for (int i = 0; i < block_code_bytes; ++i) {
    const code_pair& pair = code_pairs[codes[i]];
    squares += pair.squares;
    extreme += pair.extreme;
    present |= pair.present;
  }
  c.squares[scale] += squares;
  if (present == all_zero || scale < first_regular_byte) return;
  ++c.regular_blocks;
  c.small_blocks += (present & ~all_small) == 0 ? 1 : 0;
  c.extreme_codes += extreme;
}

/// The sum of w^2.
[[nodiscard]] double squared_weights(const content& c) {
  double sum = 0;
  for (std::size_t byte = 0; byte < c.squares.size(); ++byte)
    sum += std::ldexp(static_cast<double>(c.squares[byte]), 2 * (static_cast<int>(byte) - 127) - 2);
  return sum;
}

[[nodiscard]] content read_content(const checkpoint_reader& in, const stored_tensor& t, shared_progress& progress) {
  content c;
  std::vector<std::uint8_t> codes, scales;
  content_hash codes_hash, scales_hash;
  try {
    for_each_slab(t.elements() / block_size, slab_blocks, [&](std::int64_t first, std::int64_t count) {
      progress.require_running(in.path());
      codes.resize(static_cast<std::size_t>(count * block_code_bytes));
      scales.resize(static_cast<std::size_t>(count));
      in.read(*t.data, static_cast<std::uint64_t>(first * block_code_bytes), std::as_writable_bytes(std::span(codes)))
          .value();
      in.read(*t.scale, static_cast<std::uint64_t>(first), std::as_writable_bytes(std::span(scales))).value();
      codes_hash.add(std::as_bytes(std::span(codes)));
      scales_hash.add(std::as_bytes(std::span(scales)));
      for (std::int64_t b = 0; b < count; ++b)
        add_block(c, codes.data() + b * block_code_bytes, scales[static_cast<std::size_t>(b)]);
      progress.add(codes.size() + scales.size());
    });
    c.codes_hash = codes_hash.text();
    c.scales_hash = scales_hash.text();
  } catch (const file_error& e) {
    if (e.interrupted()) throw;
    c.error = e.what();
  }
  return c;
}

/// What mxfp4_report.json says of a tensor, the matrices of a stack added up.
struct reported {
  std::array<std::int64_t, 256> scales{};
  double squares = 0;        ///< of the source's weights
  double error_squares = 0;  ///< of what they lost
};

[[nodiscard]] std::unordered_map<std::string, reported> reported_tensors(verification& v) {
  std::unordered_map<std::string, reported> found;
  if (v.report.is_null()) return found;
  try {
    for (const ordered_json& entry : json_array(v.report, "quantized", report_file_name, "")) {
      reported& r = found[json_value<std::string>(entry, "name", report_file_name, "quantized")];
      const error_statistics s = statistics_from_json(entry, report_file_name, "quantized");
      r.squares += s.squared_weights;
      r.error_squares += s.squared_error;
      for (std::size_t byte = 0; byte < r.scales.size(); ++byte) r.scales[byte] += s.scales[byte];
    }
  } catch (const file_error& e) {
    v.error("content", report_file_name, "cannot be used: " + e.value() + ", expected " + e.expected());
    found.clear();
  }
  return found;
}

[[nodiscard]] std::string percent(std::int64_t part, std::int64_t all) {
  return std::to_string(100 * part / std::max<std::int64_t>(all, 1)) + " %";
}

/// Can weights with these squares be those of the source and what they lost? By the triangle inequality their norm is
/// at most the error's away from the source's; all of it where a recipe makes zeros of weights at the ends of a range.
/// Sums of doubles: to a part in 10^6.
[[nodiscard]] bool fits(const content& c, const reported& r) {
  const double found = std::sqrt(squared_weights(c)), norm = std::sqrt(r.squares), error = std::sqrt(r.error_squares);
  return std::abs(found - norm) <= error + 1e-6 * norm;
}

/// @param by_report  the report is of these very scales, and the codes fit it.
void judge(verification& v, const stored_tensor& t, const content& c, bool by_report) {
  const std::string where = quote_name(t.name);
  if (!c.error.empty()) {
    v.error("content", where, c.error);
    return;
  }
  if (c.nan_blocks > 0) {
    const std::int64_t row_blocks = t.shape.back() / block_size;
    v.error("content", where,
            "scale byte 255 (NaN) in " + std::to_string(c.nan_blocks) + " of " + std::to_string(c.blocks) +
                " blocks, first in row " + std::to_string(c.first_nan / row_blocks) + ", block " +
                std::to_string(c.first_nan % row_blocks));
  }
  if (by_report) return;  // odd weights, such as all of one magnitude, make odd codes
  if (c.small_blocks * 100 > c.regular_blocks)
    v.error("content", where,
            "in " + percent(c.small_blocks, c.regular_blocks) +
                " of the blocks no weight is above 1 scale, which no scale rule does: scales too large");
  if (c.extreme_codes * 2 > c.regular_blocks * block_size)
    v.error("content", where,
            percent(c.extreme_codes, c.regular_blocks * block_size) +
                " of the weights are +-6 scales, the end of the range: scales too small");
}

void compare_with_report(verification& v, const stored_tensor& t, const content& c, const reported& r) {
  const std::string where = quote_name(t.name);
  if (c.scales != r.scales) {
    v.error("content", where,
            std::string("has other scales than ") + report_file_name + " says: it was written by another run");
  } else if (const double squares = squared_weights(c);
             r.squares > 0 && !fits(c, r) && (squares < 0.5 * r.squares || squares > 2 * r.squares)) {
    const double times = std::sqrt(squares / r.squares);
    v.error("content", where,
            "its weights are " + std::to_string(times) + " times those of the source by " + report_file_name +
                ", expected 1 within 20 %: is the scale's exponent shifted?");
  }
}

}  // namespace

void check_content(verification& v) {
  std::vector<const stored_tensor*> weights;
  std::uint64_t bytes = 0;
  for (const stored_tensor& t : v.tensors)
    if (t.kind == storage::mxfp4) {
      weights.push_back(&t);
      bytes += t.bytes();
    }
  std::vector<content> contents(weights.size());
  shared_progress progress(v.options, bytes);
  tbb::parallel_for(std::size_t{0}, weights.size(),
                    [&](std::size_t i) { contents[i] = read_content(v.in, *weights[i], progress); });
  const std::unordered_map<std::string, reported> report = reported_tensors(v);
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const stored_tensor& t = *weights[i];
    v.result.blocks += contents[i].blocks;
    const auto found = report.find(t.name);
    judge(v, t, contents[i],
          found != report.end() && contents[i].scales == found->second.scales && fits(contents[i], found->second));
    if (contents[i].error.empty()) {
      v.hashes[t.data->info->name] = contents[i].codes_hash;
      v.hashes[t.scale->info->name] = contents[i].scales_hash;
    }
    if (report.empty() || !contents[i].error.empty()) continue;
    if (found != report.end()) compare_with_report(v, t, contents[i], found->second);
    else v.error("content", quote_name(t.name), std::string("is not in ") + report_file_name);
  }
}

}  // namespace mxfp4::checkpoint
