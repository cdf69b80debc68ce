// tools/mxfp4/html_figure.cpp -- see html_figure.hpp.
// SPDX-License-Identifier: Apache-2.0
#include "html_figure.hpp"

#include <algorithm>
#include <array>
#include <cmath>

#include "report.hpp"

namespace mxfp4::tools {

namespace {

constexpr double picture_width = 720;

[[nodiscard]] std::string coordinate(double x) {
  std::string text = fixed(x, 1);
  return text.ends_with(".0") ? text.substr(0, text.size() - 2) : text;
}

/// A picture that is as wide as its page lets it, with the words that a reader without eyes gets.
[[nodiscard]] std::string figure(double width, double height, const std::string& title, const std::string& drawing,
                                 const std::string& below) {
  return "<figure><svg viewBox=\"0 0 " + coordinate(width) + " " + coordinate(height) +
         "\" role=\"img\" aria-label=\"" + html_text(title) + "\" style=\"max-width:" + coordinate(width) + "px\">" +
         drawing + "</svg>\n<figcaption>" + below + "</figcaption></figure>\n";
}

/// "0 ... 255" under a picture.
[[nodiscard]] std::string axis(const std::string& label, const std::string& first, const std::string& last) {
  return html_text(label) + ": " + html_text(first) + (first == last ? "" : " … " + html_text(last));
}

}  // namespace

std::string html_text(const std::string& text) {
  std::string out;
  for (const char c : printable(text)) {
    if (c == '&') out += "&amp;";
    else if (c == '<') out += "&lt;";
    else if (c == '>') out += "&gt;";
    else if (c == '"') out += "&quot;";
    else if (c == '\'') out += "&#39;";
    else out += c;
  }
  return out;
}

std::string svg_of(const heat_map& map) {
  double least = std::numeric_limits<double>::infinity(), most = -least;
  for (const double v : map.values)
    if (std::isfinite(v)) {
      least = std::min(least, v);
      most = std::max(most, v);
    }
  if (!(least <= most)) return "<p>No value to draw.</p>\n";
  const double cell = std::min(24.0, picture_width / static_cast<double>(map.cols));
  const double cell_height = std::clamp(360.0 / static_cast<double>(map.rows), 3.0, 24.0);
  std::array<std::string, colour_steps> paths;  // the cells of one colour: a page of 16,000 is small so
  for (std::size_t r = 0; r < map.rows; ++r)
    for (std::size_t c = 0; c < map.cols; ++c) {
      const double v = map.values[r * map.cols + c];
      if (!std::isfinite(v)) continue;
      const double part = most > least ? (v - least) / (most - least) : 0.5;
      const auto step = static_cast<std::size_t>(std::min(part * colour_steps, colour_steps - 1.0));
      const double y = static_cast<double>(map.upwards ? map.rows - 1 - r : r) * cell_height;
      paths[step] += "M" + coordinate(static_cast<double>(c) * cell) + " " + coordinate(y) + "h" + coordinate(cell) +
                     "v" + coordinate(cell_height) + "h-" + coordinate(cell) + "z";
    }
  std::string drawing, legend;
  for (std::size_t i = 0; i < paths.size(); ++i) {
    const std::string name = "c" + std::to_string(i);
    if (!paths[i].empty()) drawing += "<path class=\"" + name + "\" d=\"" + paths[i] + "\"/>";
    legend += "<i class=\"" + name + "\"></i>";
  }
  return figure(cell * static_cast<double>(map.cols), cell_height * static_cast<double>(map.rows),
                map.value_label + " by " + map.x_label + " and " + map.y_label, drawing,
                "right: " + axis(map.x_label, map.x_first, map.x_last) + "; " + (map.upwards ? "up" : "down") + ": " +
                    axis(map.y_label, map.y_first, map.y_last) + "<br>" + html_text(map.value_label) + " " +
                    error_text(least) + " " + legend + " " + error_text(most));
}

std::string svg_of(const bar_chart& chart) {
  const auto height_of = [&chart](std::int64_t count) {
    return chart.logarithmic ? std::log1p(static_cast<double>(count)) : static_cast<double>(count);
  };
  std::int64_t most = 0;
  for (const std::int64_t count : chart.counts) most = std::max(most, count);
  if (most == 0) return "<p>No value to draw.</p>\n";
  constexpr double height = 200;
  const double step = std::min(40.0, picture_width / static_cast<double>(chart.counts.size()));
  std::string bars;
  for (std::size_t i = 0; i < chart.counts.size(); ++i) {
    if (chart.counts[i] == 0) continue;
    const double tall = std::max(1.0, height * height_of(chart.counts[i]) / height_of(most));
    bars += "M" + coordinate((static_cast<double>(i) + 0.05) * step) + " " + coordinate(height) + "v-" +
            coordinate(tall) + "h" + coordinate(0.9 * step) + "v" + coordinate(tall) + "z";
  }
  return figure(step * static_cast<double>(chart.counts.size()), height, chart.y_label + " by " + chart.x_label,
                "<path class=\"bar\" d=\"" + bars + "\"/>",
                "right: " + axis(chart.x_label, chart.x_first, chart.x_last) + "; up: " + html_text(chart.y_label) +
                    ", at most " + std::to_string(most) + (chart.logarithmic ? ", logarithmic" : ""));
}

}  // namespace mxfp4::tools
