// What an engine's first program does with mxfp4::dispatch: quantise, pack, multiply, on whatever CPU this is.
#include <cstdint>
#include <cstdio>
#include <vector>

#include "mxfp4/dispatch.hpp"

int main() {
  constexpr std::int64_t n = 32, k = 64;
  const std::vector<float> weights(n * k, 0.5f), x(k, 2.0f);
  std::vector<std::uint8_t> codes(n * k / 2), scales(n * k / 32);
  std::vector<float> y(n);
  const auto w = mxfp4::make_view(std::span(codes), std::span(scales), n, k);
  mxfp4::status s =
      mxfp4::dispatch::quantize(mxfp4::recipe_id::ocp, mxfp4::dense_view<const float>{weights.data(), n, k, k}, *w);
  const auto packed = mxfp4::dispatch::pack(*w);
  if (s.ok()) s = packed.error();
  if (s.ok()) s = mxfp4::dispatch::gemv(*packed, x, y);
  if (!s.ok()) return std::printf("%s\n", mxfp4::message(s).c_str()), 1;
  std::printf("%s: y[0] = %g\n", *mxfp4::dispatch::isa(), static_cast<double>(y[0]));
  return y[0] == 64.0f && y[n - 1] == 64.0f ? 0 : 1;
}
