// src/checkpoint/quantize_shard.cpp -- slabs, and the three stages through which they go.
// SPDX-License-Identifier: Apache-2.0
#include "mxfp4/checkpoint/quantize_shard.hpp"

#include <oneapi/tbb/global_control.h>
#include <oneapi/tbb/info.h>
#include <oneapi/tbb/parallel_pipeline.h>
#include <oneapi/tbb/task_arena.h>

#include <algorithm>
#include <bit>
#include <mutex>
#include <string>

#include "checkpoint/block_encoder.hpp"
#include "checkpoint/codec.hpp"
#include "checkpoint/encode_shard.hpp"
#include "checkpoint/expert_stack.hpp"
#include "checkpoint/fp8_scales.hpp"
#include "io/content_hash.hpp"
#include "io/guarded.hpp"
#include "mxfp4/io/byte_order.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

using namespace io;

namespace {

/// The matrices of a tensor, of an array of them the leading dimensions count as one.
struct geometry {
  geometry() = default;
  explicit geometry(const planned_tensor& t) {
    if (t.stack) {
      layout = *t.stack;
    } else {
      layout.rows = t.source.shape[t.source.shape.size() - 2];
      layout.cols = t.source.shape.back();
    }
    rows = layout.rows;
    cols = layout.cols;
    size = rows * cols;
  }

  stack_layout layout;
  std::int64_t rows = 0, cols = 0, size = 0;  ///< of one matrix

  [[nodiscard]] std::int64_t row_in_stack(std::int64_t matrix, std::int64_t row) const noexcept {
    return matrix % layout.parts * rows + row;
  }
};

/// Small enough that what is read, encoded and written is still in a near cache at each of these steps; large enough
/// for a band of 128 rows of 4096 weights, whose tables are then made once.
constexpr std::int64_t pipeline_weights = 1 << 19, pipeline_bytes = 1 << 19;

/// A run of weights inside one matrix, or of bytes to be copied.
struct slab {
  const planned_tensor* tensor = nullptr;
  std::size_t index = 0;  ///< of the tensor in the plan
  tensor_action action = tensor_action::copy;
  checkpoint_tensor source;
  const std::string* output = nullptr;  ///< where copied bytes go
  geometry shape;                       ///< of what is encoded
  std::int64_t matrix = 0;
  std::int64_t first = 0, count = 0;  ///< weights, matrix after matrix as they are written; of copies bytes
  bool ends_matrix = false, ends_tensor = false, has_codes = false;
  fp8_scale_tile scales;  ///< of FP8
  code_costs costs;       ///< has_codes

  std::vector<std::byte> bytes;    ///< as read
  std::vector<std::byte> scratch;  ///< what a transposed stack is arranged by
  std::vector<bf16> widened;
  std::vector<float> numbers;                           ///< has_codes: the weights
  std::vector<std::uint8_t> plain_codes, plain_scales;  ///< has_codes: what the recipe makes of them
  block_encoder encoder;
  status error;

  slab(recipe_id recipe, on_nonfinite policy) : encoder(recipe, policy) {}

  /// Its matrix as reports count: -1 where the tensor is no stack of them.
  [[nodiscard]] std::int64_t matrix_of_stack() const noexcept {
    return tensor->source.shape.size() == 3 && tensor->stack ? matrix : -1;
  }
  /// Whose matrix it is, likewise.
  [[nodiscard]] std::int64_t expert_of_stack() const noexcept {
    return matrix_of_stack() < 0 ? -1 : matrix / shape.layout.parts;
  }
  [[nodiscard]] bool is_transposed() const noexcept {
    return action == tensor_action::quantize && shape.layout.transposed && count > 0;
  }
  /// Of its matrix; is_transposed, which is whole rows.
  [[nodiscard]] fp8_tile tile() const noexcept {
    return {(first - matrix * shape.size) / shape.cols, count / shape.cols, 0, shape.cols};
  }

