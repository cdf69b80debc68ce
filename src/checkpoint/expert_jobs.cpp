// src/checkpoint/expert_jobs.cpp -- rows of codes and scales, in order or taking turns, under the names of a form.
// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/expert_jobs.hpp"

#include <algorithm>
#include <span>
#include <utility>

#include "checkpoint/exact_fp8.hpp"
#include "checkpoint/fp8_tiles.hpp"
#include "checkpoint/ggml_blocks.hpp"
#include "mxfp4/checkpoint/quantize_file.hpp"
#include "mxfp4/io/byte_order.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

using namespace io;

namespace {

using bytes_type = std::vector<std::uint8_t>;

constexpr std::int64_t slab_weights = 2 * copy_slab_bytes;  // their codes take copy_slab_bytes

/// body(tile, codes, scales) for rows [first, first + rows), in slabs, whatever the length of a row.
template <class Body>
void for_each_slab_of(const weight_rows& w, std::int64_t first, std::int64_t rows, Body body) {
  bytes_type codes, scales;
  for_each_tile(rows, w.cols(), slab_weights, [&](fp8_tile tile) {
    tile.row += first;
    w.read(tile, codes, scales);
    body(tile, std::as_const(codes), std::as_const(scales));
  });
}

void append_bytes(const append_function& append, const std::string& name, const bytes_type& bytes) {
  append(name, std::as_bytes(std::span(bytes)));
}

void append_rows(const weight_rows& w, std::int64_t first, std::int64_t rows, const std::string& codes_name,
                 const std::string& scales_name, const append_function& append) {
  for_each_slab_of(w, first, rows, [&](const fp8_tile&, const bytes_type& codes, const bytes_type& scales) {
    append_bytes(append, codes_name, codes);
    append_bytes(append, scales_name, scales);
  });
}

void append_in_order(const weight_rows& w, const std::string& codes_name, const std::string& scales_name,
                     const append_function& append) {
  append_rows(w, 0, w.rows(), codes_name, scales_name, append);
}

/// Row after row from two sources in turn.
[[nodiscard]] bytes_type taking_turns(const bytes_type& a, const bytes_type& b, std::int64_t rows) {
  bytes_type both(a.size() + b.size());
  const auto row = static_cast<std::ptrdiff_t>(rows == 0 ? 0 : a.size() / static_cast<std::size_t>(rows));
  for (std::ptrdiff_t r = 0; r < rows; ++r) {
    std::copy_n(a.begin() + r * row, row, both.begin() + 2 * r * row);
    std::copy_n(b.begin() + r * row, row, both.begin() + (2 * r + 1) * row);
  }
  return both;
}

void append_turns(const weight_rows& a, const weight_rows& b, const std::string& codes_name,
                  const std::string& scales_name, const append_function& append) {
  if (a.cols() > slab_weights) {
    for (std::int64_t r = 0; r < a.rows(); ++r)
      for (const weight_rows* w : {&a, &b}) append_rows(*w, r, 1, codes_name, scales_name, append);
    return;
  }
  bytes_type codes, scales;
  for_each_slab_of(a, 0, a.rows(), [&](const fp8_tile& tile, const bytes_type& a_codes, const bytes_type& a_scales) {
    b.read(tile, codes, scales);
    append_bytes(append, codes_name, taking_turns(a_codes, codes, tile.rows));
    append_bytes(append, scales_name, taking_turns(a_scales, scales, tile.rows));
  });
}

[[nodiscard]] bytes_type read_bias(const expert_matrix& m) {
  const std::int64_t size = dtype_bits(m.bias->tensor->info.type) / 8;
  bytes_type bytes(static_cast<std::size_t>(m.weight.rows() * size));
  read_rows(m.bias->tensor->read, size, m.bias->first, m.bias->step, m.weight.rows(),
            std::as_writable_bytes(std::span(bytes)));
  return bytes;
}

[[nodiscard]] std::string expert_name(const expert_layer& layer, std::size_t e, expert_role role) {
  return layer.prefix + "." + std::to_string(e) + "." + layer.name(role);
}

[[nodiscard]] std::int64_t size_of(const std::vector<expert_matrix>& experts) {
  return static_cast<std::int64_t>(experts.size());
}

/// A job of one expert's matrix that writes its bias too, where it has one.
[[nodiscard]] tensor_job with_bias(tensor_job job, const expert_matrix& m, const std::string& name) {
  if (!m.bias) return job;
  job.outputs.push_back({name, m.bias->tensor->info.type, {m.weight.rows()}});
  job.run = [weight = std::move(job.run), &m, name](const append_function& append) {
    weight(append);
    append_bytes(append, name, read_bias(m));
  };
  return job;
}

[[nodiscard]] tensor_job pair_of(const weight_rows& w, const std::string& name,
                                 const std::vector<std::int64_t>& shape) {
  std::vector<std::int64_t> codes = shape, scales = shape;
  codes.back() /= 2;
  scales.back() /= block_size;
  return {{{name + packed_suffix, dtype::u8, codes}, {name + scale_suffix, dtype::u8, scales}},
          [w, name](const append_function& append) {
            append_in_order(w, name + packed_suffix, name + scale_suffix, append);
          }};
}

/// Of a tensor that holds all experts of a layer.
struct stack_names {
  std::string codes, scales, bias;
};
[[nodiscard]] std::vector<tensor_info> stack_outputs(const stack_names& names,
                                                     const std::vector<expert_matrix>& experts, std::int64_t rows,
                                                     bool in_blocks) {
  const std::int64_t count = size_of(experts), blocks = experts.front().weight.cols() / block_size;
  std::vector<std::int64_t> codes = {count, rows};
  if (in_blocks) codes.insert(codes.end(), {blocks, block_code_bytes});
  else codes.push_back(blocks * block_code_bytes);
  std::vector<tensor_info> outputs = {{names.codes, dtype::u8, codes},
                                      {names.scales, dtype::u8, {count, rows, blocks}}};
  if (experts.front().bias) outputs.push_back({names.bias, experts.front().bias->tensor->info.type, {count, rows}});
  return outputs;
}

void require_pairs(const expert_layer& layer, const std::string& where) {
  const auto& gate = layer.experts(expert_role::gate);
  const auto& up = layer.experts(expert_role::up);
  const auto fail = [&](const std::string& value, const std::string& expected) {
    throw file_error({.file = where,
                      .value = quote_name(layer.prefix) + " " + value,
                      .expected = expected,
                      .advice = "gate and up matrices become one tensor in this form"});
  };
  if (gate.empty() || up.empty() || layer.experts(expert_role::down).empty())
    fail("has not all of " + layer.names[0] + ", " + layer.names[1] + " and " + layer.names[2] + " as MXFP4",
         "all three");
  const auto shape = [](const expert_matrix& m) { return shape_text({m.weight.rows(), m.weight.cols()}); };
  if (shape(gate.front()) != shape(up.front()))
    fail("has " + layer.names[0] + " of " + shape(gate.front()) + ", " + layer.names[1] + " of " + shape(up.front()),
         "the same shape");
  if (gate.front().bias.has_value() != up.front().bias.has_value() ||
      (gate.front().bias && gate.front().bias->tensor->info.type != up.front().bias->tensor->info.type))
    fail("has " + layer.names[0] + " and " + layer.names[1] + " that differ in their bias",
         "both or neither, of one type");
}

/// gate_up_proj and down_proj of a layer; the gate and up rows of an expert one after the other, or in turns.
[[nodiscard]] std::vector<tensor_job> fused_jobs(const expert_layer& layer, bool turns, const std::string& where) {
  require_pairs(layer, where);
  const auto names = [&](const char* part) -> stack_names {
    const std::string name = layer.prefix + "." + part;
    return turns ? stack_names{name + "_blocks", name + "_scales", name + "_bias"}
                 : stack_names{name + packed_suffix, name + scale_suffix, name + "_bias"};
  };
  const stack_names fused = names("gate_up_proj"), down = names("down_proj");
  const auto& gates = layer.experts(expert_role::gate);
  const auto& ups = layer.experts(expert_role::up);
  const auto& downs = layer.experts(expert_role::down);
  std::vector<tensor_job> jobs(2);
  jobs[0].outputs = stack_outputs(fused, gates, 2 * gates.front().weight.rows(), turns);
  jobs[0].run = [&gates, &ups, fused, turns](const append_function& append) {
    for (std::size_t e = 0; e < gates.size(); ++e) {
      const expert_matrix &gate = gates[e], &up = ups[e];
      if (turns) {
        append_turns(gate.weight, up.weight, fused.codes, fused.scales, append);
        if (gate.bias)
          append_bytes(append, fused.bias, taking_turns(read_bias(gate), read_bias(up), gate.weight.rows()));
      } else {
        for (const expert_matrix* m : {&gate, &up}) {
          append_in_order(m->weight, fused.codes, fused.scales, append);
          if (m->bias) append_bytes(append, fused.bias, read_bias(*m));
        }
      }
    }
  };
  jobs[1].outputs = stack_outputs(down, downs, downs.front().weight.rows(), turns);
  jobs[1].run = [&downs, down](const append_function& append) {
    for (const expert_matrix& m : downs) {
      append_in_order(m.weight, down.codes, down.scales, append);
      if (m.bias) append_bytes(append, down.bias, read_bias(m));
    }
  };
  return jobs;
}

void append_ggml(const weight_rows& w, const std::string& name, const append_function& append) {
  bytes_type blocks;
  for_each_slab_of(w, 0, w.rows(), [&](const fp8_tile&, const bytes_type& codes, const bytes_type& scales) {
    blocks.resize(scales.size() * block_bytes);
    to_ggml_blocks(codes, scales, blocks);
    append_bytes(append, name, blocks);
  });
}

[[nodiscard]] ggml_type ggml_type_for(const tensor_info& t, const std::string& where) {
  const std::optional<ggml_type> type = ggml_type_of(t.type);
  if (!type)
    throw file_error({.file = where,
                      .tensor = t.name,
                      .value = std::string("is ") + dtype_name(t.type) + ", which ggml has no type for",
                      .expected = "F32, F16, BF16, F64, I8, I16, I32, I64 or MXFP4"});
  return *type;
}

/// A block's scale is known after 128 rows, and its weights are written row by row: 128 rows are held at a time.
constexpr std::int64_t longest_fp8_row = 1 << 18;

void append_fp8(const weight_rows& w, const std::string& name, const std::string& where,
                const append_function& append) {
  bytes_type codes, scales;
  std::vector<e4m3> fp8;
  std::vector<float> block_scales(static_cast<std::size_t>(fp8_block_count(w.cols())));
  for (std::int64_t first = 0; first < w.rows(); first += fp8_block) {
    const std::int64_t count = std::min(fp8_block, w.rows() - first);
    w.read({first, count, 0, w.cols()}, codes, scales);
    fp8.resize(static_cast<std::size_t>(count * w.cols()));
    exponent_span why;
    const std::int64_t bad = encode_exact_fp8(codes, scales, count, w.cols(), fp8, block_scales, why);
    if (bad >= 0) {
      const std::string place =
          "block [" + std::to_string(first / fp8_block) + ", " + std::to_string(bad) + "] of " + name;
      if (why.nan)
        throw file_error({.file = where,
                          .tensor = w.weight().name,
                          .value = place + " has a scale byte 255, which is NaN",
                          .expected = "numbers"});
      throw file_error({.file = where,
                        .tensor = w.weight().name,
                        .value = place + " holds weights from 2^" + std::to_string(why.bottom) + " to 2^" +
                                 std::to_string(why.top) + ", a spread of " + std::to_string(why.top - why.bottom),
                        .expected = "at most 17, which is what e4m3 holds under one scale",
                        .advice = "leave the checkpoint in MXFP4, or dequantize it to BF16"});
    }
    swap_if_big_endian(std::span(block_scales));
    append(name, std::as_bytes(std::span(fp8)));
    append(name + fp8_scale_suffix, std::as_bytes(std::span(block_scales)));
  }
}

[[nodiscard]] tensor_job fp8_of(const weight_rows& w, const std::string& name, const std::string& where) {
  if (w.cols() > longest_fp8_row)
    throw file_error({.file = where,
                      .tensor = w.weight().name,
                      .value = "has rows of " + std::to_string(w.cols()) + " weights",
                      .expected = "at most " + std::to_string(longest_fp8_row) + " for blocks of 128 x 128",
                      .advice = "dequantize it to BF16"});
  return {{{name, dtype::f8_e4m3, {w.rows(), w.cols()}},
           {name + fp8_scale_suffix, dtype::f32, {fp8_block_count(w.rows()), fp8_block_count(w.cols())}}},
          [w, name, where](const append_function& append) { append_fp8(w, name, where, append); }};
}

/// make(matrix, name) for every matrix of every expert.
template <class Make>
[[nodiscard]] std::vector<tensor_job> for_each_expert(const expert_layer& layer, Make make) {
  std::size_t count = 0;
  for (const expert_role role : expert_roles) count = std::max(count, layer.experts(role).size());
  std::vector<tensor_job> jobs;
  for (std::size_t e = 0; e < count; ++e)
    for (const expert_role role : expert_roles)
      if (e < layer.experts(role).size()) {
        const expert_matrix& m = layer.experts(role)[e];
        const std::string name = expert_name(layer, e, role);
        jobs.push_back(with_bias(make(m, name + ".weight"), m, name + ".bias"));
      }
  return jobs;
}

}  // namespace

