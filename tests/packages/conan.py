#!/usr/bin/env python3
# tests/packages/conan.py -- runs Conan's recipe with its test package: mxfp4::format, which needs no other package.
# SPDX-License-Identifier: Apache-2.0
"""conan.py SOURCE: in a virtual environment and a Conan home of its own, without any remote. Exit code 77 (skipped)
where pip cannot install Conan."""
import os
import subprocess
import sys
import tempfile
import venv

SKIPPED = 77
CONAN = "conan==2.21.0"


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
        return subprocess.run([conan, "create", recipe, "--no-remote", "-o", "mxfp4/*:kernels=False",
                               "-s", "compiler.cppstd=20", "-c", "tools.cmake.cmaketoolchain:generator=Ninja",
                               "-c", f"tools.cmake.cmake_layout:test_folder={os.path.join(folder, 'test')}"],
                              env=environment, cwd=folder).returncode


if __name__ == "__main__":
    sys.exit(main())
