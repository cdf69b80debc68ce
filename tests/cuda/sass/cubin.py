"""tests/cuda/sass/cubin.py -- the machine code of the kernels in a cubin: names, opcodes, loops.

SPDX-License-Identifier: Apache-2.0

A cubin is an ELF file with a section .text.<kernel> for each kernel. From sm_70 on an instruction has 16 bytes; bits 0
to 8 say what it does, bits 9 to 11 where its operands are. The numbers are those of ptxas 13.0.
"""
import collections
import struct
import subprocess

OPCODES = {
    0x002: "MOV", 0x007: "SEL", 0x008: "FSEL", 0x009: "FMNMX", 0x00B: "FSETP", 0x00C: "ISETP", 0x010: "IADD3",
    0x011: "LEA", 0x012: "LOP3", 0x016: "PRMT", 0x019: "SHF", 0x020: "FMUL", 0x021: "FADD", 0x023: "FFMA", 0x024: "IMAD",
    0x025: "IMAD.WIDE", 0x030: "HADD2", 0x031: "HFMA2", 0x032: "HMUL2", 0x035: "IADD", 0x037: "IMMA", 0x03B: "LDSM",
    0x03C: "HMMA", 0x03E: "F2FP", 0x07A: "QMMA", 0x118: "NOP", 0x11A: "DEPBAR", 0x11D: "BAR", 0x147: "BRA", 0x14D: "EXIT",
    0x181: "LDG", 0x183: "LDL", 0x184: "LDS", 0x186: "STG", 0x187: "STL", 0x188: "STS", 0x189: "SHFL", 0x1AE: "LDGSTS",
    0x1F0: "HGMMA",
}
TENSOR = ("HMMA", "IMMA", "QMMA", "HGMMA")


def name_of(instruction):
    """The opcode of one instruction (a pair of 64-bit words); a number in hex for those that no check asks for."""
    number = instruction[0] & 0x1FF
    return OPCODES.get(number, hex(number))


def sections(path):
    """Yields (name, bytes) of each section."""
    data = open(path, "rb").read()
    if data[:4] != b"\x7fELF":
        raise SystemExit(f"{path} is no ELF file: is it what nvcc -cubin wrote?")
    table, = struct.unpack_from("<Q", data, 0x28)
    entry_bytes, count, names_index = struct.unpack_from("<HHH", data, 0x3A)
    headers = [struct.unpack_from("<IIQQQQIIQQ", data, table + i * entry_bytes) for i in range(count)]
    names = headers[names_index][4]
    for name_offset, _, _, _, offset, size, *_ in headers:
        start = names + name_offset
        yield data[start:data.index(b"\0", start)].decode(), data[offset:offset + size]


def kernels(path):
    """{demangled name: [(low, high), ...]}, without the padding behind the last instruction."""
    found = {}
    for name, code in sections(path):
        if not name.startswith(".text."):
            continue
        instructions = list(struct.iter_unpack("<QQ", code))
        while instructions and name_of(instructions[-1]) == "NOP":
            instructions.pop()
        if instructions and name_of(instructions[-1]) == "BRA":  # a branch to itself, behind the end
            instructions.pop()
        found[demangle(name[len(".text."):])] = instructions
    return found


def demangle(name, type_name=False):
    return subprocess.run(["c++filt", *(["-t"] if type_name else []), name], check=True, capture_output=True, text=True).stdout.strip()


def histogram(instructions):
    return collections.Counter(map(name_of, instructions))


def branch_target(index, instruction, arch):
    """Index of the instruction that a BRA at `index` jumps to: a signed distance, in units of 4 bytes."""
    low, high = instruction
    distance, bits = (low >> 34 & 0x3FFFFFFF) | (high & 0x3FFFF) << 30, 48
    if arch >= 90:
        distance, bits = distance << 8 | (low >> 16 & 0xFF), 56
    if distance >> (bits - 1):
        distance -= 1 << bits
    return index + 1 + distance * 4 // 16


def loops(instructions, arch):
    """Yields (first, last) of each loop, `last` being the branch back."""
    for index, instruction in enumerate(instructions):
        if name_of(instruction) == "BRA":
            target = branch_target(index, instruction, arch)
            if 0 <= target < index:
                yield target, index


def is_conditional(instruction):
    """Under a predicate other than PT, in front of the instruction or as an operand of the branch."""
    low, high = instruction
    return low >> 12 & 15 != 7 or high >> 23 & 15 != 7


def shortest_path(instructions, arch, first, last):
    """(-tensor instructions, instructions) of the way from `first` to `last` that has the most of the former and, among
    those, the fewest of the latter; None where none leads forward."""
    best = {}
    for index in range(last, first - 1, -1):
        name, onward = name_of(instructions[index]), [index + 1]
        if name == "BRA":
            target = branch_target(index, instructions[index], arch)
            onward = [target] if index < target <= last else []
            onward += [index + 1] if is_conditional(instructions[index]) else []
        elif name == "EXIT" and not is_conditional((instructions[index][0], 7 << 23)):
            onward = []
        ways = [best[i] for i in onward if i in best] if index < last else [(0, 0)]
        if ways:
            tensor, count = min(ways)
            best[index] = tensor - (name in TENSOR), count + 1
    return best.get(first)


def multiply_loop(instructions, arch):
    """(instructions, tensor instructions) of one round through the loop that has the fewest of the former for each of
    the latter: the one without the wide decoding, where that is apart or behind a branch. What is outside an inner
    loop does not count, as gemv's copies, nor what a branch may skip, as gemm's in the last steps. (0, 0) where no loop has tensor instructions. An HMMA or HGMMA takes eight
    codes from a lane, a QMMA sixteen; in gemm each code serves eight groups of tokens, and so as many of them."""
    ways = [way for first, last in loops(instructions, arch) if (way := shortest_path(instructions, arch, first, last))]
    tensor, count = min((way for way in ways if way[0] < 0), key=lambda way: way[1] / -way[0], default=(0, 0))
    return count, -tensor


def main_loop(instructions, arch):
    """The body of the loop with the most tensor instructions, or the longest where there are none; [] without a loop."""
    best, best_key = [], (-1, -1)
    for first, last in loops(instructions, arch):
        body = instructions[first:last + 1]
        count = histogram(body)
        key = (sum(count[t] for t in TENSOR), len(body))
        if key > best_key:
            best, best_key = body, key
    return best