  /// Of an FP8 tensor: rows counted through what its scales lie over, which is all parts of an expert.
  [[nodiscard]] fp8_tile fp8() const noexcept {
    const std::int64_t at = first - matrix * shape.size, row = at / shape.cols, col = at % shape.cols;
    const std::int64_t rows = count < shape.cols ? 1 : count / shape.cols;
    return {shape.row_in_stack(matrix, row), rows, col, count / rows};
  }

  /// What was read, as numbers in the host's byte order.
  template <class T>
  [[nodiscard]] std::span<T> elements() noexcept {
    return {reinterpret_cast<T*>(bytes.data()), bytes.size() / sizeof(T)};
  }
};

/// The pipeline's slabs are used again and again, so that their buffers are allocated once; the one that came back last
/// goes first: it may still be in a cache.
class slab_stack {
 public:
  slab_stack(std::size_t count, const slab& one) : all_(count, one) {
    for (slab& s : all_) free_.push_back(&s);
  }
  /// There is one, as long as no more are out than the pipeline has tokens.
  [[nodiscard]] slab* take() {
    const std::lock_guard lock(mutex_);
    slab* const s = free_.back();
    free_.pop_back();
    return s;
  }
  void give_back(slab* s) {
    const std::lock_guard lock(mutex_);
    free_.push_back(s);
  }

 private:
  std::vector<slab> all_;
  std::vector<slab*> free_;
  std::mutex mutex_;
};

/// Weights of a slab of FP8 from `first` of a matrix on, which is the first of a slab: whole bands of blocks, rows
/// within one band, or a part of a long row, so that block scales fit to it as to a matrix of its own.
[[nodiscard]] std::int64_t fp8_slab(const geometry& g, std::int64_t matrix, std::int64_t first) noexcept {
  const std::int64_t row = first / g.cols, col = first % g.cols, rows = pipeline_weights / g.cols;
  if (rows == 0) return std::min(pipeline_weights, g.cols - col);
  // A power of two divides a band into equal parts.
  std::int64_t most = rows >= fp8_block ? rows / fp8_block * fp8_block
                                        : static_cast<std::int64_t>(std::bit_floor(static_cast<std::uint64_t>(rows)));
  // The second matrix of an expert may begin within a band.
  if (const std::int64_t in_band = g.row_in_stack(matrix, row) % fp8_block; in_band != 0)
    most = std::min(most, fp8_block - in_band);
  return std::min(most, g.rows - row) * g.cols;
}

/// Whole rows of a transposed stack, of which each column is read by itself; runs of weights of any other matrix.
[[nodiscard]] std::int64_t plain_slab(const geometry& g, std::int64_t left) noexcept {
  if (!g.layout.transposed) return std::min(pipeline_weights, left);
  return std::min(std::max<std::int64_t>(1, pipeline_weights / g.cols) * g.cols, left);
}

/// Hands out the slabs of some tensors one after the other.
class slab_source {
 public:
  slab_source(const checkpoint_reader& in, const quantization_plan& plan, std::span<const std::size_t> tensors)
      : in_(in), plan_(plan), tensors_(tensors) {}

  /// False after the last one.
  [[nodiscard]] bool next(slab& s) {
    if (at_ == tensors_.size()) return false;
    const planned_tensor& t = plan_.tensors[tensors_[at_]];
    const bool encodes = t.action == tensor_action::quantize || t.action == tensor_action::widen_fp8 ||
                         t.action == tensor_action::to_bf16;
    s.tensor = &t;
    s.index = tensors_[at_];
    s.action = encodes ? t.action : tensor_action::copy;
    s.source = in_.tensors()[part_ == 0 ? s.index : t.scales];
    s.output = t.outputs.empty() ? nullptr : &t.outputs[part_].name;
    s.first = first_;
    const tensor_info& source = *s.source.info;
    // An empty tensor has one slab with nothing in it, which ends it.
    const std::int64_t total = encodes ? source.elements() : static_cast<std::int64_t>(source.bytes());
    std::int64_t end = total;
    if (t.action == tensor_action::to_bf16) {
      s.count = std::min(pipeline_weights, total - first_);
    } else if (encodes && total > 0) {
      const geometry g(t);
      s.shape = g;
      s.matrix = first_ / g.size;
      end = (s.matrix + 1) * g.size;
      s.count = source.type == dtype::f8_e4m3 ? fp8_slab(g, s.matrix, first_ - s.matrix * g.size)
                                              : plain_slab(g, end - first_);
    } else {
      s.count = std::min(pipeline_bytes, total - first_);
    }
    first_ += s.count;
    s.ends_matrix = first_ == end;
    s.ends_tensor = false;
    if (first_ == total) next_part(s, t);
    return true;
  }

