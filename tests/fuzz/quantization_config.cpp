// tests/fuzz/quantization_config.cpp -- any bytes as the config.json of an MXFP4 checkpoint, to mxfp4 verify.
// SPDX-License-Identifier: Apache-2.0
#include <cstddef>
#include <cstdint>
#include <string>

#include "memory_folder.hpp"
#include "mxfp4/checkpoint/verify.hpp"
#include "mxfp4/io/safetensors_writer.hpp"

namespace {

using namespace mxfp4::checkpoint;
using namespace mxfp4::io;
using mxfp4::test::memory_folder, mxfp4::test::require;

/// An expert in MXFP4 and one that is not, a stack, a quantised router, a linear layer in FP8, two that are not
/// quantised; all zeros.
const memory_folder& folder() {
  static const memory_folder made("config.json");
  static const bool filled = [] {
    const std::vector<tensor_info> tensors = {
        {"a.block_sparse_moe.experts.0.w1.weight_packed", dtype::u8, {2, 16}},
        {"a.block_sparse_moe.experts.0.w1.weight_scale", dtype::u8, {2, 1}},
        {"a.self_attn.q_proj.weight", dtype::f8_e4m3, {1, 8}},
        {"a.self_attn.q_proj.weight_scale", dtype::f32, {1, 1}},
        {"a.self_attn.o_proj.weight", dtype::bf16, {2, 2}},
        {"a.norm.weight", dtype::bf16, {2}},
        {"a.block_sparse_moe.experts.1.w1.weight", dtype::bf16, {2, 32}},
        {"a.self_attn.k_proj.weight", dtype::bf16, {1, 8}},
        {"b.mlp.gate.weight_packed", dtype::u8, {1, 16}},
        {"b.mlp.gate.weight_scale", dtype::u8, {1, 1}},
        {"b.mlp.experts.down_proj_packed", dtype::u8, {1, 1, 16}},
        {"b.mlp.experts.down_proj_scale", dtype::u8, {1, 1, 1}},
    };
    auto out =
        safetensors_writer::create((made / "model.safetensors").string(), tensors, metadata{{"format", "pt"}}).value();
    for (const tensor_info& t : tensors)
      out.append(t.name, std::vector<std::byte>(tensor_bytes(t.type, t.shape).value())).value();
    out.commit().value();
    return true;
  }();
  require(filled);
  return made;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const verify_report report = verify_checkpoint(folder().hold(data, size), {}).value();
    require(report.tensors == 8 && report.mxfp4 == 3 && report.fp8 == 1);
    for (const finding& f : report.findings) require(!f.check.empty() && f.what.size() > 5);
  } catch (const file_error& e) {
    require(std::string_view(e.what()).size() > 10);
  }
  return 0;
}
