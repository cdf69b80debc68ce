// mxfp4/router.hpp -- which experts a token goes to.
// SPDX-License-Identifier: Apache-2.0
//
// The experts of each token by their scores, and the weights of these experts: what MiniMax-M2, DeepSeek-V3, gpt-oss,
// Qwen3-MoE and Mixtral do. The result goes to moe() as it is.
//
// Example:
//
//   const std::int64_t tokens = 2, experts = 8, top_k = 2;
//   std::vector<float> scores(tokens * experts, -1.0f), shares(tokens * top_k);
//   std::vector<std::int32_t> chosen(tokens * top_k);
//   mxfp4::status s = mxfp4::route_topk_sigmoid({scores.data(), tokens, experts, experts}, nullptr,
//                                               {chosen.data(), tokens, top_k, top_k},
//                                               {shares.data(), tokens, top_k, top_k}, {.scale = 2.5f});
#pragma once

#include "mxfp4/moe/router.hpp"
