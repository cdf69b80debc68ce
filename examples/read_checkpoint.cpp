// examples/read_checkpoint.cpp -- the first MXFP4 matrix of a compressed-tensors checkpoint, times a vector of ones.
// SPDX-License-Identifier: Apache-2.0
#include <cstdio>
#include <mxfp4/checkpoint/stored_tensor.hpp>
#include <mxfp4/linalg.hpp>
#include <vector>
using namespace mxfp4;

int main(int argc, char** argv) {
  if (argc != 2) return std::fprintf(stderr, "usage: %s CHECKPOINT, a directory or a file\n", argv[0]), 2;
  const auto in = checkpoint::checkpoint_reader::open(argv[1]);
  if (!in) return std::fprintf(stderr, "%s\n", in.error().what()), 1;
  for (const checkpoint::stored_tensor& t : checkpoint::stored_tensors(*in)) {
    if (t.kind != checkpoint::storage::mxfp4 || t.shape.size() != 2) continue;
    std::vector<std::uint8_t> codes(t.data->info->bytes()), scales(t.scale->info->bytes());
    auto read = in->read(*t.data, 0, std::as_writable_bytes(std::span(codes)));
    if (read) read = in->read(*t.scale, 0, std::as_writable_bytes(std::span(scales)));
    if (!read) return std::fprintf(stderr, "%s\n", read.error().what()), 1;

    const auto w = make_view(std::span(codes), std::span(scales), t.shape[0], t.shape[1]);
    const std::vector<float> x(static_cast<std::size_t>(t.shape[1]), 1.0f);
    std::vector<float> y(static_cast<std::size_t>(t.shape[0]));
    const status s = w ? gemv(*w, x, y) : w.error();
    if (!s.ok()) return std::fprintf(stderr, "%s: %s\n", t.name.c_str(), message(s).c_str()), 1;
    return std::printf("%s, %zu x %zu: y[0] = %g\n", t.name.c_str(), y.size(), x.size(), y[0]) < 0 ? 1 : 0;
  }
  return std::fprintf(stderr, "%s: has no MXFP4 matrix\n", argv[1]), 1;
}
