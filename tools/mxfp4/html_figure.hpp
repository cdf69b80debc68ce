// tools/mxfp4/html_figure.hpp -- pictures of an HTML page as SVG: cells in colour, bars.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace mxfp4::tools {

/// Text of HTML, in an attribute too: any bytes come out as characters and never as markup.
[[nodiscard]] std::string html_text(const std::string& text);

inline constexpr int colour_steps = 10;  ///< classes c0, dark or faint, to c9 of the page's style

/// Cells of a grid coloured by their values, the first row at the bottom where `upwards`; a NaN has no cell.
struct heat_map {
  std::size_t rows = 0, cols = 0;
  std::vector<double> values;  ///< row by row
  std::string x_label, y_label, value_label;
  std::string x_first, x_last, y_first, y_last;  ///< at the ends of the axes
  bool upwards = false;
};
[[nodiscard]] std::string svg_of(const heat_map& map);

/// Bars over equal steps; with `logarithmic` their heights are log(1 + count).
struct bar_chart {
  std::vector<std::int64_t> counts;
  std::string x_label, x_first, x_last, y_label;
  bool logarithmic = false;
};
[[nodiscard]] std::string svg_of(const bar_chart& chart);

}  // namespace mxfp4::tools