 private:
  /// FP8 that is kept has its block scales for a second part.
  void next_part(slab& s, const planned_tensor& t) {
    first_ = 0;
    s.ends_tensor = t.action != tensor_action::keep_fp8 || part_ == 1;
    part_ = s.ends_tensor ? 0 : 1;
    at_ += s.ends_tensor ? 1 : 0;
  }

  const checkpoint_reader& in_;
  const quantization_plan& plan_;
  std::span<const std::size_t> tensors_;
  std::size_t at_ = 0, part_ = 0;
  std::int64_t first_ = 0;
};

class shard_run {
 public:
  shard_run(const checkpoint_reader& in, const quantization_plan& plan, const append_function& out,
            const shard_options& options)
      : in_(in), plan_(plan), out_(out), options_(options) {}

  void read(slab& s) const {
    const bool encodes = s.action != tensor_action::copy;
    const auto size = encodes ? static_cast<std::uint64_t>(dtype_bits(s.source.info->type)) / 8 : 1;
    s.bytes.resize(static_cast<std::size_t>(s.count) * size);
    if (s.is_transposed()) {
      const read_function read = [&](std::uint64_t offset, std::span<std::byte> bytes) {
        in_.read(s.source, offset, bytes).value();
      };
      read_matrix_tile(read, s.shape.layout, s.matrix, s.tile(), static_cast<std::int64_t>(size), s.bytes);
    } else {
      in_.read(s.source, static_cast<std::uint64_t>(s.first) * size, s.bytes).value();
    }
    if (encodes && std::endian::native == std::endian::big) reverse_elements(s.bytes, size);
    if (encodes && s.count > 0 && s.source.info->type == dtype::f8_e4m3) read_scales(s);
    s.has_codes = options_.codes != nullptr && s.action == tensor_action::quantize && s.count > 0 &&
                  options_.codes->has(s.source.info->name);
  }

  void read_scales(slab& s) const {
    const checkpoint_tensor& scales = in_.tensors()[s.tensor->scales];
    const stack_layout& l = s.shape.layout;
    const fp8_scale_reader reader(*scales.info, s.tensor->fp8_grid, l.parts * l.rows, l.cols);
    const read_function read = [&](std::uint64_t offset, std::span<std::byte> bytes) {
      in_.read(scales, offset, bytes).value();
    };
    reader.read(read, s.matrix / l.parts, s.fp8(), s.scales);
  }

  static void narrow(slab& s) {
    const auto convert = [&s](auto numbers) {
      s.widened.resize(numbers.size());
      std::transform(numbers.begin(), numbers.end(), s.widened.begin(),
                     [](auto x) { return mxfp4::encode<bf16>(mxfp4::decode(x)); });
    };
    if (s.source.info->type == dtype::f32) convert(s.elements<float>());
    else convert(s.elements<f16>());
  }

  template <element_type T>
  void encode(slab& s, std::span<const T> weights) const {
    s.error = s.encoder.encode<T>(weights);
    if (!s.has_codes || !s.error.ok()) return;
    s.plain_codes.assign(s.encoder.codes().begin(), s.encoder.codes().end());
    s.plain_scales.assign(s.encoder.scales().begin(), s.encoder.scales().end());
    s.numbers.resize(weights.size());
    std::transform(weights.begin(), weights.end(), s.numbers.begin(), [](T w) { return mxfp4::decode(w); });
    const mx_view<> room = s.encoder.room(s.count);
    s.costs = options_.codes->choose(s.source.info->name, s.expert_of_stack(),
                                     (s.first - s.matrix * s.shape.size) / block_size, s.numbers,
                                     {room.codes, s.plain_codes.size()}, {room.scales, s.plain_scales.size()});
    s.encoder.reset_statistics();
    s.error = s.encoder.take<T>(weights);
  }

