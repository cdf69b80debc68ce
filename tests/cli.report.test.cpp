// tests/cli.report.test.cpp -- mxfp4 report and mxfp4 card: what a report becomes, and the plots' script.
// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "cli.support.hpp"

namespace {

using namespace mxfp4::test;
using Catch::Matchers::ContainsSubstring;
using nlohmann::json;
using strings = std::vector<std::string>;

/// Two matrices of one expert, one that no expert has; numbers that make round errors.
json small_report() {
  const auto statistics = [](double weights, double error, std::int64_t saturated) {
    return json{{"weights", 3200},        {"relative_error", 9}, {"max_error", 0.5},
                {"saturated", saturated}, {"zeroed", 2},         {"lost", 1},
                {"nonfinite", 0},         {"nan_blocks", 0},     {"squared_weights", weights},
                {"squared_error", error}};
  };
  json w1 = {{"name", "m.layers.3.mlp.experts.7.w1.weight"},
             {"dtype", "BF16"},
             {"shape", {32, 100}},
             {"bytes", 6400},
             {"mxfp4_bytes", 1700}};
  json w2 = w1, odd = w1, total = {{"tensors", 3}, {"bytes_before", 30000}, {"bytes_after", 20000}};
  w2["name"] = "m.layers.3.mlp.experts.7.w2.weight";
  odd["name"] = "a,\"b\".weight";
  w1.update(statistics(4.0, 0.25, 10));
  w2.update(statistics(1.0, 0.25, 20));
  odd.update(statistics(0.0, 0.0, 0));
  total.update(statistics(5.0, 0.5, 30));
  w1["scale_histogram"] = {{"118", 60}, {"119", 40}};
  w2["scale_histogram"] = {{"118", 100}};
  odd["scale_histogram"] = {{"255", 100}};
  total["scale_histogram"] = {{"118", 160}, {"119", 40}, {"255", 100}};
  json expert = {{"module", "m.layers.3.mlp.experts"}, {"layer", 3}, {"expert", 7}};
  expert.update(statistics(4.0, 1.0, 30));
  return {{"format", "mxfp4 report"},
          {"version", 1},
          {"settings", {{"recipe", "compressed_tensors"}, {"others", "bf16"}}},
          {"quantized", {w1, w2, odd}},
          {"experts", {expert}},
          {"copied", json::array()},
          {"total", total}};
}

std::string quantized(const scratch_folder& folder) {
  REQUIRE(run({MXFP4_GENERATE, "--checkpoint", folder / "source"}).code == 0);
  REQUIRE(run({MXFP4_PROGRAM, "quantize", folder / "source", folder / "model"}).code == 0);
  return folder / "model";
}

outcome card(strings rest) {
  rest.insert(rest.begin(), {MXFP4_PROGRAM, "card"});
  return run(rest);
}

}  // namespace

TEST_CASE("report: CSV, word for word", "[cli][report]") {
  const scratch_folder folder;
  const std::string file = write_text(folder / "r.json", small_report().dump()), out = folder / "csv";
  const outcome o = run({MXFP4_PROGRAM, "report", file, out});
  CAPTURE(o.err);
  CHECK(o.code == 0);
  CHECK(o.out == out + ": 3 matrices of 1 expert, relative error 0.3162 by compressed_tensors\n");
  const std::string titles = "weights,relative_error,max_error,saturated,zeroed,lost,nonfinite,nan_blocks\n";
  CHECK(read_text(out + "/matrices.csv") ==
        "name,layer,expert,part,dtype," + titles +
            "m.layers.3.mlp.experts.7.w1.weight,3,7,w1,BF16,3200,0.25,0.5,10,2,1,0,0\n"
            "m.layers.3.mlp.experts.7.w2.weight,3,7,w2,BF16,3200,0.5,0.5,20,2,1,0,0\n"
            "\"a,\"\"b\"\".weight\",-1,-1,\"a,\"\"b\"\"\",BF16,3200,0,0.5,0,2,1,0,0\n");
  CHECK(read_text(out + "/experts.csv") ==
        "module,layer,expert," + titles + "m.layers.3.mlp.experts,3,7,3200,0.5,0.5,30,2,1,0,0\n");
  CHECK(read_text(out + "/scales.csv") == "byte,exponent,blocks\n118,-9,160\n119,-8,40\n255,nan,100\n");
}

