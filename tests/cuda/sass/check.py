#!/usr/bin/env python3
"""tests/cuda/sass/check.py -- every kernel of a cubin keeps its limits: registers, spills, instructions, shared memory.

SPDX-License-Identifier: Apache-2.0

Usage: check.py LIMITS ARCH SHARED CUBIN [CUBIN...]     SHARED: the program of kernels/shared_memory.cpp

LIMITS has a line for each kind of kernel, fields apart by two blanks or more; '#' starts a comment. The first line whose
kernel (a regular expression on the demangled name) and architectures fit is the one that counts. At most so many
registers, instructions, instructions in the main loop, instructions to decode and multiply for each of the tensor cores'
(see cubin.multiply_loop) and bytes of shared memory; at least so many blocks on a multiprocessor at once.

  kernel  architectures  registers  instructions  in the main loop  for a tensor instruction  shared  blocks  must have
  gemv<   80,90a         82         -             1300              30                        68672   2       HMMA,LDSM|LDG

No kernel may spill, touch local memory, or have its wgmma serialised; each must fit a line, and each line of this
architecture a kernel.
"""
import re
import subprocess
import sys

import cubin

# Of a multiprocessor, by compute capability: bytes of shared memory and threads (CUDA C++ Programming Guide, Technical
# Specifications). A block takes 1024 bytes of shared memory for the system, and registers by 256 for each warp.
PROCESSORS = {80: (164 * 1024, 2048), 89: (100 * 1024, 1536), 90: (228 * 1024, 2048), 100: (228 * 1024, 2048),
              110: (228 * 1024, 1536), 120: (100 * 1024, 1536)}


def read_limits(path, arch):
    limits = []
    for number, line in enumerate(open(path), 1):
        line = line.split("#")[0].strip()
        if not line:
            continue
        fields = re.split(r"\s{2,}", line)
        if len(fields) != 9:
            sys.exit(f"{path}:{number}: {len(fields)} fields, expected 9, two blanks apart")
        if fields[1] == "*" or arch in fields[1].split(","):
            limits.append((number, *fields))
    return limits


def short(name):
    """Without namespaces, return type, arguments and the __global__ function round it."""
    name = re.sub(r"(cuda::)?(device::)?emulated_target<[^>]*> ?", "target", re.sub(r"(mxfp4::)?v\d+_\d+::", "", name))
    name = re.sub(r"(cuda::|kernel::|detail::|recipe::|layout::|device::|dialect::)+|void |\(.*\)$", "", name)
    entry = re.fullmatch(r"entry<(.*?) ?>", name)
    return entry[1] if entry else name


def shared_memory(program):
    """{kernel: (threads of a block, the most bytes of dynamic shared memory)}"""
    lines = [line.split() for line in subprocess.run([program], check=True, capture_output=True, text=True).stdout.splitlines()]
    return {short(cubin.demangle(name, type_name=True)): (int(threads), int(most)) for name, threads, most in lines}


def blocks_at_once(arch, registers, threads, shared):
    memory, most_threads = PROCESSORS[arch]
    warps = threads // 32
    return min(65536 // (-(-registers * 32 // 256) * 256 * warps), memory // (shared + 1024), most_threads // threads)


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
    limits_path, arch, shared_program, *paths = sys.argv[1:]
    limits, of_kernels = read_limits(limits_path, arch), shared_memory(shared_program)
    number = int(re.match(r"\d+", arch)[0])
    wrong, used = [], set()
    print(f"{'registers':>9} {'total':>6} {'loop':>5} {'a mma':>6} {'shared':>7} {'blocks':>6}  kernel (sm_{arch})")
    for path in paths:
        report = ptxas_report(path + ".ptxas")
        wrong += serialized(path + ".ptxas")
        for mangled, instructions in cubin.kernels(path).items():
            name = short(mangled)
            registers, stack, spills = report[mangled]
            count, loop = cubin.histogram(instructions), cubin.main_loop(instructions, number)
            path_length, tensor = cubin.multiply_loop(instructions, number)
            for_a_mma = round(path_length / tensor, 1) if tensor else "-"
            threads, shared = of_kernels.get(name, (0, "-"))
            blocks = blocks_at_once(number, registers, threads, shared) if threads and len(instructions) > 8 else "-"
            print(f"{registers:9} {len(instructions):6} {len(loop):5} {for_a_mma:>6} {shared:>7} {blocks:>6}  {name}")
            line = next((entry for entry in limits if re.search(entry[1], name)), None)
            if line is None:
                wrong.append(f"{name}: no line of {limits_path} is for it")
                continue
            used.add(line[0])
            _, _, _, most_registers, most, most_in_loop, most_for_a_mma, most_shared, least_blocks, must_have = line
            for what, value, limit in (("registers", registers, most_registers), ("instructions", len(instructions), most),
                                       ("instructions in its main loop", len(loop), most_in_loop),
                                       ("instructions for a tensor instruction", for_a_mma, most_for_a_mma),
                                       ("bytes of shared memory", shared, most_shared)):
                if limit != "-" and (value == "-" or value > float(limit)):
                    wrong.append(f"{name}: {value} {what}, at most {limit} are allowed")
            if least_blocks != "-" and (blocks == "-" or blocks < int(least_blocks)):
                wrong.append(f"{name}: {blocks} blocks on a multiprocessor at once, at least {least_blocks} are expected")
            if stack or spills or count["LDL"] or count["STL"]:
                wrong.append(f"{name}: {stack} bytes of stack, {spills} of spills, {count['LDL'] + count['STL']} accesses "
                             "to local memory; none is allowed")
            for opcode in must_have.split(","):
                if opcode != "-" and not any(count[either] for either in opcode.split("|")):
                    wrong.append(f"{name}: no {opcode}; it has {dict(count.most_common(8))}")
    for entry in limits:
        if entry[0] not in used:
            wrong.append(f"{limits_path}:{entry[0]}: no kernel fits '{entry[1]}'")
    if wrong:
        sys.exit("\n".join(wrong))


main()
