// src/checkpoint/quantize_file.cpp -- one safetensors file to another: the plan of a single shard, and its report.
// SPDX-License-Identifier: Apache-2.0
#include <numeric>
#include <utility>

#include "io/guarded.hpp"
#include "mxfp4/checkpoint/quantize_file.hpp"
#include "mxfp4/checkpoint/quantize_shard.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

using namespace io;

file_result<quantize_report> quantize_file(const std::string& input, const std::string& output,
                                           const quantize_file_options& options) {
  return guarded([&]() -> quantize_report {
    require_outputs({input}, {output}, options.existing).value();
    const checkpoint_reader in = checkpoint_reader::open(input).value();
    const quantization_plan plan =
        make_plan(
            in.tensor_infos(),
            {.include = options.include, .exclude = options.exclude, .others = fp8_policy::copy, .any_matrix = true},
            input)
            .value();

    std::vector<tensor_info> tensors;
    for (const planned_tensor& t : plan.tensors) tensors.insert(tensors.end(), t.outputs.begin(), t.outputs.end());
    safetensors_writer out = safetensors_writer::create(output, std::move(tensors), in.shard(0).header().extra,
                                                        options.stop, options.existing)
                                 .value();

    quantize_report report;
    shard_options shard;
    shard.recipe = options.recipe;
    shard.nonfinite = options.nonfinite;
    shard.threads = options.threads;
    std::uint64_t done = 0;
    shard.on_slab = [&](std::uint64_t bytes, const error_statistics&) {
      options.progress(done += bytes, in.tensor_bytes());
    };
    shard.on_tensor = [&](const planned_tensor& t, std::span<const matrix_statistics> matrices) {
      if (t.action != tensor_action::quantize) {
        if (t.action == tensor_action::copy) report.copied.push_back({t.source, t.reason});
        return;
      }
      quantized_tensor q{t.source, input_bytes(plan, t), t.output_bytes(), {}};
      for (const matrix_statistics& m : matrices) q.statistics += m.statistics;
      report.total += q.statistics;
      report.weight_bytes_before += q.source_bytes;
      report.weight_bytes_after += q.mxfp4_bytes;
      report.quantized.push_back(std::move(q));
    };
    std::vector<std::size_t> all(plan.tensors.size());
    std::iota(all.begin(), all.end(), std::size_t{0});
    std::erase_if(all, [&](std::size_t i) { return plan.tensors[i].action == tensor_action::fp8_scales; });
    static_cast<void>(quantize_shard(in, plan, all, out, shard).value());
    in.shard(0).require_unchanged().value();
    out.commit().value();
    report.file_bytes_before = in.shard(0).file_bytes();
    report.file_bytes_after = out.file_bytes();
    return report;
  });
}

}  // namespace mxfp4::checkpoint