  void encode(slab& s) const {
    s.encoder.reset_statistics();
    s.error = {};
    if (s.action == tensor_action::copy || s.count == 0) return;
    if (s.action == tensor_action::to_bf16) return narrow(s);
    if (s.is_transposed())
      arrange_tile(s.shape.layout, s.tile(), dtype_bits(s.source.info->type) / 8, s.bytes, s.scratch);
    switch (s.source.info->type) {
      case dtype::f32:
        return encode<float>(s, s.elements<float>());
      case dtype::f16:
        return encode<f16>(s, s.elements<f16>());
      case dtype::bf16:
        return encode<bf16>(s, s.elements<bf16>());
      default: {
        const fp8_tile tile = s.fp8();
        const e4m3* const w = s.elements<e4m3>().data();
        const fp8_scale_tile& scales = s.scales;
        if (s.action == tensor_action::quantize && scales.is_coarse() && !s.has_codes) {
          s.error = s.encoder.encode_fp8({w, tile.rows, tile.cols, tile.cols},
                                         {scales.values.data(), scales.rows, scales.cols, scales.cols});
          return;
        }
        s.widened.resize(static_cast<std::size_t>(s.count));
        s.error = widen_fp8_tile(w, tile, scales, s.widened.data());
        if (s.error.ok() && s.action == tensor_action::quantize) encode<bf16>(s, s.widened);
      }
    }
  }

  void append(slab& s) {
    if (!s.error.ok()) fail(s);
    const std::vector<tensor_info>& outputs = s.tensor->outputs;
    switch (s.action) {
      case tensor_action::quantize: {
        const std::size_t output = s.tensor->output_of(s.matrix);
        put(outputs[output].name, std::as_bytes(s.encoder.codes()));
        put(outputs[output + 1].name, std::as_bytes(s.encoder.scales()));
        current_ += s.encoder.statistics();
        if (s.has_codes) add_plain(s);
        if (s.ends_matrix) {
          matrices_.push_back({s.index, s.matrix_of_stack(), current_, costs_});
          current_ = {};
          costs_ = {};
          if (s.has_codes && (s.ends_tensor || s.tensor->output_of(s.matrix + 1) != output)) end_plain();
        }
        break;
      }
      case tensor_action::widen_fp8:
      case tensor_action::to_bf16:
        swap_if_big_endian(std::span(s.widened));
        put(outputs[0].name, std::as_bytes(std::span(s.widened).first(static_cast<std::size_t>(s.count))));
        break;
      default:
        put(*s.output, s.bytes);
    }
    options_.on_slab(s.bytes.size(), s.encoder.statistics());
    if (!s.ends_tensor) return;
    if (s.action != tensor_action::copy) options_.on_slab(input_bytes(plan_, *s.tensor) - s.tensor->source.bytes(), {});
    options_.on_tensor(*s.tensor, std::span(matrices_).subspan(reported_));
    reported_ = matrices_.size();
  }

  [[nodiscard]] std::vector<matrix_statistics> take() { return std::move(matrices_); }

 private:
  void add_plain(const slab& s) {
    costs_.plain += s.costs.plain;
    costs_.chosen += s.costs.chosen;
    plain_codes_.add(std::as_bytes(std::span(s.plain_codes)));
    plain_scales_.add(std::as_bytes(std::span(s.plain_scales)));
  }
  /// An output tensor ends, in which all matrices since the last one lie.
  void end_plain() {
    for (auto m = matrices_.rbegin(); m != matrices_.rend() && m->plain_codes.empty(); ++m) {
      if (m->tensor != matrices_.back().tensor) break;
      m->plain_codes = plain_codes_.text();
      m->plain_scales = plain_scales_.text();
    }
    plain_codes_ = plain_scales_ = {};
  }

