#!/usr/bin/env python3
# bench/report.test.py -- what report.py makes of given measurements, and when it fails.
# SPDX-License-Identifier: Apache-2.0
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

REPORT = pathlib.Path(__file__).resolve().parent / "report.py"
CONTEXT = {
    "date": "2026-01-02T03:04:05+00:00", "num_cpus": 2, "mhz_per_cpu": 3000, "load_avg": [0.5, 0.4, 0.3],
    "isa": "avx512vnni", "compiler": "g++ 12.2.0", "commit": "0123abc",
}


def measured(name, value, limit, label="GB/s, limit: read", **more):
    row = {"name": name + "/iterations:15/manual_time", "label": label, "value": value, "noise": 0.01, "GHz": 4.0}
    if limit:
        row |= {"limit": limit, "limit_noise": 0.02, "ratio": value / limit}
    return row | more


GEMV = "gemv/activation:int8_e8m0/output:f32/weights:packed/shape:4096x4096/m:1/residency:cold/isa:avx512vnni/threads:"
QUANTIZE = "quantize_ocp/activation:f32/output:mxfp4/shape:{}/residency:hot/isa:avx512vnni/threads:{}"
SGEMM = "sgemm/activation:f32/output:f32/weights:dense/shape:64x64/m:32/residency:hot/isa:openblas/threads:1"
CHECKPOINT = "checkpoint_quantize/activation:e4m3/output:mxfp4/residency:files/isa:avx512vnni/threads:"
GEMM = "gemm/activation:f32/output:f32/weights:view/shape:64x64/m:32/residency:hot/isa:avx512vnni/threads:1"


class Report(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.out = pathlib.Path(self.folder.name)
        self.addCleanup(self.folder.cleanup)

    def report(self, *rows, arguments=()):
        (self.out / "bench_all.json").write_text(json.dumps({"context": CONTEXT, "benchmarks": rows}))
        command = [sys.executable, REPORT, "--out", self.out, *arguments]
        done = subprocess.run(command, capture_output=True, text=True)
        self.text = done.stdout + done.stderr
        if (self.out / "report.json").exists():
            self.rows = json.loads((self.out / "report.json").read_text())["rows"]
        return done.returncode

    def test_a_name_becomes_the_fields_of_a_row(self):
        self.assertEqual(self.report(measured(GEMV + "1", 27.0, 30.0)), 0)
        expected = {
            "kernel": "gemv", "activation": "int8_e8m0", "output": "f32", "packed": True, "shape": "4096x4096", "m": 1,
            "residency": "cold", "isa": "avx512vnni", "threads": 1, "value": 27.0, "unit": "GB/s", "limit": 30.0,
            "ratio": 0.9, "limit_name": "read",
        }
        self.assertEqual({k: self.rows[0][k] for k in expected}, expected)
        self.assertEqual(self.rows[0]["goals"], [{"metric": "ratio", "reached": 0.9, "must": 0.88, "aim": 0.95}])
        self.assertIn("commit 0123abc", (self.out / "report.md").read_text())
        self.assertIn("| int8_e8m0, packed | 4096x4096 | 1 | cold | avx512vnni | 1 | 27.0 GB/s |",
                      (self.out / "report.md").read_text())

    def test_a_row_above_its_limit_fails_the_report(self):
        self.assertEqual(self.report(measured(GEMV + "1", 30.5, 30.0)), 0)
        self.assertEqual(self.report(measured(GEMV + "1", 30.7, 30.0)), 1)
        self.assertIn("LIMIT MEASURED BADLY: gemv, int8_e8m0, packed, f32, 4096x4096, M = 1, cold, avx512vnni, 1 thread",
                      self.text)

    def test_a_wrong_result_fails_the_report(self):
        wrong = measured(GEMV + "1", 1, 1, error_occurred=True, error_message="differs")
        self.assertEqual(self.report(wrong, measured(GEMV + "2", 50.0, 60.0)), 1)
        self.assertIn("WRONG RESULT: gemv/", self.text)
        self.assertEqual(len(self.rows), 1)

    def test_a_program_that_fails_fails_the_report(self):
        self.assertEqual(self.report(measured(GEMV + "1", 27.0, 30.0), arguments=["/bin/false"]), 1)
        self.assertIn("FAILED: false ended with 1", self.text)

    def test_rows_below_must_are_named(self):
        self.assertEqual(self.report(measured(GEMV + "1", 26.0, 30.0)), 0)
        self.assertIn("below must: gemv, int8_e8m0, packed, f32, 4096x4096, M = 1, cold, avx512vnni, 1 thread: "
                      "ratio 0.867, must 0.88 (noise 1.0 %, the limit's 2.0 %)", self.text)

    def test_cycles_and_threads(self):
        one, two = QUANTIZE.format("32x4096", 1), QUANTIZE.format("64x4096", 2)
        self.report(measured(one, 24.0, 100.0), measured(two, 36.0, 200.0))
        self.assertEqual(self.rows[0]["per_cycle"], 1.5)  # 24 GB/s of 4 bytes at 4 GHz
        self.assertEqual(self.rows[1]["scaling"], 1.5)
        self.assertIn("2 threads: scaling 1.50, must 1.9", self.text)

    def test_the_dense_alternative(self):
        self.report(measured(GEMM, 90.0, 100.0, "Gop/s, limit: FMA peak"),
                    measured(SGEMM, 60.0, 100.0, "Gop/s, limit: FMA peak"))
        self.assertEqual(self.rows[0]["over_dense"], 1.5)
        self.assertNotIn("below must", self.text)

    def test_what_a_checkpoint_takes(self):
        label = "G weights/s, limit: reading and writing"
        self.report(measured(CHECKPOINT + "1", 1.0, 2.0, label, job_seconds=215.0),
                    measured(CHECKPOINT + "2", 1.7, 2.5, label, job_seconds=59.4))
        self.assertEqual([r["job_seconds"] for r in self.rows], [215.0, 59.4])
        self.assertEqual([r["limit_name"] for r in self.rows], ["reading and writing"] * 2)
        text = (self.out / "report.md").read_text()
        self.assertIn("| 1 | 1.00 G weights/s, 215 GB of FP8 in 3.58 min | 2.00 | 0.50 |", text)
        self.assertIn("| 2 | 1.70 G weights/s, 215 GB of FP8 in 59.4 s | 2.50 | 0.68 |", text)
        self.assertIn("1 thread: ratio 0.500, must 0.6 ", self.text)
        self.assertIn("2 threads: scaling 1.70, must 1.8 ", self.text)
        self.assertNotIn("2 threads: ratio", self.text)

    def test_update_replaces_what_is_between_the_markers(self):
        page = self.out / "page.md"
        page.write_text("# Top\n<!-- report.py --update writes below -->\nstale\n"
                        "<!-- report.py --update wrote above -->\nend\n")
        self.assertEqual(self.report(measured(GEMV + "1", 27.0, 30.0), arguments=["--update", page]), 0)
        text = page.read_text()
        self.assertTrue(text.startswith("# Top\n") and text.endswith("-->\nend\n") and "| gemv |" in text)
        self.assertNotIn("stale", text)
        page.write_text("no markers\n")
        self.assertEqual(self.report(measured(GEMV + "1", 27.0, 30.0), arguments=["--update", page]), 1)
        self.assertIn("page.md lacks the lines", self.text)
        self.assertEqual(page.read_text(), "no markers\n")


if __name__ == "__main__":
    unittest.main()
