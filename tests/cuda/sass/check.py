#!/usr/bin/env python3
"""tests/cuda/sass/check.py -- every kernel of a cubin keeps its limits: registers, spills, instructions.

SPDX-License-Identifier: Apache-2.0

Usage: check.py LIMITS ARCH CUBIN [CUBIN...]

LIMITS has a line for each kind of kernel, fields apart by two blanks or more; '#' starts a comment. The first line whose
kernel (a regular expression on the demangled name) and architectures fit is the one that counts.

  kernel  architectures  registers  instructions  in the main loop  must have
  gemv<   80,90a         82         -             130               HMMA,LDSM|LDG

No kernel may spill, touch local memory, or have its wgmma serialised; each must fit a line, and each line of this
architecture a kernel.
"""
import re
import sys

import cubin


def read_limits(path, arch):
    limits = []
    for number, line in enumerate(open(path), 1):
        line = line.split("#")[0].strip()
        if not line:
            continue
        fields = re.split(r"\s{2,}", line)
        if len(fields) != 6:
            sys.exit(f"{path}:{number}: {len(fields)} fields, expected 6, two blanks apart")
        if fields[1] == "*" or arch in fields[1].split(","):
            limits.append((number, *fields))
    return limits


def ptxas_report(path):
    """{demangled kernel: (registers, stack, spills)} from the log beside the cubin."""
    report, name = {}, None
    for line in open(path):
        if match := re.search(r"Compiling entry function '(\S+)'", line):
            name = cubin.demangle(match[1])
        elif match := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", line):
            stack, spills = int(match[1]), int(match[2]) + int(match[3])
        elif (match := re.search(r"Used (\d+) registers", line)) and name:
            report[name] = (int(match[1]), stack, spills)
    return report


def serialized(path):
    """Lines of the log that say of a kernel that its wgmma wait for one another."""
    return [line.strip() for line in open(path) if "wgmma" in line and "serialized" in line]


def main():
    limits_path, arch, *paths = sys.argv[1:]
    limits = read_limits(limits_path, arch)
    number = int(re.match(r"\d+", arch)[0])
    wrong, used = [], set()
    print(f"{'registers':>9} {'total':>6} {'loop':>5}  kernel (sm_{arch})")
    for path in paths:
        report = ptxas_report(path + ".ptxas")
        wrong += serialized(path + ".ptxas")
        for name, instructions in cubin.kernels(path).items():
            short = re.sub(r"(mxfp4::)?(v\d+_\d+::)(cuda::|kernel::|detail::|recipe::|layout::|device::|dialect::)*|void |entry<|\(.*\)$", "", name)
            registers, stack, spills = report[name]
            count, loop = cubin.histogram(instructions), cubin.main_loop(instructions, number)
            print(f"{registers:9} {len(instructions):6} {len(loop):5}  {short}")
            line = next((entry for entry in limits if re.search(entry[1], short)), None)
            if line is None:
                wrong.append(f"{short}: no line of {limits_path} is for it")
                continue
            used.add(line[0])
            _, _, _, most_registers, most, most_in_loop, must_have = line
            for what, value, limit in (("registers", registers, most_registers), ("instructions", len(instructions), most),
                                       ("instructions in its main loop", len(loop), most_in_loop)):
                if limit != "-" and value > int(limit):
                    wrong.append(f"{short}: {value} {what}, at most {limit} are allowed")
            if stack or spills or count["LDL"] or count["STL"]:
                wrong.append(f"{short}: {stack} bytes of stack, {spills} of spills, {count['LDL'] + count['STL']} accesses "
                             "to local memory; none is allowed")
            for opcode in must_have.split(","):
                if opcode != "-" and not any(count[either] for either in opcode.split("|")):
                    wrong.append(f"{short}: no {opcode}; it has {dict(count.most_common(8))}")
    for entry in limits:
        if entry[0] not in used:
            wrong.append(f"{limits_path}:{entry[0]}: no kernel fits '{entry[1]}'")
    if wrong:
        sys.exit("\n".join(wrong))


main()
