#!/usr/bin/env python3
# tests/fuzz/coverage.py -- how many lines of the fuzzed sources a corpus reaches.
# SPDX-License-Identifier: Apache-2.0
"""Replays a corpus with a program built by clang with coverage and prints the share of lines reached, source by source.

Exit code 1 when all sources taken together stay below --least percent.
"""
import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile


def tool(compiler, name):
    """llvm-cov and llvm-profdata of the compiler's own version: the formats change with it."""
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True).stdout
    major = re.search(r"version (\d+)", version).group(1)
    found = shutil.which(f"{name}-{major}") or shutil.which(name)
    if not found:
        sys.exit(f"coverage.py: {name}-{major} was not found, expected it beside {compiler}: install llvm-{major}")
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--compiler", required=True)
    parser.add_argument("--program", required=True)
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--least", type=float, required=True, help="per cent of the lines")
    parser.add_argument("sources", nargs="+")
    args = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        raw, merged = os.path.join(folder, "raw"), os.path.join(folder, "merged")
        subprocess.run([args.program, args.corpus], check=True, stdout=subprocess.DEVNULL,
                       env={**os.environ, "LLVM_PROFILE_FILE": raw})
        subprocess.run([tool(args.compiler, "llvm-profdata"), "merge", raw, "-o", merged], check=True)
        report = subprocess.run([tool(args.compiler, "llvm-cov"), "export", "--summary-only", args.program,
                                 f"--instr-profile={merged}", *args.sources], check=True, capture_output=True, text=True)
    lines = covered = 0
    for file in json.loads(report.stdout)["data"][0]["files"]:
        summary = file["summary"]["lines"]
        lines, covered = lines + summary["count"], covered + summary["covered"]
        print(f"{summary['percent']:6.1f} %  {summary['covered']:4} of {summary['count']:4} lines  "
              f"{os.path.basename(file['filename'])}")
    share = 100.0 * covered / max(lines, 1)
    print(f"{share:6.1f} %  {covered:4} of {lines:4} lines  together, at least {args.least} % expected")
    return 0 if share >= args.least else 1


if __name__ == "__main__":
    sys.exit(main())
