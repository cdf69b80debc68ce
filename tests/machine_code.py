"""machine_code.py [options] <c++ compiler> <instruction set> <compiler option>...

Compiles tests/machine_code.cpp for one instruction set and reads the machine code of the functions that
tests/machine_code.def names for it: their innermost loops that hold the named instruction must not load or store a
vector register relative to the stack pointer, or to the frame pointer where a function has one. That is what a spilled
register looks like; memory that a kernel means to use is addressed through a pointer of its own. It is a fault as well
if a function, its loop or the instruction is missing. Exit code 1 and a line for each fault.

  --objdump <program>     that of binutils
  --self-test             reads made-up machine code instead, to show that each fault is found
"""
# SPDX-License-Identifier: Apache-2.0
import argparse
import pathlib
import re
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
LINE = re.compile(r"^MXFP4_LOOP\(\s*(\w+)\s*,\s*(\w+)\s*,\s*(?:\w+::)*(\w+)(.*)\)\s*$")
VECTOR = re.compile(r"%[xyz]mm\d+")


def wanted_loops(text):
    """[(instruction set, instruction, name of the function)] of the lines of machine_code.def."""
    loops = []
    for line in text.splitlines():
        if line.startswith("MXFP4_LOOP("):
            match = LINE.match(line)
            if not match:
                sys.exit(f"machine_code.def: cannot read {line!r}")
            loops.append(match.group(1, 2, 3))
    return loops


def functions(disassembly):
    """{demangled symbol: [(address, instruction and operands)]} of `objdump -d -C`."""
    found, body = {}, None
    for line in disassembly.splitlines():
        head = re.match(r"^[0-9a-f]+ <(.*)>:$", line)
        if head:
            body = found.setdefault(head.group(1), [])
            continue
        code = re.match(r"^\s+([0-9a-f]+):\t(.*)$", line)
        if code and body is not None:
            body.append((int(code.group(1), 16), code.group(2).split("#")[0].strip()))
    return found


def mnemonic(code):
    words = [word for word in code.split() if not word.startswith("{")]
    return words[0] if words else ""


def loops_of(body):
    """Address ranges of a function's loops: from the target of each jump backwards to the jump."""
    first = body[0][0] if body else 0
    ranges = set()
    for address, code in body:
        jump = re.match(r"^j\w+\s+([0-9a-f]+)\b", code)
        if jump and first <= int(jump.group(1), 16) <= address:
            ranges.add((int(jump.group(1), 16), address))
    return ranges


def innermost_loops_with(body, instruction):
    ranges = loops_of(body)
    chosen = set()
    for address, code in body:
        if mnemonic(code).startswith(instruction):
            around = [r for r in ranges if r[0] <= address <= r[1]]
            if around:
                chosen.add(min(around, key=lambda r: r[1] - r[0]))
    return chosen


def stack_accesses(body, loop):
    """Instructions of the loop that load or store a vector register by the stack or the frame pointer."""
    has_frame = any(re.match(r"(mov\s+%rsp,%rbp|lea\s+\S*\(%rsp\),%rbp)$", code) for _, code in body)
    base = re.compile(r"\(%(rsp|rbp)\b" if has_frame else r"\(%rsp\b")
    return [code for address, code in body if loop[0] <= address <= loop[1] and base.search(code) and VECTOR.search(code)]


def faults_of(disassembly, loops):
    """What is wrong, a line each. `loops`: [(instruction, function)] that the object must have."""
    code, faults = functions(disassembly), []
    for instruction, name in sorted(set(loops)):
        pattern = re.compile(rf"(^|[:\s]){name}(<|\()")
        symbols = [s for s in code if pattern.search(re.split(r"\(", s)[0] + "(")]
        if len(symbols) < loops.count((instruction, name)):
            faults.append(f"{name}: {len(symbols)} functions, expected {loops.count((instruction, name))}")
        for symbol in symbols:
            chosen = innermost_loops_with(code[symbol], instruction)
            if not chosen:
                faults.append(f"{symbol}: no loop with {instruction}")
            for loop in sorted(chosen):
                for access in stack_accesses(code[symbol], loop):
                    faults.append(f"{symbol}: a loop with {instruction} has {access}")
    return faults


def self_test():
    def object_with(body):
        return "0000000000000000 <void mxfp4::kernel::f<a::b>(int)>:\n" + "".join(
            f"   {address:x}:\t{code}\n" for address, code in enumerate(body))
    good = ["mov    %rsp,%rbp", "vmovdqa 0x20(%rsp),%ymm1", "vpmaddubsw (%rdi),%ymm1,%ymm2", "vmovdqa %ymm2,(%rcx)",
            "mov    0x8(%rsp),%rax", "jne    2 <f+0x2>", "vmovdqa %ymm2,(%rsp)"]

    def changed(at, code):
        return object_with(good[:at] + [code] + good[at + 1:])
    cases = [
        (object_with(good), 0),
        (changed(3, "vmovdqa %ymm2,0x40(%rsp)"), 1),
        (changed(3, "vmovdqa %ymm2,-0x40(%rbp)"), 1),
        (changed(3, "vpaddw (%rsp,%rax,4),%ymm2,%ymm3"), 1),
        (changed(3, "vpbroadcastd 0x10(%rsp),%ymm3"), 1),
        (changed(3, "{vex} vpmaddubsw 0x10(%rsp),%xmm3,%xmm4"), 1),
        (object_with(["nop"] + good[1:3] + ["vmovdqa %ymm2,(%rbp)"] + good[4:]), 0),   # there rbp is no frame
        (changed(2, "vpmaddwd (%rdi),%ymm1,%ymm2"), 1),                                # no such instruction
        (changed(5, "jne    6 <f+0x6>"), 1),                                           # no loop
        (object_with(good).replace("::f<", "::g<"), 1),                                # no such function
        (object_with(good).replace("::f<", "::f2<"), 1),
        # only the inner one of two loops is looked at
        (object_with(good[:1] + ["nop"] + good[2:6] + ["vmovdqa %ymm2,(%rsp)", "jne    1 <f+0x1>"]), 0),
    ]
    for i, (text, expected) in enumerate(cases):
        faults = faults_of(text, [("vpmaddubsw", "f")])
        if len(faults) != expected:
            sys.exit(f"self-test {i}: {faults}, expected {expected} faults")
    print(f"{len(cases)} cases")


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--objdump", default="objdump")
    parser.add_argument("--self-test", action="store_true")
    parser.add_argument("compiler", nargs="?")
    parser.add_argument("isa", nargs="?")
    arguments, options = parser.parse_known_args()
    if arguments.self_test:
        return self_test()
    table = wanted_loops((HERE / "machine_code.def").read_text())
    loops = [(instruction, name) for isa, instruction, name in table if isa == arguments.isa]
    if not loops:
        sys.exit(f"machine_code.def has no line for {arguments.isa}")
    defined = [f"-DMXFP4_LOOP_{isa}={int(isa == arguments.isa)}" for isa in sorted({isa for isa, _, _ in table})]
    with tempfile.TemporaryDirectory() as folder:
        out = str(pathlib.Path(folder) / "machine_code.o")
        subprocess.run([arguments.compiler, "-std=c++20", "-DNDEBUG", *options, *defined, "-w", "-c",
                        str(HERE / "machine_code.cpp"), "-o", out], check=True)
        text = subprocess.run([arguments.objdump, "-d", "-C", "--no-show-raw-insn", out], check=True,
                              capture_output=True, text=True).stdout
    faults = faults_of(text, loops)
    print("\n".join(faults) if faults else f"{len(loops)} functions keep their loops in registers")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