  void put(const std::string& tensor, std::span<const std::byte> bytes) {
    out_(tensor, bytes);
    options_.on_bytes(tensor, bytes);
  }

  [[noreturn]] void fail(const slab& s) const {
    const tensor_info& t = *s.source.info;
    const std::string& file = in_.shard(s.source.shard).path();
    if (s.error.code != errc::nonfinite)
      throw file_error({.file = file, .tensor = t.name, .value = std::string(message(s.error).view())});
    const std::int64_t within = s.first + s.error.value - s.matrix * s.shape.size;
    const std::int64_t row = within / s.shape.cols, col = within % s.shape.cols;
    const bool is_stack = t.shape.size() == 3 && s.tensor->stack, transposed = s.shape.layout.transposed;
    const std::string at = is_stack
                               ? place_in_stack(s.shape.layout, s.matrix, row, col)
                               : std::to_string(transposed ? col : row) + ", " + std::to_string(transposed ? row : col);
    throw file_error({.file = file,
                      .tensor = t.name,
                      .value = "weight [" + at + "] is NaN or infinite",
                      .expected = "finite weights",
                      .advice = "repair it, or allow it with --nonfinite encode"});
  }

  const checkpoint_reader& in_;
  const quantization_plan& plan_;
  const append_function& out_;
  const shard_options& options_;
  error_statistics current_;  // of the matrix that is being written
  code_costs costs_;          // likewise
  content_hash plain_codes_, plain_scales_;
  std::vector<matrix_statistics> matrices_;
  std::size_t reported_ = 0;
};

}  // namespace

std::uint64_t input_bytes(const quantization_plan& plan, const planned_tensor& tensor) {
  const bool has_scales = tensor.scales != planned_tensor::no_scales;
  return tensor.source.bytes() + (has_scales ? plan.tensors[tensor.scales].source.bytes() : 0);
}

std::vector<matrix_statistics> encode_shard(const checkpoint_reader& in, const quantization_plan& plan,
                                            std::span<const std::size_t> tensors, const append_function& out,
                                            const shard_options& options) {
  const int threads = options.threads > 0 ? options.threads : tbb::info::default_concurrency();
  // One slab for each thread, one being read, one being written.
  const auto tokens = static_cast<std::size_t>(threads) + 2;
  slab_stack slabs(tokens, slab(options.recipe, options.nonfinite));
  slab_source source(in, plan, tensors);
  shard_run run(in, plan, out, options);
  const auto pipeline = tbb::make_filter<void, slab*>(tbb::filter_mode::serial_in_order,
                                                      [&](tbb::flow_control& flow) -> slab* {
                                                        slab* const s = slabs.take();
                                                        if (source.next(*s)) {
                                                          run.read(*s);
                                                          return s;
                                                        }
                                                        slabs.give_back(s);
                                                        flow.stop();
                                                        return nullptr;
                                                      }) &
                        tbb::make_filter<slab*, slab*>(tbb::filter_mode::parallel,
                                                       [&run](slab* s) {
                                                         run.encode(*s);
                                                         return s;
                                                       }) &
                        tbb::make_filter<slab*, void>(tbb::filter_mode::serial_in_order, [&](slab* s) {
                          run.append(*s);
                          slabs.give_back(s);
                        });
  // More threads than cores are allowed, where somebody asks for them.
  const tbb::global_control allowed(tbb::global_control::max_allowed_parallelism, static_cast<std::size_t>(threads));
  tbb::task_arena arena(threads);
  arena.execute([&] { tbb::parallel_pipeline(tokens, pipeline); });
  return run.take();
}

file_result<std::vector<matrix_statistics>> quantize_shard(const checkpoint_reader& in, const quantization_plan& plan,
                                                           std::span<const std::size_t> tensors,
                                                           safetensors_writer& out, const shard_options& options) {
  return guarded([&]() -> std::vector<matrix_statistics> {
    return encode_shard(
        in, plan, tensors,
        [&out](std::string_view tensor, std::span<const std::byte> bytes) { out.append(tensor, bytes).value(); },
        options);
  });
}

}  // namespace mxfp4::checkpoint
