#!/usr/bin/env python3
# tests/interop/run.py -- makes a throw-away virtual environment, puts the packages in it, and runs a check there.
# SPDX-License-Identifier: Apache-2.0
"""run.py [--packages NAME ...] [--requirements FILE] [--alone NAME ...] -- CHECK.py ARGUMENT ...

Exit code 77 (skipped) where the environment cannot be made or filled: no network, no venv module, no wheel for this
machine. Otherwise that of the check.
"""
import argparse
import os
import subprocess
import sys
import tempfile
import venv

SKIPPED = 77


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packages", nargs="*", default=["numpy", "safetensors", "ml_dtypes", "gguf"])
    parser.add_argument("--requirements", help="a file of more packages")
    parser.add_argument("--alone", nargs="+", default=[], help="packages to install without what they ask for")
    parser.add_argument("check", nargs="+", help="the script and its arguments, after --")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mxfp4-interop-") as folder:
        try:
            venv.create(folder, with_pip=True)
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"skipped: no virtual environment: {error}")
            return SKIPPED
        python = os.path.join(folder, "bin", "python")
        pip = [python, "-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"]
        packages = options.packages + (["-r", options.requirements] if options.requirements else [])
        for names in filter(None, [packages, ["--no-deps", *options.alone] if options.alone else []]):
            installed = subprocess.run(pip + names, capture_output=True, text=True)
            if installed.returncode != 0:
                print("skipped: pip cannot install " + " ".join(names))
                print(installed.stderr[-2000:])
                return SKIPPED
        return subprocess.run([python] + options.check).returncode


if __name__ == "__main__":
    sys.exit(main())
