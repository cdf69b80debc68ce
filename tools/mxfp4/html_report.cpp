// tools/mxfp4/html_report.cpp -- see html_report.hpp.
// SPDX-License-Identifier: Apache-2.0
#include "html_report.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>
#include <utility>

#include "html_figure.hpp"
#include "io/strict_json.hpp"
#include "mxfp4/io/error.hpp"
#include "report.hpp"

namespace mxfp4::tools {

using namespace io;
using namespace checkpoint;

namespace {

// The colours of a step differ enough from both backgrounds; no sideways scroll of the page: long names break anywhere,
// and a table whose numbers are wider than the screen scrolls in its own box.
constexpr const char* page_style = R"(
:root{color-scheme:light dark;--back:#fff;--text:#1b1b1f;--faint:#5c5c66;--line:#d9d9e0;--bar:#3b5bdb}
@media(prefers-color-scheme:dark){:root{--back:#16161a;--text:#e8e8ec;--faint:#a0a0ac;--line:#38383f;--bar:#8ea2ff}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:760px;padding:16px;background:var(--back);color:var(--text);font:15px/1.5 system-ui,sans-serif}
h1{font-size:1.5em;overflow-wrap:anywhere;margin:.2em 0}h2{font-size:1.15em;margin:2em 0 .5em}
p,figcaption{color:var(--faint)}p{overflow-wrap:anywhere}.box{overflow-x:auto}figure{margin:.5em 0}figcaption{font-size:.85em}
svg{display:block;width:100%;height:auto}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
td,th{padding:4px 6px;border-bottom:1px solid var(--line);text-align:right;white-space:nowrap}
td:first-child,th:first-child{text-align:left;white-space:normal;overflow-wrap:anywhere}
th{font-weight:600;vertical-align:bottom}
th,th:first-child{white-space:normal;overflow-wrap:break-word}
@media(max-width:480px){body{font-size:14px}td,th{padding:4px 3px}}
.tiles{display:flex;flex-wrap:wrap;gap:8px;margin:1em 0}
.tiles div{flex:1 1 140px;border:1px solid var(--line);border-radius:6px;padding:8px 10px;color:var(--faint)}
.tiles b{display:block;font-size:1.2em;color:var(--text)}
.bar{fill:var(--bar)}figcaption i{display:inline-block;width:12px;height:12px;vertical-align:-1px}
)";
constexpr const char* step_colours[colour_steps] = {"#482878", "#3e4a89", "#31688e", "#26828e", "#1f9e89",
                                                    "#35b779", "#6ece58", "#a0da39", "#d8c927", "#f5a623"};

using cells = std::vector<std::string>;

/// Cells that are text of ours or numbers; the first of a row may be a name.
[[nodiscard]] std::string html_table(const cells& titles, const std::vector<cells>& rows) {
  std::string text = "<div class=\"box\"><table><thead><tr>";
  for (const std::string& title : titles) text += "<th>" + html_text(title) + "</th>";
  text += "</tr></thead><tbody>\n";
  for (const cells& row : rows) {
    text += "<tr>";
    for (const std::string& cell : row) text += "<td>" + html_text(cell) + "</td>";
    text += "</tr>\n";
  }
  return text + "</tbody></table></div>\n";
}

[[nodiscard]] std::string tile(const std::string& value, const std::string& what) {
  return "<div><b>" + html_text(value) + "</b>" + html_text(what) + "</div>";
}

[[nodiscard]] std::string part_of_hundred(double part) { return fixed(100 * part, 2) + " %"; }

[[nodiscard]] std::string sizes_of(const quality_report& r) {
  const auto row = [](const char* what, std::int64_t tensors, std::uint64_t before, std::uint64_t after) {
    return cells{what, std::to_string(tensors), size_text(before), size_text(after),
                 before > 0 ? part_of_hundred(static_cast<double>(after) / static_cast<double>(before)) : ""};
  };
  return "<h2>Sizes</h2>\n" +
         html_table({"tensors", "count", "before", "after", ""},
                    {row("quantised", r.quantized_tensors, r.mxfp4_bytes_before, r.mxfp4_bytes_after),
                     row("others", r.other_tensors, r.bytes_before - r.mxfp4_bytes_before,
                         r.bytes_after - r.mxfp4_bytes_after),
                     row("all", r.quantized_tensors + r.other_tensors, r.bytes_before, r.bytes_after)});
}

[[nodiscard]] std::string experts_of(const quality_report& r) {
  constexpr std::int64_t most_cells = 1 << 20;  // of a picture: a report may name any layer
  constexpr std::int64_t most_columns = 4096;   // narrower cells are none
  std::int64_t layers = 0, experts = 0;
  for (const quality_row& e : r.experts) {
    if (e.layer < 0 || e.expert < 0 || e.layer >= most_cells || e.expert >= most_cells) continue;
    layers = std::max(layers, e.layer + 1);
    experts = std::max(experts, e.expert + 1);
  }
  if (layers == 0) return {};
  if (layers * experts > most_cells || experts > most_columns)
    return "<h2>Error by expert</h2>\n<p>Too many to draw: " + std::to_string(layers) + " layers of " +
           std::to_string(experts) + " experts.</p>\n";
  heat_map map;
  map.rows = static_cast<std::size_t>(layers);
  map.cols = static_cast<std::size_t>(experts);
  map.values.assign(map.rows * map.cols, std::numeric_limits<double>::quiet_NaN());
  for (const quality_row& e : r.experts)
    if (e.layer >= 0 && e.expert >= 0 && e.layer < layers && e.expert < experts)
      map.values[static_cast<std::size_t>(e.layer * experts + e.expert)] = e.statistics.relative_error();
  map.x_label = "expert";
  map.y_label = "layer";
  map.value_label = "relative error";
  map.x_first = map.y_first = "0";
  map.x_last = std::to_string(experts - 1);
  map.y_last = std::to_string(layers - 1);
  return "<h2>Error by expert</h2>\n" + svg_of(map);
}

[[nodiscard]] std::string matrices_of(const quality_report& r) {
  struct spread_of_part {
    std::int64_t count = 0;
    double sum = 0, least = std::numeric_limits<double>::infinity(), most = 0;
  };
  std::map<std::string, spread_of_part> parts;
  std::vector<const quality_row*> worst;
  for (const quality_row& m : r.matrices) {
    spread_of_part& p = parts[m.part];
    const double error = m.statistics.relative_error();
    ++p.count;
    p.sum += error;
    p.least = std::min(p.least, error);
    p.most = std::max(p.most, error);
    worst.push_back(&m);
  }
  constexpr std::size_t shown = 20;
  const auto is_worse = [](const quality_row* a, const quality_row* b) {
    return a->statistics.relative_error() > b->statistics.relative_error();
  };
  const std::size_t listed = std::min(shown, worst.size());
  std::partial_sort(worst.begin(), worst.begin() + static_cast<std::ptrdiff_t>(listed), worst.end(), is_worse);
  worst.resize(listed);
  std::vector<cells> by_part, largest;
  for (const auto& [name, p] : parts)
    by_part.push_back({name, std::to_string(p.count), error_text(p.sum / static_cast<double>(p.count)),
                       error_text(p.least), error_text(p.most)});
  for (const quality_row* m : worst)
    largest.push_back({m->name, m->type, error_text(m->statistics.relative_error()),
                       std::to_string(m->statistics.saturated), std::to_string(m->statistics.lost)});
  return "<h2>Error by part</h2>\n" + html_table({"part", "matrices", "mean", "least", "most"}, by_part) +
         "<h2>Largest errors</h2>\n" + html_table({"matrix", "from", "error", "saturated", "lost"}, largest);
}

/// What a calibration did to the matrices of one kind in a layer.
class calibrated_matrices {
 public:
  void add(const matrix_calibration& c) {
    tokens_.push_back(c.tokens);
    if (c.tokens == 0) return;  // the recipe's codes: neither better nor kept
    objectives_ += c.objective;
    rows_ += static_cast<double>(c.rows);
    kept_ += static_cast<double>(c.kept);
    ++with_tokens_;
  }
  /// The row of the table. Once, and after all have been added.
  [[nodiscard]] cells row(const std::string& name) {
    std::sort(tokens_.begin(), tokens_.end());
    const std::size_t middle = tokens_.size() / 2;
    const auto at = [&](std::size_t i) { return static_cast<double>(tokens_[i]); };
    const double median = tokens_.size() % 2 == 1 ? at(middle) : (at(middle - 1) + at(middle)) / 2;
    const bool counted = tokens_.front() >= 0;
    return {name, counted ? std::to_string(tokens_.front()) : "",
            counted ? fixed(median, median == std::floor(median) ? 0 : 1) : "",
            with_tokens_ > 0 ? error_text(objectives_ / with_tokens_) : "",
            rows_ > 0 ? part_of_hundred(kept_ / rows_) : ""};
  }

 private:
  std::vector<std::int64_t> tokens_;
  double objectives_ = 0, rows_ = 0, kept_ = 0, with_tokens_ = 0;
};

/// Experts that met no token; most models have none, one that was calibrated on another language has thousands.
[[nodiscard]] std::string untouched_experts(const std::set<std::pair<std::int64_t, std::int64_t>>& experts) {
  if (experts.empty()) return {};
  constexpr std::size_t shown = 20;
  std::string text =
      "<p>" + count_text(std::ssize(experts), "expert") + " met no token of the text, with the codes of the recipe: ";
  std::size_t listed = 0;
  for (const auto& [layer, expert] : experts) {
    if (listed == shown) break;
    text += (listed++ > 0 ? "; layer " : "layer ") + std::to_string(layer) + ", expert " + std::to_string(expert);
  }
  if (experts.size() > shown) text += "; and " + std::to_string(experts.size() - shown) + " more";
  return text + ".</p>\n";
}

[[nodiscard]] std::string calibration_tables(const quality_report& r) {
  std::map<std::pair<std::int64_t, std::string>, calibrated_matrices> by_layer;
  std::set<std::pair<std::int64_t, std::int64_t>> untouched;
  bool of_experts = false;
  for (const quality_row& m : r.matrices) {
    if (!m.calibration) continue;
    of_experts = of_experts || m.expert >= 0;
    by_layer[{m.layer, m.part}].add(*m.calibration);
    if (m.calibration->tokens == 0) untouched.insert({m.layer, m.expert});
  }
  if (r.calibration.empty() || by_layer.empty()) return {};
  std::vector<cells> rows;
  for (auto& [key, matrices] : by_layer) rows.push_back(matrices.row(std::to_string(key.first) + ", " + key.second));
  return std::string("<h2>Calibration</h2>\n<p>The ") + (of_experts ? "experts'" : "linear layers'") + " codes are " +
         html_text(r.calibration) + "; the method is " + html_text(r.calibration_method) +
         ". Least and median are numbers of tokens that " + (of_experts ? "took an expert" : "a matrix met") +
         ". The objective is what rounding costs in the "
         "outputs, as a part of what the recipe's codes cost, the mean of matrices that met tokens; of these, rows "
         "kept have the recipe's codes.</p>\n" +
         html_table({"layer, part", "least", "median", "objective", "rows kept"}, rows) + untouched_experts(untouched);
}

[[nodiscard]] std::string scales_of(const quality_report& r) {
  const auto& histogram = r.total.scales;
  std::size_t first = 0, last = 255;  // 255 is no number
  while (first < last && histogram[first] == 0) ++first;
  while (last > first && histogram[last - 1] == 0) --last;
  bar_chart chart;
  for (std::size_t byte = first; byte < last; ++byte) chart.counts.push_back(histogram[byte]);
  if (chart.counts.empty()) return {};
  chart.x_label = "exponent of the scale";
  chart.y_label = "blocks of 32 weights";
  chart.x_first = std::to_string(static_cast<int>(first) - 127);
  chart.x_last = std::to_string(static_cast<int>(last) - 128);
  chart.logarithmic = true;
  return "<h2>Scales</h2>\n" + svg_of(chart);
}

/// log10 of a divergence; what is below 1e-9 nats, and 0, is drawn there.
[[nodiscard]] double drawn_kld(double kld) { return std::log10(std::max(kld, 1e-9)); }

[[nodiscard]] std::string kld_pictures(const comparison_details& d) {
  if (d.kld.empty()) return {};
  double low = 0, high = -9, widest = 0;
  for (std::size_t i = 0; i < d.kld.size(); ++i) {
    low = std::min(low, drawn_kld(d.kld[i]));
    high = std::max(high, drawn_kld(d.kld[i]));
    widest = std::max(widest, d.entropy[i]);
  }
  low = std::floor(low);
  high = std::max(std::ceil(high), low + 1);
  const auto bin = [](double part, std::size_t bins) {
    return static_cast<std::size_t>(std::clamp(part * static_cast<double>(bins), 0.0, static_cast<double>(bins - 1)));
  };
  bar_chart chart;
  chart.counts.assign(60, 0);
  std::vector<std::int64_t> both(60 * 36, 0);
  for (std::size_t i = 0; i < d.kld.size(); ++i) {
    const double kld = (drawn_kld(d.kld[i]) - low) / (high - low);
    ++chart.counts[bin(kld, 60)];
    ++both[bin(kld, 36) * 60 + bin(widest > 0 ? d.entropy[i] / widest : 0.0, 60)];
  }
  const std::string least = "1e" + std::to_string(static_cast<int>(low)),
                    most = "1e" + std::to_string(static_cast<int>(high));
  chart.x_label = "KLD of a token, nats";
  chart.y_label = "tokens";
  chart.x_first = least;
  chart.x_last = most;
  chart.logarithmic = true;
  heat_map map;
  map.rows = 36;
  map.cols = 60;
  map.upwards = true;
  for (const std::int64_t count : both)
    map.values.push_back(count > 0 ? std::log10(static_cast<double>(count)) : std::numeric_limits<double>::quiet_NaN());
  map.x_label = "entropy of the original's prediction, nats";
  map.x_first = "0";
  map.x_last = fixed(widest, 1);
  map.y_label = chart.x_label;
  map.y_first = least;
  map.y_last = most;
  map.value_label = "log10 of tokens";
  return "<h2>KL divergence</h2>\n" + svg_of(chart) + "<h2>Where it differs</h2>\n" + svg_of(map);
}

[[nodiscard]] std::string comparison_of(const comparison_details& d) {
  const measured_quality& q = d.summary;
  return "<h2>On a text</h2>\n<p>" + count_text(q.tokens, "token") + " in windows of " + std::to_string(q.context) +
         "; KLD is KL(original || quantised) in nats.</p>\n" +
         html_table(
             {"", "original", "MXFP4"},
             {{"perplexity", fixed(q.original_perplexity, 4), fixed(q.perplexity, 4)},
              {"degradation", "", part_of_hundred(q.degradation)},
              {"KLD mean", "", fixed(q.kld_mean, 4)},
              {"KLD median", "", fixed(q.kld_median, 4)},
              {"KLD P95", "", fixed(q.kld_p95, 4)},
              {"KLD P99", "", fixed(q.kld_p99, 4)},
              {"KLD max", "", fixed(q.kld_max, 4)},
              {"tokens with KLD > 1", "", std::to_string(q.above_one_nat) + " of " + std::to_string(q.predictions)},
              {"top-1 agreement", "", part_of_hundred(q.top1_agreement)}}) +
         kld_pictures(d);
}

[[nodiscard]] std::vector<double> numbers_of(const ordered_json& tokens, const char* key, const std::string& path) {
  std::vector<double> numbers;
  for (const ordered_json& value : json_array(tokens, key, path, "targets.per_token")) {
    if (!value.is_number() || !std::isfinite(value.get<double>()))
      throw file_error(
          {.file = path,
           .value = std::string("has a value in targets.per_token.") + key + " that is " + json_shown(value),
           .expected = "numbers"});
    numbers.push_back(value.get<double>());
  }
  return numbers;
}

}  // namespace

comparison_details read_comparison_details(const std::string& path) {
  comparison_details d;
  d.summary = read_comparison(path);
  const auto json = read_json<ordered_json>(path);
  for (const ordered_json& target : json_array(json, "targets", path, "")) {
    if (!json_member(target, "recipe", path, "targets").is_null()) continue;
    if (!target.contains("per_token"))
      throw file_error(
          {.file = path, .value = "has no tokens one by one", .expected = "what mxfp4 compare --details writes"});
    d.kld = numbers_of(target["per_token"], "kld", path);
    d.entropy = numbers_of(target["per_token"], "original_entropy", path);
    break;
  }
  if (d.kld.size() != d.entropy.size())
    throw file_error({.file = path,
                      .value = "has " + std::to_string(d.kld.size()) + " divergences and " +
                               std::to_string(d.entropy.size()) + " entropies",
                      .expected = "one of each for a token"});
  return d;
}

std::string html_report(const std::string& name, const quality_report& r,
                        const std::optional<comparison_details>& compared) {
  std::string style = page_style;
  for (int i = 0; i < colour_steps; ++i) {
    const std::string step = ".c" + std::to_string(i), c = step_colours[i];
    style += step + "{fill:" + c + ";background:" + c + "}";
  }
  const error_statistics& t = r.total;
  std::string text =
      "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
      "<title>" +
      html_text(name) + " in MXFP4</title>\n<style>" + style + "\n</style></head>\n<body>\n<h1>" + html_text(name) +
      "</h1>\n<p>MXFP4 by recipe " + html_text(r.recipe) + ", as mxfp4_report.json has it.</p>\n" +
      "<div class=\"tiles\">" + tile(size_text(r.bytes_before) + " → " + size_text(r.bytes_after), "all tensors") +
      tile(bits_text(bits_per_weight(r.mxfp4_bytes_after, t.weights)), "bits per quantised weight") +
      tile(error_text(t.relative_error()), "relative error |W − Q| / |W|") +
      tile(error_text(t.max_error), "largest error of a weight") + tile(std::to_string(t.saturated), "saturated") +
      tile(std::to_string(t.lost), "lost") + tile(std::to_string(t.nan_blocks), "NaN blocks") + "</div>\n";
  text += sizes_of(r);
  if (compared) text += comparison_of(*compared);
  return text + experts_of(r) + matrices_of(r) + calibration_tables(r) + scales_of(r) + "</body></html>\n";
}

}  // namespace mxfp4::tools
