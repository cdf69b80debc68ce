#!/usr/bin/env python3
"""tests/cuda/sass/compile.py -- compiles kernels for one architecture and keeps what ptxas says of them.

SPDX-License-Identifier: Apache-2.0

Usage: compile.py NVCC ARCH SOURCE CUBIN DEPFILE [option...]     writes CUBIN and CUBIN.ptxas
"""
import os
import subprocess
import sys

nvcc, arch, source, cubin, depfile, *options = sys.argv[1:]
command = [nvcc, "-std=c++20", f"-arch=sm_{arch}", "-cubin", "-Xptxas", "-v", "-Werror", "all-warnings", "-MD", "-MF", depfile,
           "-o", cubin, source, *options]
run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
if run.returncode != 0:
    if os.path.exists(cubin):
        os.remove(cubin)
    sys.exit(f"{' '.join(command)}\n{run.stdout}")
with open(cubin + ".ptxas", "w") as log:
    log.write(run.stdout)
