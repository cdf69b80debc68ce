// src/model/weights.hpp -- what a checkpoint holds for the layers of a model, in the form it has there.
// SPDX-License-Identifier: Apache-2.0
//
//   in the checkpoint                                       in memory                        times X
//   X.weight F32, F16                                       float                            dense_product.hpp
//   X.weight BF16                                           bf16                             the same, widened
//   X.weight F8_E4M3 and _scale_inv or _scale (128 x 128)   bf16(w * scale), nearest even    the same
//   X.weight_packed, X.weight_scale                         the same bytes                   mxfp4's own kernels
//   X_blocks, X_scales of all experts, X_bias               the same bytes of one of them    the same
//   X [experts, in, out] F32, F16, BF16 and X_bias          one of them, turned              dense_product.hpp
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "model/config.hpp"
#include "model/dense_product.hpp"
#include "model/token_rows.hpp"
#include "mxfp4/checkpoint/reader.hpp"
#include "mxfp4/executor.hpp"
#include "mxfp4/recipe.hpp"
#include "mxfp4/tensor/activation.hpp"
#include "mxfp4/tensor/mxfp8_activations.hpp"
#include "mxfp4/tensor/packed_matrix.hpp"
#include "mxfp4/view.hpp"

namespace mxfp4::model {

/// In which form the activations meet MXFP4 weights: as they are, or in blocks of 32 that share a power of two, of the
/// residual forms (int8_scaling) as sums of two or three such numbers; or as servers make them, served_activations.hpp.
/// All other weights take float.
enum class activation_type : std::uint8_t { f32, int8, int8_residual2, int8_residual3, mxfp8, fp8, mxfp4 };

struct product_options {
  activation_type activations = activation_type::f32;
  executor_ref executor{};
  io::stop_function stop = {};  ///< asked between two steps
};

/// Tokens in the form in which they meet MXFP4 weights.
class activations {
 public:
  /// @param x  must outlive this. @throws file_error where memory is missing.
  activations(dense_view<const float> x, const product_options& options);

 private:
  friend class linear;
  dense_view<const float> floats_;
  token_rows served_;
  std::optional<int8_activations> int8_;
  std::optional<mxfp8_activations> mxfp8_;
};

/// Matrices of one expert in a tensor of all experts, as gpt-oss has them.
struct stack_place {
  std::string name;  ///< "model.layers.0.mlp.experts.gate_up_proj"
  std::int64_t experts = 0, index = 0;
  std::int64_t rows = 0, cols = 0;  ///< of a matrix
  std::int64_t parts = 1;           ///< matrices whose rows take turns: gate and up
};

/// The tensors of a linear layer. Scales: of MXFP4 and FP8.
struct stored_linear {
  bool is_mxfp4;
  const checkpoint::checkpoint_tensor* data;
  const checkpoint::checkpoint_tensor* scales;
};

/// A linear layer: its weight matrix, N x K, and perhaps a bias.
class linear {
 public:
  linear() = default;

  /// @param name  of the layer: "model.layers.0.self_attn.q_proj".
  /// @param bias  whether it has one: <name>.bias.
  /// @param keep  where the weights would take more bytes they stay in the file: multiply reads them piece by piece, to
  ///              the same bits, and the checkpoint must outlive the layer.
  /// @throws file_error naming the tensor, where it is missing, has another shape than rows x cols, or a type that is
  ///         none of the above.
  [[nodiscard]] static linear load(const checkpoint::checkpoint_reader& checkpoint, const std::string& name,
                                   std::int64_t rows, std::int64_t cols, bool bias = false,
                                   std::uint64_t keep = UINT64_MAX);
  /// Rows [first, first + count) of such a layer as one of its own, without bias. @param first  a multiple of 128.
  [[nodiscard]] static linear load_rows(const checkpoint::checkpoint_reader& checkpoint, const std::string& name,
                                        std::int64_t rows, std::int64_t cols, std::int64_t first, std::int64_t count);
  /// Rows of `cols` weights that take 8 MiB at most as floats, but at least 128 of them, and a multiple of that.
  [[nodiscard]] static std::int64_t rows_of_a_piece(std::int64_t cols) noexcept;
  /// One for each part of the place, each with its bias. @throws file_error as load does.
  [[nodiscard]] static std::vector<linear> load_stack(const checkpoint::checkpoint_reader& checkpoint,
                                                      const stack_place& place);
  /// Those two, arranged. Of MXFP4 the executor's tasks read and pack a piece at a time: it is in memory once.
  /// @param spare  layers that are wanted no more, as many as come: memory of MXFP4 that fits is taken from them, which
  ///               the system would clear before it gave as much again.
  [[nodiscard]] static linear load_arranged(const checkpoint::checkpoint_reader& checkpoint, const std::string& name,
                                            std::int64_t rows, std::int64_t cols, bool bias, executor_ref executor,
                                            linear spare);
  [[nodiscard]] static std::vector<linear> load_stack_arranged(const checkpoint::checkpoint_reader& checkpoint,
                                                               const stack_place& place, executor_ref executor,
                                                               std::vector<linear> spare);
  /// What load and load_stack look at in the headers, without reading. @throws file_error as they do.
  static void require(const checkpoint::checkpoint_reader& checkpoint, const std::string& name, std::int64_t rows,
                      std::int64_t cols, bool bias = false);
  static void require_stack(const checkpoint::checkpoint_reader& checkpoint, const stack_place& place);

  /// MXFP4 as compressed-tensors has it: rows * cols / 2 codes, low_first, and rows * cols / 32 scales.
  [[nodiscard]] static linear of_mxfp4(std::int64_t rows, std::int64_t cols, std::vector<std::uint8_t> codes,
                                       std::vector<std::uint8_t> scales);

