#!/usr/bin/env python3
# tests/cmake_versions.py -- a consumer configured, built and run by the CMake of this Python environment.
# SPDX-License-Identifier: Apache-2.0
"""cmake_versions.py SOURCE VERSION [DEFINITION ...]: interop/run.py has installed cmake==VERSION. The project itself is
configured as a top-level one by its preset docs, too, since presets have a minimum of their own."""
import pathlib
import subprocess
import sys
import tempfile

source, version, definitions = pathlib.Path(sys.argv[1]).resolve(), sys.argv[2], sys.argv[3:]
cmake = str(pathlib.Path(sys.executable).parent / "cmake")
found = subprocess.run([cmake, "--version"], capture_output=True, text=True, check=True).stdout.split()[2]
if found != version:
    sys.exit(f"{cmake} is {found}, expected {version}")
with tempfile.TemporaryDirectory(prefix="mxfp4-cmake-") as folder:
    subprocess.run([cmake, "-G", "Ninja", "-S", source / "tests/package.subdirectory", "-B", folder, f"-DMXFP4_SOURCE={source}",
                    "-DMXFP4_FORMAT_ONLY=ON", *definitions], check=True)
    subprocess.run([cmake, "--build", folder], check=True)
    subprocess.run([f"{folder}/consumer"], check=True)
with tempfile.TemporaryDirectory(prefix="mxfp4-cmake-") as folder:
    subprocess.run([cmake, "--preset", "docs", "-B", folder], cwd=source, check=True, stdout=subprocess.DEVNULL)
