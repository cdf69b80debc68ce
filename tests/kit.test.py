#!/usr/bin/env python3
# tests/kit.test.py -- the maintainer's kit agrees with the presets and with setup.sh.
# SPDX-License-Identifier: Apache-2.0
"""kit.test.py SOURCE: each workflow preset is called by a workflow of .github and each name called there is one; groups
of setup.sh that they ask for are there; the minima in CONTRIBUTING.md, CMakeLists.txt and the presets are the same."""
import json
import pathlib
import re
import sys

SKIPPED = 77
source = pathlib.Path(sys.argv[1])
faults = []

try:
    import yaml
except ImportError:
    print("skipped: no PyYAML")
    sys.exit(SKIPPED)


def require(true, what):
    if not true:
        faults.append(what)


presets = json.loads((source / "CMakePresets.json").read_text())
names = {preset["name"] for preset in presets["workflowPresets"]}
called, groups = set(), set()
for file in sorted((source / ".github/workflows").glob("*.yml")):
    for job in yaml.safe_load(file.read_text())["jobs"].values():
        matrix = job.get("strategy", {}).get("matrix", {})
        called |= set(matrix.get("preset", [])) | {row["preset"] for row in matrix.get("include", [])}
        groups |= {row["with"] for row in matrix.get("include", []) if row["with"]}
        for step in job["steps"]:
            called |= set(re.findall(r"--preset (\w+)", step.get("run", "")))
require(called == names, f"workflow presets that no workflow calls: {sorted(names - called)}; called and not there: "
                         f"{sorted(called - names)}")
known = set(re.findall(r"^  \[(\w+)\]='$", (source / "cmake/setup.sh").read_text(), re.M))
require(groups <= known, f"setup.sh has no group {sorted(groups - known)}")

minimum = re.search(r"cmake_minimum_required\(VERSION ([\d.]+)\)", (source / "CMakeLists.txt").read_text())[1]
asked = presets["cmakeMinimumRequired"]
require(f"{asked['major']}.{asked['minor']}" == minimum, f"presets want CMake {asked}, CMakeLists.txt {minimum}")
said = (source / "CONTRIBUTING.md").read_text()
require(f"CMake {minimum} and newer" in said, f"CONTRIBUTING.md does not say CMake {minimum}")
setup = (source / "cmake/setup.sh").read_text()
require(re.search(rf"^must     cmake           {re.escape(minimum)} ", setup, re.M), f"setup.sh does not want CMake {minimum}")
for compiler, name in (("g++", "g++"), ("clang++", "clang++")):
    least = re.search(rf"{re.escape(compiler)} (\d+)", said)
    row = re.search(rf"^(?:must|tool)     {re.escape(name)}\s+(\d+)", setup, re.M)
    require(least and row and least[1] == row[1], f"CONTRIBUTING.md and setup.sh differ about {name}")

for fault in faults:
    print(fault, file=sys.stderr)
sys.exit(1 if faults else 0)