std::vector<tensor_job> per_expert_jobs(const expert_layer& layer) {
  return for_each_expert(layer, [](const expert_matrix& m, const std::string& name) {
    return pair_of(m.weight, name, {m.weight.rows(), m.weight.cols()});
  });
}

std::vector<tensor_job> stacked_jobs(const expert_layer& layer, const std::string& where) {
  return fused_jobs(layer, false, where);
}

std::vector<tensor_job> gpt_oss_jobs(const expert_layer& layer, const std::string& where) {
  return fused_jobs(layer, true, where);
}

std::vector<tensor_job> fp8_jobs(const expert_layer& layer, const std::string& where) {
  return for_each_expert(
      layer, [&](const expert_matrix& m, const std::string& name) { return fp8_of(m.weight, name, where); });
}

std::vector<gguf_job> gguf_jobs(const expert_layer& layer, const std::string& where) {
  std::vector<gguf_job> jobs;
  for (const expert_role role : expert_roles) {
    const std::vector<expert_matrix>& experts = layer.experts(role);
    if (experts.empty()) continue;
    const weight_rows& first = experts.front().weight;
    const std::string name = layer.prefix + "." + layer.name(role);
    gguf_job job;
    job.outputs = {{name + ".weight", ggml_type::mxfp4, {size_of(experts), first.rows(), first.cols()}}};
    if (experts.front().bias)
      job.outputs.push_back(
          {name + ".bias", ggml_type_for(experts.front().bias->tensor->info, where), {size_of(experts), first.rows()}});
    job.run = [&experts, name](const append_function& append) {
      for (const expert_matrix& m : experts) {
        append_ggml(m.weight, name + ".weight", append);
        if (m.bias) append_bytes(append, name + ".bias", read_bias(m));
      }
    };
    jobs.push_back(std::move(job));
  }
  return jobs;
}