TEST_CASE("report: what quantize wrote", "[cli][report]") {
  const scratch_folder folder;
  const std::string model = quantized(folder);
  const outcome o = run({MXFP4_PROGRAM, "report", model, folder / "csv", "--json"});
  CHECK(o.code == 0);
  const json report = json::parse(o.out);
  CHECK(report["matrices"] == 12);
  CHECK(report["experts"] == 4);
  CHECK(report["total"]["weights"] == 393216);
  std::map<std::string, int> lines;
  for (const char* name : {"matrices.csv", "experts.csv", "scales.csv"}) {
    std::istringstream text(read_text((folder / "csv") + "/" + name));
    for (std::string line; std::getline(text, line);) ++lines[name];
  }
  CHECK(lines["matrices.csv"] == 13);
  CHECK(lines["experts.csv"] == 5);
}

namespace {

/// What compare --details writes, as far as a page takes it, of three tokens.
json small_comparison() {
  json target = {{"recipe", nullptr},
                 {"predictions", 3},
                 {"perplexity", 4.75},
                 {"degradation", 0.0556},
                 {"tokens_above_one_nat", 1},
                 {"top1_agreement", 0.75},
                 {"kld", {{"mean", 0.5}, {"median", 0.25}, {"p95", 1.0}, {"p99", 1.25}, {"max", 1.5}}},
                 {"per_token", {{"kld", {0.0, 0.01, 1.5}}, {"original_entropy", {0.5, 1.0, 2.0}}}}};
  return {{"command", "compare"},
          {"original", {{"perplexity", 4.5}}},
          {"tokens", 4},
          {"context", 256},
          {"targets", {target}}};
}

std::size_t count_of(const std::string& text, const std::string& part) {
  std::size_t count = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

}  // namespace

TEST_CASE("report: a page that needs nothing but itself, with every name as text", "[cli][report]") {
  const scratch_folder folder;
  json report = small_report();
  report["quantized"][2]["name"] = "<script>alert('a')</script>&\"x\x1b.weight";
  report["settings"]["recipe"] = "</p><img src=//a.b/c>";
  const std::string file = write_text(folder / "r.json", report.dump()), page = folder / "r.html";
  const std::string details = write_text(folder / "c.json", small_comparison().dump());
  const outcome o = run({MXFP4_PROGRAM, "report", file, "--html", page, "--comparison", details});
  CAPTURE(o.err);
  CHECK(o.code == 0);
  CHECK(o.out == page + ": 3 matrices of 1 expert, relative error 0.3162 by </p><img src=//a.b/c>\n");
  const std::string html = read_text(page);
  for (const std::string tag : {"html", "head", "body", "style", "table", "tr", "td", "svg", "figure", "title"}) {
    CAPTURE(tag);
    CHECK(count_of(html, "<" + tag + ">") + count_of(html, "<" + tag + " ") == count_of(html, "</" + tag + ">"));
  }
  // Nothing that a browser fetches or runs.
  for (const char* const part : {"<script", "<img", "<link", "<iframe", "<object", "href", "url(", "@import", "http://",
                                 "https://", "onload", "\x1b"}) {
    CAPTURE(part);
    CHECK(count_of(html, part) == 0);
  }
  CHECK(count_of(html, "Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\"") == 1);
  CHECK_THAT(html,
             ContainsSubstring("<td>&lt;script&gt;alert(&#39;a&#39;)&lt;/script&gt;&amp;&quot;x\\x1b.weight</td>"));
  CHECK_THAT(html,
             ContainsSubstring("<td>m.layers.3.mlp.experts.7.w2.weight</td><td>BF16</td><td>0.5</td><td>20</td>"));
  CHECK_THAT(html, ContainsSubstring("<b>0.3162</b>relative error"));
  CHECK_THAT(html, ContainsSubstring("<td>perplexity</td><td>4.5000</td><td>4.7500</td>"));
  CHECK_THAT(html, ContainsSubstring("<td>KLD P99</td><td></td><td>1.2500</td>"));
  CHECK_THAT(html, ContainsSubstring("<td>tokens with KLD &gt; 1</td><td></td><td>1 of 3</td>"));
  CHECK_THAT(html, ContainsSubstring("right: expert: 0 … 7; down: layer: 0 … 3"));
  CHECK_THAT(html, ContainsSubstring("right: exponent of the scale: -9 … -8; up: blocks of 32 weights, at most 160"));
  CHECK(count_of(html, "<svg ") == 4);  // divergences, these by entropy, experts, scales
  CHECK_THAT(html, ContainsSubstring("prefers-color-scheme:dark") && ContainsSubstring("width=device-width"));

  // What is there stays; both kinds at once; the same page again.
  CHECK_THAT(run({MXFP4_PROGRAM, "report", file, "--html", page}).err, ContainsSubstring("r.html: is there already"));
  CHECK(read_text(page) == html);
  CHECK(run({MXFP4_PROGRAM, "report", file, folder / "csv", "--html", page, "--comparison", details, "--overwrite"})
            .code == 0);
  CHECK(read_text(page) == html);
  const json both =
      json::parse(run({MXFP4_PROGRAM, "report", file, folder / "csv", "--html", page, "--overwrite", "--json"}).out);
  CHECK(both["html"] == page);
  CHECK(both["output"] == folder / "csv");
  CHECK(count_of(read_text(page), "<svg ") == 2);
  CHECK(std::filesystem::exists(folder / "csv/scales.csv"));
}

namespace {

/// A calibration of two layers with `experts` experts: in layer 0 they met 10, 11, ... tokens, in layer 1 none.
json calibrated_report(int experts) {
  json report = small_report();
  report["settings"]["calibration"] = {
      {"method", "hes<i>"}, {"text", "00ff"}, {"tokens", 2048}, {"context", 512}, {"fingerprints", json::array()}};
  const json entry = report["quantized"][0];
  report["quantized"] = json::array();
  for (int layer = 0; layer < 2; ++layer)
    for (int e = 0; e < experts; ++e)
      for (const std::string part : {"w1", "w2"}) {
        json matrix = entry;
        matrix["name"] =
            "m.layers." + std::to_string(layer) + ".mlp.experts." + std::to_string(e) + "." + part + ".weight";
        matrix["bytes"] = matrix["mxfp4_bytes"] = 1;
        matrix["calibration"] = {{"tokens", 0}, {"plain", {{"a", "1"}, {"b", "2"}}}};
        if (layer == 0)
          matrix["calibration"].update({{"tokens", 10 + e},
                                        {"objective", part == "w1" ? 0.25 + 0.125 * e : 0.5},
                                        {"rows", 32},
                                        {"rows_kept", e}});
        report["quantized"].push_back(matrix);
      }
  return report;
}

/// The page of a report.
std::string page_of(const scratch_folder& folder, const json& report) {
  const std::string file = write_text(folder / "page.json", report.dump()), page = folder / "page.html";
  const outcome o = run({MXFP4_PROGRAM, "report", file, "--html", page, "--overwrite"});
  INFO(o.err);
  REQUIRE(o.code == 0);
  return read_text(page);
}

}  // namespace

TEST_CASE("report --html: what a calibration did, by layer and part", "[cli][report]") {
  const scratch_folder folder;
  CHECK(count_of(page_of(folder, small_report()), "alibrat") == 0);

  const std::string two = page_of(folder, calibrated_report(2));
  CHECK_THAT(two, ContainsSubstring("<h2>Calibration</h2>\n<p>The experts' codes are calibrated on 2048 tokens in "
                                    "windows of 512, of a text with the hash 00ff; the method is hes&lt;i&gt;. "));
  // 32 rows: of the 64 of two experts, the second one's one was kept.
  CHECK_THAT(two,
             ContainsSubstring(
                 "<div class=\"box\"><table><thead><tr><th>layer, part</th><th>least</th><th>median</th>"
                 "<th>objective</th><th>rows kept</th></tr></thead><tbody>\n"
                 "<tr><td>0, w1</td><td>10</td><td>10.5</td><td>0.3125</td><td>1.56 %</td></tr>\n"
                 "<tr><td>0, w2</td><td>10</td><td>10.5</td><td>0.5</td><td>1.56 %</td></tr>\n"
                 "<tr><td>1, w1</td><td>0</td><td>0</td><td></td><td></td></tr>\n"
                 "<tr><td>1, w2</td><td>0</td><td>0</td><td></td><td></td></tr>\n</tbody></table></div>\n"
                 "<p>2 experts met no token of the text, with the codes of the recipe: layer 1, expert 0; layer 1, "
                 "expert 1.</p>\n"));

  // An odd number of experts has one in the middle; no more than twenty are named.
  const std::string many = page_of(folder, calibrated_report(23));
  CHECK_THAT(many, ContainsSubstring("<tr><td>0, w1</td><td>10</td><td>21</td><td>1.625</td><td>34.38 %</td>"));
  CHECK_THAT(many, ContainsSubstring("<p>23 experts met no token of the text, with the codes of the recipe: layer 1, "
                                     "expert 0; layer 1, expert 1; "));
  CHECK_THAT(many, ContainsSubstring("; layer 1, expert 19; and 3 more.</p>"));
  CHECK(count_of(many, "layer 1, expert 20") == 0);
  for (const std::string tag : {"table", "tr", "td", "div", "p"}) {
    CAPTURE(tag);
    CHECK(count_of(many, "<" + tag + ">") + count_of(many, "<" + tag + " ") == count_of(many, "</" + tag + ">"));
  }

  // An importance matrix may not say how many tokens there were, and never how many rows stayed.
  json uncounted = calibrated_report(1);
  uncounted["settings"]["calibration"]["method"] = "imatrix";
  uncounted["settings"]["calibration"]["tokens"] = 0;
  uncounted["quantized"][0]["calibration"] = {{"objective", 0.75}};
  const std::string by_imatrix = page_of(folder, uncounted);
  CHECK_THAT(by_imatrix,
             ContainsSubstring("The experts' codes are chosen by an importance matrix of llama.cpp with the "
                               "hash 00ff; the method is imatrix. "));
  CHECK_THAT(by_imatrix, ContainsSubstring("<tr><td>0, w1</td><td></td><td></td><td>0.75</td><td></td></tr>"));

  // One matrix that was not calibrated, beside others: it is not among them.
  json mixed = calibrated_report(1);
  mixed["quantized"][0].erase("calibration");
  const std::string some = page_of(folder, mixed);
  CHECK(count_of(some, "<td>0, w1</td>") == 0);
  CHECK(count_of(some, "<td>0, w2</td>") == 1);
}

TEST_CASE("report: facts of a calibration that cannot be", "[cli][report][bad_input]") {
  const scratch_folder folder;
  struct row {
    const char* at;
    json value;
    const char* message;
  };
  for (const row& r :
       {row{"/quantized/0/calibration/tokens", -1, "tokens is -1, expected a number from 0 on"},
        {"/quantized/0/calibration/tokens", 0.5, "tokens is 0.5, expected an integer"},
        {"/quantized/0/calibration/rows_kept", 33, "rows_kept is 33, expected no more than the matrix has"},
        {"/quantized/0/calibration/objective", -0.5, "objective is -0.5, expected a number from 0 on"},
        {"/quantized/0/calibration/objective", "1", "objective is \"1\", expected a number"},
        {"/quantized/0/calibration", {{"tokens", 1}, {"rows_kept", 1}}, "quantized.calibration has no 'rows'"},
        {"/quantized/0/calibration/rows", -1, "rows is -1, expected a number from 0 on"},
        {"/settings/calibration/method", 7, "method is 7, expected a string"}}) {
    CAPTURE(r.at, r.message);
    json bad = calibrated_report(1);
    bad[json::json_pointer(r.at)] = r.value;
    const std::string file = write_text(folder / "r.json", bad.dump());
    const outcome o = run({MXFP4_PROGRAM, "report", file, "--html", folder / "r.html"});
    CHECK(o.code == 1);
    CHECK(o.out == "");
    CHECK_THAT(o.err, ContainsSubstring(r.message));
    CHECK(folder.names() == strings{"r.json"});
  }
}

TEST_CASE("report --html: bad input", "[cli][report][bad_input]") {
  const scratch_folder folder;
  const std::string file = write_text(folder / "r.json", small_report().dump()), page = folder / "r.html";
  const std::string details = write_text(folder / "c.json", small_comparison().dump());
  const auto refused = [&](strings rest, int code, const std::string& message) {
    rest.insert(rest.begin(), {MXFP4_PROGRAM, "report"});
    const outcome o = run(rest);
    CHECK(o.code == code);
    CHECK_THAT(o.err, ContainsSubstring(message));
    CHECK(folder.names() == strings{"c.json", "r.json"});
  };
  refused({file}, 2, "nothing to write: name OUT, or --html FILE");
  refused({file, folder / "csv", "--comparison", details}, 2, "--comparison requires --html");
  refused({file, "--html", file, "--overwrite"}, 1, "r.json");
  refused({file, "--html", details, "--comparison", details, "--overwrite"}, 1, "c.json");
  refused({file, "--html", folder / "none/r.html"}, 1, "none/r.html");
  refused({folder / "none", "--html", page}, 1, "none");
  refused({file, "--html", page, "--comparison", folder / "none"}, 1, "none");
  refused({file, "--html", page, "--comparison", file}, 1, "r.json: ");
  struct row {
    const char* at;
    json value;
    const char* message;
  };
  for (const row& r :
       {row{"/targets/0/per_token/kld/1", nullptr, "targets.per_token.kld that is null, expected numbers"},
        {"/targets/0/per_token/kld", {0.5}, "has 1 divergences and 3 entropies"},
        {"/targets/0/per_token", 7, "targets.per_token"},
        {"/targets/0/recipe", "ocp", "compares no checkpoint"}}) {
    json bad = small_comparison();
    bad[json::json_pointer(r.at)] = r.value;
    write_text(details, bad.dump());
    refused({file, "--html", page, "--comparison", details}, 1, r.message);
  }
  json without = small_comparison();
  without["targets"][0].erase("per_token");
  write_text(details, without.dump());
  refused({file, "--html", page, "--comparison", details}, 1, "has no tokens one by one");
  write_text(details, small_comparison().dump());
  // Any layer and expert, and none: no picture of them, no memory for them.
  for (const std::int64_t number : {std::int64_t{1} << 40, std::int64_t{-1}}) {
    json report = small_report();
    report["experts"][0]["expert"] = number;
    write_text(file, report.dump());
    CHECK(run({MXFP4_PROGRAM, "report", file, "--html", page, "--overwrite"}).code == 0);
    CHECK(count_of(read_text(page), "<svg ") == 1);
    CHECK(count_of(read_text(page), "Too many to draw") == 0);
  }
  json many = small_report();
  many["experts"][0]["expert"] = 4096;
  write_text(file, many.dump());
  CHECK(run({MXFP4_PROGRAM, "report", file, "--html", page, "--overwrite"}).code == 0);
  CHECK(count_of(read_text(page), "Too many to draw: 4 layers of 4097 experts.") == 1);
}

TEST_CASE("report: what is no report", "[cli][report][bad_input]") {
  const scratch_folder folder;
  const std::string out = folder / "csv";
  const std::string list = write_text(folder / "list.json", "[]");
  json lacks = small_report();
  lacks["quantized"][1].erase("squared_error");
  const std::string part = write_text(folder / "part.json", lacks.dump());
  json negative = small_report(), fewer = small_report();
  negative["experts"][0]["squared_error"] = -1;
  fewer["total"]["bytes_before"] = 19199;
  const std::string below = write_text(folder / "below.json", negative.dump());
  const std::string less = write_text(folder / "less.json", fewer.dump());
  for (const auto& [file, message] :
       {std::pair{folder / "none", "cannot open"}, std::pair{list, "list.json: the document is [], expected an object"},
        std::pair{part, "part.json: quantized has no 'squared_error', expected one"},
        std::pair{below, "squared_error is -1, expected a number from 0 on"},
        std::pair{less, "total.bytes_before is 19199, expected no less than the quantised tensors have"},
        std::pair{folder / "", "mxfp4_report.json: cannot open"}}) {
    CAPTURE(file);
    const outcome o = run({MXFP4_PROGRAM, "report", file, out});
    CHECK(o.code == 1);
    CHECK(o.out == "");
    CHECK_THAT(o.err, ContainsSubstring(message));
  }
  CHECK(folder.names() == strings{"below.json", "less.json", "list.json", "part.json"});
}

TEST_CASE("card: a README.md of the result", "[cli][card]") {
  const scratch_folder folder;
  const std::string model = quantized(folder);
  std::filesystem::create_directory(model + "/plots");
  write_text(model + "/plots/expert_error.png", "x");
  const outcome o = card({model, "--base-model", "MiniMaxAI/MiniMax-M2.7", "--name", "me/M2.7-MXFP4", "--license-name",
                          "minimax: \"license\"", "--license-link", "https://example.org/l"});
  CAPTURE(o.err);
  REQUIRE(o.code == 0);
  CHECK(o.out == model + "/README.md: me/M2.7-MXFP4, 1 plot\n");
  const std::string text = read_text(model + "/README.md");
  CHECK(
      text.starts_with("---\n"
                       "base_model: \"MiniMaxAI/MiniMax-M2.7\"\n"
                       "base_model_relation: quantized\n"
                       "license: \"other\"\n"
                       "license_name: \"minimax: \\\"license\\\"\"\n"
                       "license_link: \"https://example.org/l\"\n"
                       "library_name: transformers\n"
                       "pipeline_tag: text-generation\n"
                       "tags:\n- mxfp4\n- compressed-tensors\n- vllm\n- \"minimax_m2\"\n"
                       "---\n\n# me/M2.7-MXFP4\n\n"));
  CHECK_THAT(text, ContainsSubstring("with 393216 weights in MXFP4"));
  CHECK_THAT(text, ContainsSubstring("| MXFP4 | 12 | 0.000393 GB | 0.000209 GB | 1.883 x |\n"));
  CHECK_THAT(text, ContainsSubstring("| all | 35 | 0.001319 GB | 0.001528 GB | 0.863 x |\n"));
  CHECK_THAT(text, ContainsSubstring("| relative error | 0.1116 |\n"));
  CHECK_THAT(text, ContainsSubstring("| worst expert | 0."));
  CHECK_THAT(text, ContainsSubstring("![expert_error](plots/expert_error.png)\n"));
  CHECK_THAT(text, ContainsSubstring("\nvllm serve me/M2.7-MXFP4 --tensor-parallel-size 2\n"));
  CHECK_THAT(text, ContainsSubstring("AutoModelForCausalLM.from_pretrained(\"me/M2.7-MXFP4\""));
  CHECK_THAT(text, ContainsSubstring("see [LICENSE](LICENSE)"));
}

TEST_CASE("card: what a server does with activations, as config.json declares", "[cli][card]") {
  const scratch_folder folder;
  REQUIRE(run({MXFP4_GENERATE, "--checkpoint", folder / "source"}).code == 0);
  const std::vector<std::pair<std::string, std::string>> rows = {
      {"none",
       "config.json declares nothing of activations: vLLM 0.33 (read, not run) makes MXFP4 of them where the GPU has "
       "such a kernel, else they stay in 16 bits."},
      {"fp8",
       "config.json declares FP8 activations, a scale for each group of 128: vLLM 0.33 (read, not run) takes its "
       "FP4 x FP8 kernel."},
      {"mxfp4",
       "config.json declares MXFP4 activations: vLLM 0.33 (read, not run) makes them while it runs, where the GPU has "
       "such a kernel."}};
  // FP8 beside the experts has a group of its own, whose FP8 activations are not those of the MXFP4 weights.
  for (const char* others : {"bf16", "fp8"}) {
    for (const auto& [activations, sentence] : rows) {
      CAPTURE(others, activations);
      const std::string model = folder / (activations + others);
      REQUIRE(
          run({MXFP4_PROGRAM, "quantize", folder / "source", model, "--activations", activations, "--others", others})
              .code == 0);
      REQUIRE(card({model, "--base-model", "a/b"}).code == 0);
      CHECK_THAT(read_text(model + "/README.md"),
                 ContainsSubstring("## How to serve it\n\n" + sentence + "\n\n```sh\n"));
    }
  }
}

TEST_CASE("card: what compare measured", "[cli][card]") {
  const scratch_folder folder;
  const std::string model = quantized(folder), readme = model + "/README.md";
  // As mxfp4 compare --details writes it: a recipe on the way, then the checkpoint, which is what the card is for.
  json comparison = {{"command", "compare"}, {"original", {{"perplexity", 4.5}}}, {"tokens", 1000}, {"context", 256}};
  json target = {{"recipe", nullptr},
                 {"predictions", 996},
                 {"perplexity", 4.59},
                 {"degradation", 0.02},
                 {"kld", {{"mean", 0.0174}, {"median", 0.009}, {"p95", 0.06}, {"p99", 0.12}, {"max", 1.5}}},
                 {"top1_agreement", 0.858},
                 {"tokens_above_one_nat", 3}};
  json other = target;
  other["recipe"] = "ocp", other["perplexity"] = 9.0;
  comparison["activations"] = "fp8";
  comparison["targets"] = {other, target};
  const std::string file = write_text(folder / "compare.json", comparison.dump());
  REQUIRE(card({model, "--base-model", "a/b", "--comparison", file}).code == 0);
  const std::string text = read_text(readme);
  CHECK_THAT(text,
             ContainsSubstring("1000 tokens in windows of 256, beside the base model; KLD is KL(base \\|\\| this)"));
  CHECK_THAT(text, ContainsSubstring("| perplexity of the base model | 4.5000 |\n| perplexity | 4.5900 (+2.00 %) |\n"));
  CHECK_THAT(text, ContainsSubstring(" in nats. Its weights were multiplied with activations in fp8.\n\n"));
  CHECK_THAT(text, ContainsSubstring("| KLD, mean | 0.0174 |\n| KLD, median | 0.0090 |\n"));
  CHECK_THAT(text, ContainsSubstring("| tokens with a KLD above 1 | 3 (0.301 %) |\n| same first choice | 85.80 % |\n"));

  comparison["targets"] = json::array({other});
  write_text(file, comparison.dump());
  CHECK_THAT(card({model, "--base-model", "a/b", "--overwrite", "--comparison", file}).err,
             ContainsSubstring("compares no checkpoint, expected mxfp4 compare ORIGINAL QUANTISED"));
  comparison.erase("tokens");
  write_text(file, comparison.dump());
  CHECK_THAT(card({model, "--base-model", "a/b", "--overwrite", "--comparison", file}).err,
             ContainsSubstring("the document has no 'tokens', expected one"));
  CHECK(read_text(readme) == text);
}

TEST_CASE("card: never overwrites without being told", "[cli][card][bad_input]") {
  const scratch_folder folder;
  const std::string model = quantized(folder), readme = write_text(model + "/README.md", "mine");
  const outcome refused = card({model, "--base-model", "a/b"});
  CHECK(refused.code == 1);
  CHECK_THAT(refused.err, ContainsSubstring("README.md: is there already: name another output, or give --overwrite"));
  CHECK(read_text(readme) == "mine");
  CHECK(card({model, "--base-model", "a/b", "--overwrite"}).code == 0);
  CHECK_THAT(read_text(readme), ContainsSubstring("# model\n\n[a/b](https://huggingface.co/a/b)"));
  CHECK_THAT(read_text(readme), !ContainsSubstring("## Plots"));

  CHECK(card({model}).code == 2);
  CHECK(card({model, "--base-model", "a b"}).code == 2);
  CHECK(card({model, "--base-model", "a/b", "--name", "x\ny"}).code == 2);
  std::filesystem::remove(model + "/mxfp4_report.json");
  CHECK_THAT(card({model, "--base-model", "a/b", "--overwrite"}).err, ContainsSubstring("cannot open"));
  CHECK_THAT(read_text(readme), ContainsSubstring("# model"));  // as it was
  CHECK(card({folder / "none", "--base-model", "a/b"}).code == 1);
}

TEST_CASE("plots: three pictures from the report", "[plots]") {
  if (run({MXFP4_PYTHON, "-c", "import matplotlib"}).code != 0) SKIP("no Python with matplotlib");
  const scratch_folder folder;
  const std::string csv = folder / "csv", png = folder / "png", script = MXFP4_PLOTS "/plot_report.py";
  REQUIRE(run({MXFP4_PROGRAM, "report", write_text(folder / "r.json", small_report().dump()), csv}).code == 0);
  const outcome o = run({MXFP4_PYTHON, script, csv, png});
  CAPTURE(o.err);
  CHECK(o.code == 0);
  for (const char* name : {"expert_error.png", "error_distribution.png", "scale_exponents.png"}) {
    CAPTURE(name);
    const std::string picture = read_text(png + "/" + name);
    CHECK(picture.starts_with("\x89PNG\r\n"));
    CHECK(picture.size() > 5000);
  }
  write_text(csv + "/scales.csv", "byte\n1\n");
  const outcome bad = run({MXFP4_PYTHON, script, csv, png});
  CHECK(bad.code == 1);
  CHECK_THAT(bad.err, ContainsSubstring("scales.csv: has no column exponent, blocks: write it with mxfp4 report"));
}
