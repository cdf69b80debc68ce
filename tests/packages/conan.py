#!/usr/bin/env python3
# tests/packages/conan.py -- runs Conan's recipe with its test package: mxfp4::format alone; compares its package ids.
# SPDX-License-Identifier: Apache-2.0
"""conan.py SOURCE: in a virtual environment and a Conan home of its own, without any remote. Exit code 77 (skipped)
where pip cannot install Conan."""
import json
import os
import subprocess
import sys
import tempfile
import venv

SKIPPED = 77
CONAN = "conan==2.21.0"


def wrong_ids(conan, recipe, environment):
    """What is wrong with the package ids: one for each option, whatever the machine. xsimd's recipe is a stand-in."""
    with tempfile.TemporaryDirectory(prefix="mxfp4-conan-") as folder:
        with open(os.path.join(folder, "conanfile.py"), "w", encoding="ascii") as file:
            file.write("from conan import ConanFile\n\n\nclass Xsimd(ConanFile):\n    name, version = 'xsimd', '13.2.0'\n"
                       "    package_type = 'header-library'\n\n    def package_id(self):\n        self.info.clear()\n")
        subprocess.run([conan, "export", folder], env=environment, check=True)
    ids = {}
    for kernels in (True, False):
        for build_type in ("Release", "Debug"):
            graph = subprocess.run([conan, "graph", "info", recipe, "--no-remote", "--format=json",
                                    "-o", f"&:kernels={kernels}", "-s", f"build_type={build_type}",
                                    "-s", "compiler.cppstd=20"], env=environment, check=True, stdout=subprocess.PIPE)
            ids[kernels, build_type] = json.loads(graph.stdout)["graph"]["nodes"]["0"]["package_id"]
    for kernels in (True, False):
        if ids[kernels, "Release"] != ids[kernels, "Debug"]:
            return f"headers serve any machine, but the ids are {ids}"
    return None if ids[True, "Release"] != ids[False, "Release"] else f"kernels are not in the ids: {ids}"


def main() -> int:
    recipe = os.path.join(os.path.abspath(sys.argv[1]), "packaging", "conan")
    with tempfile.TemporaryDirectory(prefix="mxfp4-conan-") as folder:
        try:
            venv.create(folder, with_pip=True)
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"skipped: no virtual environment: {error}")
            return SKIPPED
        bin_folder = os.path.join(folder, "bin")
        installed = subprocess.run([os.path.join(bin_folder, "python"), "-m", "pip", "install", "--quiet", "--no-input",
                                    "--disable-pip-version-check", CONAN], capture_output=True, text=True)
        if installed.returncode != 0:
            print(f"skipped: pip cannot install {CONAN}: {installed.stderr[-2000:]}")
            return SKIPPED
        environment = {**os.environ, "CONAN_HOME": os.path.join(folder, "home"), "PYTHONDONTWRITEBYTECODE": "1"}
        conan = os.path.join(bin_folder, "conan")
        subprocess.run([conan, "profile", "detect"], env=environment, check=True)
        if (fault := wrong_ids(conan, recipe, environment)) is not None:
            print(f"failed: {fault}")
            return 1
        return subprocess.run([conan, "create", recipe, "--no-remote", "-o", "mxfp4/*:kernels=False",
                               "-s", "compiler.cppstd=20", "-c", "tools.cmake.cmaketoolchain:generator=Ninja",
                               "-c", f"tools.cmake.cmake_layout:test_folder={os.path.join(folder, 'test')}"],
                              env=environment, cwd=folder).returncode


if __name__ == "__main__":
    sys.exit(main())
