#!/usr/bin/env python3
# tests/python/run.py -- builds the wheel of examples/python as a user would, installs it, and runs check.py on it.
# SPDX-License-Identifier: Apache-2.0
"""run.py SOURCE [PIP CONFIG SETTING ...]: SOURCE is the project's folder.

The virtual environment sees this Python's own packages, so that a torch of the distribution (setup.sh --with train) is
tried too. Exit code 77 (skipped) where the environment cannot be made or filled: no venv module, no network.
"""
import os
import subprocess
import sys
import tempfile
import venv

SKIPPED = 77
PACKAGES = ["scikit-build-core==0.11.6", "nanobind==2.9.2", "ml_dtypes==0.5.1", "mypy==1.18.2", "numpy"]


def main() -> int:
    source, settings = os.path.abspath(sys.argv[1]), sys.argv[2:]
    with tempfile.TemporaryDirectory(prefix="mxfp4-python-") as folder:
        try:
            venv.create(folder, with_pip=True, system_site_packages=True)
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"skipped: no virtual environment: {error}")
            return SKIPPED
        python = os.path.join(folder, "bin", "python")
        pip = [python, "-m", "pip", "--quiet", "--no-input", "--disable-pip-version-check"]
        installed = subprocess.run(pip + ["install"] + PACKAGES, capture_output=True, text=True)
        if installed.returncode != 0:
            print("skipped: pip cannot install " + " ".join(PACKAGES))
            print(installed.stderr[-2000:])
            return SKIPPED
        wheels = os.path.join(folder, "wheels")
        subprocess.run(pip + ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", wheels]
                       + [f"--config-settings={setting}" for setting in settings]
                       + [os.path.join(source, "examples", "python")], check=True)
        (wheel,) = os.listdir(wheels)
        print(wheel, os.path.getsize(os.path.join(wheels, wheel)), "bytes")
        tag = "-cp312-abi3-" if sys.version_info >= (3, 12) else "-cp{0}{1}-cp{0}{1}-".format(*sys.version_info)
        if tag not in wheel:   # from 3.12 on one wheel serves all
            print(f"failed: {wheel}, expected '{tag}' in its name")
            return 1
        subprocess.run(pip + ["install", "--no-deps", os.path.join(wheels, wheel)], check=True)
        check = os.path.join(source, "tests", "python", "check.py")
        return subprocess.run([python, check, os.path.join(source, "tests", "vectors")], cwd=folder).returncode


if __name__ == "__main__":
    sys.exit(main())
