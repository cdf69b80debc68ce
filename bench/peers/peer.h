/* bench/peers/peer.h -- what a shared object offers so that `compare` can time its products beside others'.
   SPDX-License-Identifier: Apache-2.0

   Six functions in C, so that a library of any language and compiler, or another commit of this one, stands beside
   ours in one process. A product is Y = X W^T with MXFP4 weights: from M x K floats to M x N floats, whatever it does
   with them on the way; bringing W into an order of its own is not timed. One thread: its CPU time is what counts. */
#ifndef MXFP4_BENCH_PEER_H
#define MXFP4_BENCH_PEER_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The library and its version, in a few words. */
const char* peer_name(void);

/* Names of the products, separated by blanks: "f32_packed f32_view". */
const char* peer_products(void);

/* Weights, which are copied: N x K, K a multiple of 32. codes: N x K/2 bytes, the even element in the low nibble;
   scales: N x K/32 bytes E8M0, 118 .. 125 here. NULL where the library cannot take them. */
void* peer_create(int64_t n, int64_t k, const uint8_t* codes, const uint8_t* scales);

/* The product to be timed next, and its tokens: X is M x K, dense, and stays where it is. 0, or not 0 where the library
   has no such product. */
int peer_prepare(void* weights, const char* product, int64_t m, const float* x);

/* Y is M x N, dense. 0, or not 0 on failure. */
int peer_multiply(void* weights, float* y);

void peer_destroy(void* weights);

#ifdef __cplusplus
}
#endif

#endif
