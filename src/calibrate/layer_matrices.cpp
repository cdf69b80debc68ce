// src/calibrate/layer_matrices.cpp -- see layer_matrices.hpp.
// SPDX-License-Identifier: Apache-2.0
#include "calibrate/layer_matrices.hpp"

#include <algorithm>
#include <span>

#include "checkpoint/calibration_record.hpp"
#include "model/experts.hpp"
#include "mxfp4/checkpoint/quantize_file.hpp"
#include "mxfp4/io/error.hpp"

namespace mxfp4::calibrate {

using namespace io;
using namespace checkpoint;
using namespace model;

namespace {

using nlohmann::ordered_json;

[[nodiscard]] std::vector<calibrated_matrix> matrices_of_dense(const model_config& config, std::int64_t layer) {
  const expert_description& e = config.experts;
  const model_shape& s = config.shape;
  const std::int64_t hidden = s.hidden, inner = e.dense_intermediate;
  std::vector<calibrated_matrix> all;
  const auto add = [&](const std::string& block, const std::string& part, std::size_t number, std::int64_t rows,
                       std::int64_t cols) {
    all.push_back({part, block + "." + part + ".weight", -1, {number}, rows, cols});
  };
  const std::string attention = layer_name(layer, "self_attn"), block = expert_name(config, layer, 0);
  add(attention, "q_proj", q_number, config.query_size(), hidden);
  add(attention, "k_proj", k_number, config.key_size(), hidden);
  add(attention, "v_proj", v_number, config.value_size(), hidden);
  add(attention, "o_proj", o_number, hidden, s.heads * s.value_dim);
  add(block, e.gate, gate_number, inner, hidden);
  add(block, e.down, down_number, hidden, inner);
  add(block, e.up, up_number, inner, hidden);
  return all;
}

/// Rows of `row` bytes of several matrices that take turns.
[[nodiscard]] std::vector<std::uint8_t> in_turns(const std::vector<const std::vector<std::uint8_t>*>& matrices,
                                                 std::size_t row) {
  std::vector<std::uint8_t> all;
  for (std::size_t at = 0; at < matrices[0]->size(); at += row)
    for (const std::vector<std::uint8_t>* m : matrices)
      all.insert(all.end(), m->begin() + static_cast<std::ptrdiff_t>(at),
                 m->begin() + static_cast<std::ptrdiff_t>(at + row));
  return all;
}
/// The other way round: the rows of the matrix with this number among `count`.
[[nodiscard]] std::vector<std::uint8_t> one_of_turns(const std::vector<std::uint8_t>& all, std::size_t row,
                                                     std::size_t count, std::size_t number) {
  std::vector<std::uint8_t> one;
  for (std::size_t at = number * row; at < all.size(); at += count * row)
    one.insert(one.end(), all.begin() + static_cast<std::ptrdiff_t>(at),
               all.begin() + static_cast<std::ptrdiff_t>(at + row));
  return one;
}

[[nodiscard]] ordered_json facts_of(const std::vector<const matrix_outcome*>& matrices, std::int64_t rows,
                                    std::int64_t tokens) {
  ordered_json facts = {{"tokens", tokens}};
  if (tokens == 0) return facts;
  rounding_result sum;
  for (const matrix_outcome* m : matrices) {
    sum.before += m->rounding.before;
    sum.after += m->rounding.after;
    sum.kept += m->rounding.kept;
  }
  facts["objective"] = rounded_fact(sum.before > 0 ? sum.after / sum.before : 1.0);
  facts["rows"] = rows;
  facts["rows_kept"] = sum.kept;
  facts["damping"] = rounded_fact(matrices[0]->damping);
  return facts;
}

}  // namespace

std::vector<std::int64_t> row_lengths(const model_config& config) {
  const model_shape& s = config.shape;
  if (is_of_linears(config)) return {s.hidden, s.heads * s.value_dim, config.experts.dense_intermediate};
  return {s.hidden, s.intermediate};
}

std::vector<calibrated_matrix> matrices_of(const model_config& config, std::int64_t layer, std::int64_t expert) {
  if (is_of_linears(config)) return matrices_of_dense(config, layer);
  const expert_description& e = config.experts;
  const std::int64_t hidden = config.shape.hidden, inner = config.shape.intermediate;
  if (e.stacked) {
    const std::string stacks = layer_name(layer, e.block + ".experts.");
    return {{e.gate, stacks + e.gate, expert, {gate_number, up_number}, 2 * inner, hidden},
            {e.down, stacks + e.down, expert, {down_number}, hidden, inner}};
  }
  const std::string name = expert_name(config, layer, expert) + ".";
  return {{e.gate, name + e.gate + ".weight", -1, {gate_number}, inner, hidden},
          {e.down, name + e.down + ".weight", -1, {down_number}, hidden, inner},
          {e.up, name + e.up + ".weight", -1, {up_number}, inner, hidden}};
}

std::vector<tensor_info> code_tensors(const std::vector<calibrated_matrix>& matrices) {
  std::vector<tensor_info> tensors;
  for (const calibrated_matrix& m : matrices) {
    tensors.push_back({m.stored() + packed_suffix, dtype::u8, {m.rows, m.cols / 2}});
    tensors.push_back({m.stored() + scale_suffix, dtype::u8, {m.rows, m.cols / block_size}});
  }
  return tensors;
}

ordered_json write_codes(recorded_file_writer& file, const std::vector<calibrated_matrix>& matrices,
                         std::int64_t expert, const outcome_places& outcomes, std::int64_t tokens) {
  ordered_json facts = {{"expert", expert}};
  for (const calibrated_matrix& m : matrices) {
    std::vector<const matrix_outcome*> from;
    std::vector<const std::vector<std::uint8_t>*> codes, scales;
    for (const std::size_t part : m.from) {
      from.push_back(outcomes[part]);
      codes.push_back(&from.back()->weights.codes());
      scales.push_back(&from.back()->weights.scales());
    }
    const auto cols = static_cast<std::size_t>(m.cols);
    const auto append = [&](const char* suffix, const auto& parts, std::size_t row) {
      const std::vector<std::uint8_t> rows = in_turns(parts, row);
      file.append(m.stored() + suffix, std::as_bytes(std::span(rows)));
    };
    append(packed_suffix, codes, cols / 2);
    append(scale_suffix, scales, cols / block_size);
    facts[m.part] = facts_of(from, m.rows, tokens);
  }
  return facts;
}

void take_codes(const std::vector<safetensors_reader>& files, const std::vector<calibrated_matrix>& matrices,
                const linear_places& linears) {
  for (const calibrated_matrix& m : matrices) {
    if (linears[m.from[0]] == nullptr) continue;
    const auto file = std::find_if(files.begin(), files.end(),
                                   [&](const auto& f) { return f.find(m.stored() + packed_suffix) != nullptr; });
    if (file == files.end())
      throw file_error({.file = files.empty() ? std::string() : files.front().path(),
                        .tensor = m.stored(),
                        .value = "is not among what was calibrated"});
    const std::vector<std::uint8_t> codes = read_bytes(*file, m.stored() + packed_suffix),
                                    scales = read_bytes(*file, m.stored() + scale_suffix);
    const auto cols = static_cast<std::size_t>(m.cols);
    for (std::size_t i = 0; i < m.from.size(); ++i) {
      linear& part = *linears[m.from[i]];
      part = part.with_mxfp4(one_of_turns(codes, cols / 2, m.from.size(), i),
                             one_of_turns(scales, cols / block_size, m.from.size(), i));
    }
  }
}

}  // namespace mxfp4::calibrate