tensor_job pair_job(const mxfp4_weight& weight) { return pair_of(weight_rows::all(weight), weight.name, weight.shape); }

tensor_job fp8_job(const mxfp4_weight& weight, const std::string& where) {
  if (weight.shape.size() != 2)
    throw file_error({.file = where,
                      .tensor = weight.name,
                      .value = "is " + shape_text(weight.shape),
                      .expected = "a matrix",
                      .advice = "a stack that is not called ..experts.. has no FP8 form"});
  return fp8_of(weight_rows::all(weight), weight.name, where);
}

gguf_job ggml_job(const mxfp4_weight& weight) {
  return {{{weight.name, ggml_type::mxfp4, weight.shape}},
          [w = weight_rows::all(weight), name = weight.name](const append_function& append) {
            append_ggml(w, name, append);
          }};
}

tensor_job copy_job(const plain_tensor& tensor) {
  return {{{tensor.info.name, tensor.info.type, tensor.info.shape}}, [&tensor](const append_function& append) {
            copy_bytes(tensor.read, tensor.info.bytes(), tensor.info.name, append);
          }};
}

gguf_job copy_to_gguf_job(const plain_tensor& tensor, const std::string& where) {
  return {{{tensor.info.name, ggml_type_for(tensor.info, where), tensor.info.shape}},
          [&tensor](const append_function& append) {
            copy_bytes(tensor.read, tensor.info.bytes(), tensor.info.name, append);
          }};
}

}  // namespace mxfp4::checkpoint
