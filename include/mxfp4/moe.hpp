// mxfp4/moe.hpp -- a mixture of experts.
// SPDX-License-Identifier: Apache-2.0
//
// A layer of a mixture of experts in one call: the tokens are sorted by expert, multiplied with gate and up, then down,
// and added up by their weights. An expert's weights are read once for all its tokens. router.hpp makes indices and
// weights. Nothing is allocated once there is a workspace.
//
// Example:
//
//   const std::int64_t tokens = 3, top_k = 2, experts = 4, hidden = 64, inner = 96;
//   std::vector<std::uint8_t> codes(hidden * inner / 2, 0x22), scales(hidden * inner / 32, 118);
//   const auto in = mxfp4::make_view(codes, scales, inner, hidden).value_or_abort();   // I x H
//   const auto out = mxfp4::make_view(codes, scales, hidden, inner).value_or_abort();  // H x I
//   const std::vector<mxfp4::expert<mxfp4::mx_view<>>> layer(experts, {in, in, out});  // gate, up, down
//
//   std::vector<float> x(tokens * hidden, 1.0f), y(x.size()), shares(tokens * top_k, 0.5f);
//   std::vector<std::int32_t> chosen(tokens * top_k);  // route_topk_sigmoid writes it
//   auto workspace = mxfp4::moe_workspace::create({tokens, top_k, experts, hidden, inner}).value_or_abort();
//   mxfp4::status s = mxfp4::moe(layer, mxfp4::dense_view<const float>{x.data(), tokens, hidden, hidden},
//                                {chosen.data(), tokens, top_k, top_k}, {shares.data(), tokens, top_k, top_k},
//                                {y.data(), tokens, hidden, hidden}, workspace);
#pragma once

#include "mxfp4/moe/grouped_gemm.hpp"
#include "mxfp4/moe/moe.hpp"
