#!/usr/bin/env python3
# tests/kit.test.py -- what presets, setup.sh, packages and the version's readers say of each other.
# SPDX-License-Identifier: Apache-2.0
"""kit.test.py SOURCE: each workflow preset is called by a workflow of .github and each name called there is one; groups
of setup.sh that they ask for are there; the minima in CONTRIBUTING.md, CMakeLists.txt and the presets are the same;
whoever reads the version from version.hpp finds it; packages are refused for other processors; a program that does not
run here is built and installed without what it prints."""
import importlib.util
import json
import pathlib
import re
import subprocess
import sys
import tempfile

SKIPPED = 77
source = pathlib.Path(sys.argv[1])
faults = []

try:
    import yaml
except ImportError:
    yaml = None


def require(true, what):
    if not true:
        faults.append(what)


def check_version():
    """Three readers of version.hpp beside CMake; the expected is read here by words, not by an expression."""
    said = "reads version {} from version.hpp, expected {}".format
    header = (source / "include/mxfp4/core/version.hpp").read_text()
    words = [line.split() for line in header.splitlines() if line.startswith("#define ")]
    number = {line[1]: line[2] for line in words}
    version = ".".join(number[f"MXFP4_VERSION_{part}"] for part in ("MAJOR", "MINOR", "PATCH"))
    project = (source / "examples/python/pyproject.toml").read_text()
    found = re.search(re.search(r"^regex = '(.*)'$", project, re.M)[1], header, re.M)   # as scikit-build-core does
    wheel = found and ".".join(found.group("major", "minor", "patch"))
    require(wheel == version, "examples/python/pyproject.toml " + said(wheel, version))
    recipe = (source / "packaging/conan/conanfile.py").read_text()
    conan = ".".join(re.findall(re.search(r're\.findall\(r"(.*)", text\)', recipe)[1], header))
    require(conan == version, "packaging/conan/conanfile.py " + said(conan, version))
    sys.dont_write_bytecode = True
    spec = importlib.util.spec_from_file_location("single_header", source / "cmake/single_header.py")
    single_header = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(single_header)
    single = single_header.version()
    require(single == version, "cmake/single_header.py " + said(single, version))


def check_processor():
    done = subprocess.run(["cmake", "-DMXFP4_PACKAGES=ON", "-DCMAKE_SYSTEM_PROCESSOR=s390x", "-P",
                           source / "cmake/package.cmake"], capture_output=True, text=True)
    require("the processor is s390x, expected x86_64 or aarch64" in " ".join(done.stderr.split()),
            f"cmake/package.cmake makes packages for s390x: {done.stderr}")


def check_documents():
    """The lines of tools/CMakeLists.txt for manual page and completions, with one that runs and one that does not."""
    text = (source / "tools/CMakeLists.txt").read_text()
    part = text[text.index("# The manual page and the completions"):text.index("add_executable(mxfp4_generate")]
    for code, expected in ((0, ["_mxfp4", "mxfp4", "mxfp4", "mxfp4.1", "mxfp4.fish"]), (1, ["mxfp4"])):
        with tempfile.TemporaryDirectory(prefix="mxfp4-kit-") as name:
            folder = pathlib.Path(name)
            (folder / "main.cpp").write_text(f'#include <cstdio>\nint main() {{ std::puts("text"); return {code}; }}\n')
            (folder / "CMakeLists.txt").write_text(
                "cmake_minimum_required(VERSION 3.25)\nproject(kit LANGUAGES CXX)\ninclude(GNUInstallDirs)\n"
                "set(MXFP4_INSTALL ON)\nadd_executable(mxfp4_cli main.cpp)\n"
                "set_target_properties(mxfp4_cli PROPERTIES OUTPUT_NAME mxfp4)\n" + part)
            for line in (["cmake", "-S", ".", "-B", "build"], ["cmake", "--build", "build"],
                         ["cmake", "--install", "build", "--component", "tools", "--prefix", "installed"]):
                done = subprocess.run(line, cwd=folder, capture_output=True, text=True)
                require(done.returncode == 0, f"program with exit code {code}: {line}: {done.stdout}{done.stderr}")
            installed = sorted(path.name for path in folder.glob("installed/**/*") if path.is_file())
            require(installed == expected, f"program with exit code {code}: installed {installed}, expected {expected}")


def finish(code):
    for fault in faults:
        print(fault, file=sys.stderr)
    sys.exit(1 if faults else code)


check_version()
check_processor()
check_documents()
if yaml is None:
    print("skipped: the rest, without PyYAML")
    finish(SKIPPED)

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

finish(0)