  /// The same layer, bias and all, with these in the place of its weights, as of_mxfp4 takes them.
  [[nodiscard]] linear with_mxfp4(std::vector<std::uint8_t> codes, std::vector<std::uint8_t> scales) const;

  [[nodiscard]] std::int64_t rows() const noexcept { return rows_; }
  [[nodiscard]] std::int64_t cols() const noexcept { return cols_; }
  [[nodiscard]] bool is_mxfp4() const noexcept { return !codes_.empty() || packed_ != nullptr; }
  [[nodiscard]] std::uint64_t stored_bytes() const noexcept { return stored_bytes_; }  ///< in the checkpoint
  [[nodiscard]] std::uint64_t memory_bytes() const noexcept;

  /// The same weights as MXFP4; those of MXFP4 decoded first.
  /// @param name  for the message.  @throws file_error where cols is not a multiple of 32 or a weight is not finite.
  [[nodiscard]] linear quantized(recipe_id recipe, const std::string& name) const;

  /// Of MXFP4.
  [[nodiscard]] const std::vector<std::uint8_t>& codes() const noexcept { return codes_; }
  [[nodiscard]] const std::vector<std::uint8_t>& scales() const noexcept { return scales_; }

  /// Brings the weights into the order in which products read them, for those that are used again and
  /// again: of this layer only products are wanted then, which have the same bits as before.
  void arrange();

  /// Y[m][n] = sum over k of X[m][k] * W[n][k], to which the bias is added last, Y overwritten; the same bits for any
  /// executor and any number of tokens. MXFP4 weights: gemm of mxfp4/linalg.hpp.
  void multiply(dense_view<const float> x, dense_view<float> y, const product_options& options) const;
  /// The same with activations that were prepared once for several layers of MXFP4.
  void multiply(const activations& x, dense_view<float> y, const product_options& options) const;

  /// The weights of one row as numbers: exact. Of weights in memory.
  void decode_row(std::int64_t row, float* out) const;

 private:
  static constexpr std::int64_t piece_bytes = std::int64_t{8} << 20;

  /// As `parts` layers, whose rows take turns in the tensors, with all but their weights.
  [[nodiscard]] static std::vector<linear> stack_parts(const checkpoint::checkpoint_reader& checkpoint,
                                                       const stack_place& place);
  [[nodiscard]] static linear read_rows(const checkpoint::checkpoint_reader& checkpoint, const stored_linear& stored,
                                        std::int64_t first, std::int64_t count, std::int64_t cols);
  [[nodiscard]] const_mx_view<> mxfp4_rows(std::int64_t first, std::int64_t count) const noexcept;
  void add_bias(dense_view<float> y) const;
  void multiply_dense(dense_view<const float> x, dense_view<float> y, executor_ref executor) const;
  void multiply_tokens(dense_view<const float> x, dense_view<float> y, executor_ref executor) const;
  void multiply_one(dense_view<const float> x, dense_view<float> y, executor_ref executor) const;
  [[nodiscard]] const float* panel(std::int64_t row, std::int64_t count, std::int64_t k, std::int64_t size,
                                   float* buffer) const;

  std::int64_t rows_ = 0, cols_ = 0;
  std::uint64_t stored_bytes_ = 0;
  const checkpoint::checkpoint_reader* file_ = nullptr;  // which has the weights of this name; else
  std::string name_;
  std::vector<float> wide_;                   // one of these three holds the weights
  std::vector<bf16> narrow_;                  //
  std::vector<std::uint8_t> codes_, scales_;  // low_first, as compressed-tensors has them
  panel_matrix panels_;                       // or arranged: float or BF16
  std::shared_ptr<packed_matrix> packed_;     // MXFP4
  std::vector<float> bias_;                   // or empty
};

/// Sums for |W - W'|_F / |W|_F, each of a row in double, the rows' in their order: the same bits for any executor.
struct weight_error {
  double squared_error = 0, squared_weights = 0;

  /// @param target  the original's rows [first, first + target.rows()) in another form.
  void add(const linear& original, const linear& target, executor_ref executor, std::int64_t first = 0);
  [[nodiscard]] double relative() const noexcept;  ///< 0 for weights of zero, NaN where one is
};

/// @throws file_error where the tensor is missing, has another shape than [size], or is none of F32, F16 and BF16.
[[nodiscard]] std::vector<float> read_vector(const checkpoint::checkpoint_reader& checkpoint, const std::string& name,
                                             std::int64_t size);

/// The embeddings of tokens, a row each.
/// @throws file_error as read_vector does, and for an id outside the vocabulary, naming it and its position.
/// @param position  of the first one.
[[nodiscard]] token_rows read_embeddings(const checkpoint::checkpoint_reader& checkpoint, const model_config& config,
                                         std::span<const std::int64_t> ids, std::int64_t position);

/// Looks at the header for a vector. @throws file_error as read_vector does.
void require_vector(const checkpoint::checkpoint_reader& checkpoint, const std::string& name, std::int64_t size);

/// The layer that makes logits of the last hidden state: "lm_head", or the embeddings where they are tied.
[[nodiscard]] std::string head_name(const model_config& config);

/// @throws file_error naming `file` and `tensor` where `s` is not ok.
void require_ok(const status& s, const std::string& file, const std::string& tensor = {});

[[nodiscard]] std::string layer_name(std::int64_t layer, const std::string& part);  ///< "model.layers.3.<part>"

}  // namespace mxfp4::model
