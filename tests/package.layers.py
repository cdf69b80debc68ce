#!/usr/bin/env python3
# tests/package.layers.py -- a header includes only what stands below it, and nothing it does not use.
# SPDX-License-Identifier: Apache-2.0
"""package.layers.py SOURCE_DIR [COMPILER COMPILER_OPTION...]

A folder of include/mxfp4 includes itself and those that BELOW names for it. For every header and source of include/,
src/ and tools/:
  - each include of ours goes to the same folder or to one below it, and to a file that is there;
  - an installed header includes nothing that is not installed;
  - of every header included, our own and the standard library's that NAMES lists, some name is used;
  - no comment line is longer than 120 columns, nor in the C++, CUDA, CMake and Python of the other folders;
  - intrinsics stand in the files of simd/ that are named after a line of isas.def; a folder above includes
    simd/simd.hpp, which includes them all, and none of what it is made of.
A faulty tree of its own, made in a temporary folder, proves that each of these is noticed.

With a compiler and the options for its host emulator, nothing of this but: every CUDA header compiles alone, as
package.headers asks of the others.
"""
import concurrent.futures
import pathlib
import re
import subprocess
import sys
import tempfile

# Folder -> the folders that it may include, besides itself. Outside of folders is the public page, which includes all.
ORDER = ["core", "format", "tensor", "reference", "simd", "kernel", "linalg", "moe"]
BELOW = {folder: ORDER[:i] for i, folder in enumerate(ORDER)}
BELOW["executor"] = ["core"]
BELOW["dispatch"] = ORDER
BELOW["cuda/device"] = ["core", "format", "tensor"]
BELOW["cuda"] = ["core", "format", "tensor", "cuda/device"]
BELOW["io"] = ["core", "format", "tensor"]
BELOW["checkpoint"] = ["core", "format", "tensor", "reference", "io"]
PAGE = ""

# Pages that only hand on what lies below them: everything that they include is for their reader.
FORWARDING = re.compile(r"\b(namespace|struct|class|template|inline|using)\b")

# What a standard header is included for. One that is not listed is not looked at.
NAMES = {
    "algorithm": r"std::(ranges::)?(sort|min|max|clamp|copy\w*|fill\w*|find\w*|equal|any_of|all_of|none_of|count\w*|"
                 r"transform|reverse|rotate|unique|lower_bound|upper_bound|equal_range|partition\w*|nth_element|"
                 r"partial_sort\w*|stable_sort|minmax\w*|min_element|max_element|swap_ranges|replace\w*|remove\w*|"
                 r"generate\w*|is_sorted\w*|merge|set_\w+|includes|binary_search|lexicographical_compare|starts_with|"
                 r"ends_with|search|mismatch|for_each\w*|iter_swap|move_backward)\b",
    "array": r"std::(array|to_array)\b",
    "bit": r"std::(bit_cast|endian|popcount|countl_\w+|countr_\w+|bit_ceil|bit_width|bit_floor|has_single_bit|rot[lr])\b",
    "cmath": r"std::(fma|sqrt|abs|exp\w*|log\w*|pow|ldexp|frexp|floor|ceil|round|nearbyint|isnan|isinf|isfinite|signbit|"
             r"trunc|copysign|scalbn|cos|sin|tanh|rint|lround|llround|hypot|nextafter|ilogb|fmod|fabs|erf|lrint)\b|"
             r"\b(INFINITY|NAN)\b|\bstd::(fmaf|sqrtf)",
    "concepts": r"std::(same_as|integral|floating_point|convertible_to|invocable|derived_from|constructible_from|"
                r"unsigned_integral|signed_integral|regular_invocable|default_initializable|predicate|movable|copyable|"
                r"equality_comparable\w*|totally_ordered\w*|destructible|move_constructible|copy_constructible|"
                r"assignable_from)\b",
    "cstddef": r"std::(size_t|byte|ptrdiff_t|nullptr_t|max_align_t)\b|\boffsetof\b",
    "cstdint": r"\b(std::)?u?int(8|16|32|64|ptr|_fast\d+|_least\d+)_t\b|\bU?INT\d+_(MAX|MIN)\b",
    "cstdio": r"\b(std::)?(v?s?n?printf|fputs|puts|fputc|putchar|fopen|fclose|fwrite|fread|fflush|perror|rename|remove|"
              r"FILE|stderr|stdout|stdin|getc|fprintf|fgets|EOF|BUFSIZ)\b",
    "cstdlib": r"std::(getenv|exit|abort|malloc|free|aligned_alloc|strto\w+|system|atexit|quick_exit|_Exit)\b|\bEXIT_\w+",
    "cstring": r"std::(mem\w+|str\w+)\b",
    "exception": r"std::(exception\w*|terminate|current_exception|rethrow_exception|uncaught_exceptions|make_exception_ptr)\b",
    "functional": r"std::(function|hash|less|greater|equal_to|plus|minus|multiplies|reference_wrapper|c?ref|invoke|"
                  r"bind\w*|not_fn|identity|ranges::\w+|move_only_function)\b",
    "limits": r"std::numeric_limits\b",
    "memory": r"std::(unique_ptr|shared_ptr|weak_ptr|make_unique\w*|make_shared|allocator\w*|addressof|destroy\w*|"
              r"construct_at|uninitialized_\w+|align|assume_aligned|to_address|pointer_traits|default_delete|"
              r"enable_shared_from_this)\b",
    "new": r"std::(nothrow|align_val_t|bad_alloc|launder|hardware_\w+|set_new_handler)\b|\bnew \(",
    "optional": r"std::(optional|nullopt|make_optional)\b",
    "ranges": r"std::(ranges|views)::",
    "span": r"std::(span|dynamic_extent|as_bytes|as_writable_bytes)\b",
    "string": r"std::(string|to_string|sto[a-z]+|getline|basic_string|char_traits)\b|\"s\b",
    "string_view": r"std::(string_view|basic_string_view)\b|\"sv\b",
    "tuple": r"std::(tuple\w*|tie|make_tuple|apply|get|forward_as_tuple|ignore)\b",
    "type_traits": r"std::(is_\w+|remove_\w+|conditional\w*|enable_if\w*|decay\w*|void_t|integral_constant|bool_constant|"
                   r"true_type|false_type|type_identity\w*|make_(un)?signed\w*|underlying_type\w*|common_type\w*|"
                   r"invoke_result\w*|add_\w+|has_\w+|extent\w*|rank\w*|conjunction\w*|disjunction\w*|negation\w*)\b",
    "utility": r"std::(move|forward|pair|make_pair|swap|exchange|declval|in_place\w*|(make_)?index_sequence\w*|"
               r"(make_)?integer_sequence\w*|as_const|cmp_\w+|unreachable|piecewise_construct|to_underlying|in_range)\b",
    "vector": r"std::vector\b",
}
SOURCES = (".hpp", ".cpp", ".cuh", ".cu")
SCRIPTS = (".cmake", ".py", ".sh", ".in")
INCLUDE = re.compile(r'^\s*#\s*include\s+(["<])([^">]+)[">](.*)$', re.M)
DEFINED = re.compile(
    r"(?:\b(?:struct|class|enum class|enum|union|concept|namespace)\s+(?:\[\[[^\]]*\]\]\s*)?(?:alignas\([^)]*\)\s*)?([A-Za-z_]\w*)"
    r"|\busing\s+([A-Za-z_]\w*)\s*="
    r"|^\s*#\s*define\s+([A-Za-z_]\w*)"
    r"|\b([A-Za-z_]\w*)\s*(?:\[[^\]]*\]\s*)?(?:=|\{|\())", re.M)


INTRINSIC = re.compile(r"\b_mm\d*_\w+|\b__m(128|256|512)\w*\b|\bv\w+_[usf](8|16|32|64)\s*\(|\bu?int\d+x\d+(x\d)?_t\b")
ISA_LINE = re.compile(r"^MXFP4_ISA\((\w+),", re.M)
PRIMITIVES = "mxfp4/simd/simd.hpp"
RECIPE_DATA = "mxfp4/simd/words.hpp"   # tables of numbers: dispatch.cpp, which is for any CPU, hands them to its units

KEYWORDS = frozenset(
    "if for while switch return sizeof alignof decltype noexcept requires static_assert operator const constexpr auto "
    "template typename int bool float double char void unsigned catch defined explicit this else do new delete case "
    "size_t data size begin end get".split())


def code_of(text):
    """Without comments and the text of strings, so that a name in a sentence is not a use."""
    text = re.sub(r"/\*.*?\*/", " ", text, flags=re.S)
    return re.sub(r"//[^\n]*", "", text)


def folder_of(path):
    """'core' of mxfp4/core/bits.hpp, 'cuda/device' of mxfp4/cuda/device/tile.cuh, PAGE of mxfp4/block.hpp."""
    return "/".join(pathlib.PurePosixPath(path).parts[1:-1])


class tree:
    def __init__(self, root):
        self.root = pathlib.Path(root)
        self.include = self.root / "include"
        self.faults = []
        self.names = {}
        isas = self.include / "mxfp4/simd/isas.def"
        self.isas = [name for name in ISA_LINE.findall(isas.read_text()) if name != "scalar"] if isas.is_file() else []

    def fault(self, file, what):
        self.faults.append(f"{file.relative_to(self.root)}: {what}")

    def headers(self):
        return sorted(p for p in self.include.rglob("*") if p.suffix in (".hpp", ".cuh"))

    def exported(self, path):
        """Names that a header defines, and for a page that hands on, those of what it includes."""
        if path not in self.names:
            self.names[path] = set()
            text = (self.include / path).read_text()
            code = code_of(text)
            names = {n for match in DEFINED.findall(code) for n in match if n} - KEYWORDS
            if not FORWARDING.search(code):
                for _, inner, _ in INCLUDE.findall(text):
                    if (self.include / inner).is_file():
                        names |= self.exported(inner)
            self.names[path] = names
        return self.names[path]

    def check_columns(self, file):
        for number, line in enumerate(file.read_text().split("\n"), 1):
            starts = ("//", "*", "/*") if file.suffix in SOURCES else ("#",)
            if len(line) > 120 and line.lstrip().startswith(starts):
                self.fault(file, f"line {number}: a comment of {len(line)} columns, at most 120")

    def check(self, file):
        text = file.read_text()
        code = code_of(text)
        body = INCLUDE.sub("", code)
        inside = file.is_relative_to(self.include)
        own = folder_of(file.relative_to(self.include)) if inside else None
        forwards = inside and not FORWARDING.search(code)
        self.check_columns(file)
        if inside and own != "cuda" and own != "cuda/device" and INTRINSIC.search(code) and not (
                own == "simd" and file.stem.startswith(tuple(self.isas))):
            self.fault(file, f"{INTRINSIC.search(code)[0]} belongs into the file of an instruction set")
        for kind, name, rest in INCLUDE.findall(text):
            if kind == '"' and folder_of(name) == "simd" and own not in ("simd", PAGE) and name.endswith(".hpp") \
                    and name not in (PRIMITIVES, RECIPE_DATA):
                self.fault(file, f'"{name}" is plain C++ or one instruction set: include "{PRIMITIVES}"')
            if kind == "<":
                if not forwards and name in NAMES and not re.search(NAMES[name], body):
                    self.fault(file, f"<{name}> is included and none of its names is used")
                continue
            if not name.startswith("mxfp4/"):
                if inside:
                    self.fault(file, f'"{name}" is not installed')
                continue
            if not (self.include / name).is_file():
                if not inside and (self.root / "src" / name).is_file():
                    continue
                self.fault(file, f'"{name}" is not there')
                continue
            if inside and own != PAGE:
                theirs = folder_of(name)
                if own not in BELOW:
                    self.fault(file, f"folder {own} is not in ORDER or BELOW")
                elif theirs == PAGE:
                    self.fault(file, f'"{name}" is the public page: include what it hands on')
                elif theirs != own and theirs not in BELOW[own]:
                    self.fault(file, f'"{name}" stands above {own}')
            if not forwards and "keep" not in rest:
                if not any(re.search(rf"\b{re.escape(n)}\b", body) for n in self.exported(name)):
                    self.fault(file, f'"{name}" is included and none of its names is used')

    def run(self):
        sources = [p for folder in ("src", "tools") if (self.root / folder).is_dir()
                   for p in (self.root / folder).rglob("*") if p.suffix in (".hpp", ".cpp")]
        for file in self.headers() + sorted(sources):
            self.check(file)
        for file in sorted(p for folder in ("tests", "bench", "examples", "tools", "src", "cmake")
                           for p in (self.root / folder).rglob("*")
                           if p.suffix in (*SCRIPTS, *SOURCES) and p not in sources or p.name == "CMakeLists.txt"):
            self.check_columns(file)
        if (self.root / "CMakeLists.txt").is_file():
            self.check_columns(self.root / "CMakeLists.txt")
        return self.faults


def compile_alone(root, compiler):
    """Every CUDA header but those with the PTX itself, as the first thing of a file."""
    def compiled(header):
        name = header.relative_to(pathlib.Path(root, "include")).as_posix()
        done = subprocess.run([*compiler, "-std=c++20", "-fsyntax-only", "-I", f"{root}/include", "-x", "c++", "-"],
                              input=f'#include "{name}"\n' * 2, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return []
        first = next((line for line in done.stderr.split("\n") if "error" in line), done.stderr[:200])
        return [f"include/{name}: does not compile alone: {first}"]

    headers = [p for p in tree(root).headers() if p.suffix == ".cuh" and not p.name.startswith("ptx")]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        return sum(pool.map(compiled, headers), [] if headers else ["no CUDA header was found"])


def proof():
    """A tree with one of each fault: exactly these must be noticed."""
    with tempfile.TemporaryDirectory() as root:
        inc = pathlib.Path(root, "include/mxfp4")
        for folder in ("core", "format", "simd", "kernel", "cuda"):
            (inc / folder).mkdir(parents=True)
        (inc / "core/low.hpp").write_text('#include "mxfp4/format/high.hpp"\nstruct low { high h; };\n')
        (inc / "core/unused.hpp").write_text("#include <vector>\nstruct unused {};\n// std::vector\n")
        (inc / "format/high.hpp").write_text('#include "mxfp4/core/unused.hpp"\nstruct high {};\n' + "// " + "x" * 120 + "\n")
        (inc / "format/page.hpp").write_text('#include "mxfp4/page.hpp"\nstruct q { high h; };\n')
        (inc / "page.hpp").write_text('#include "mxfp4/format/high.hpp"\n')
        (inc / "simd/isas.def").write_text('MXFP4_ISA(avx2, nothing, "", "__AVX2__", true)\n')
        (inc / "simd/simd.hpp").write_text('#include "mxfp4/simd/avx2.hpp"\n')
        (inc / "simd/avx2.hpp").write_text("struct fast { __m256i lanes; };\n")
        (inc / "simd/dot.hpp").write_text("struct dot { __m256i lanes; };\n")
        (inc / "kernel/use.hpp").write_text('#include "mxfp4/simd/avx2.hpp"\nstruct use { fast f; };\n')
        pathlib.Path(root, "tests").mkdir()
        pathlib.Path(root, "tests/long.cpp").write_text("// " + "x" * 118 + "\n#" + "x" * 120 + "\n")
        pathlib.Path(root, "tests/CMakeLists.txt").write_text("# " + "x" * 119 + "\n//" + "x" * 119 + "\n")
        (inc / "cuda/launch.cuh").write_text('#include "cuda/emulator.hpp"\n#include "mxfp4/core/gone.hpp"\n')
        found = sorted(tree(root).run())
    expected = sorted([
        'include/mxfp4/core/low.hpp: "mxfp4/format/high.hpp" stands above core',
        "include/mxfp4/core/unused.hpp: <vector> is included and none of its names is used",
        "include/mxfp4/format/high.hpp: line 3: a comment of 123 columns, at most 120",
        'include/mxfp4/format/high.hpp: "mxfp4/core/unused.hpp" is included and none of its names is used',
        'include/mxfp4/format/page.hpp: "mxfp4/page.hpp" is the public page: include what it hands on',
        'include/mxfp4/cuda/launch.cuh: "cuda/emulator.hpp" is not installed',
        'include/mxfp4/cuda/launch.cuh: "mxfp4/core/gone.hpp" is not there',
        "tests/long.cpp: line 1: a comment of 121 columns, at most 120",
        "tests/CMakeLists.txt: line 1: a comment of 121 columns, at most 120",
        "include/mxfp4/simd/dot.hpp: __m256i belongs into the file of an instruction set",
        'include/mxfp4/kernel/use.hpp: "mxfp4/simd/avx2.hpp" is plain C++ or one instruction set: '
        'include "mxfp4/simd/simd.hpp"',
    ])
    return [] if found == expected else ["the check itself: expected", *expected, "found", *found]


def main():
    root, compiler = sys.argv[1], sys.argv[2:]
    faults = compile_alone(root, compiler) if compiler else proof() + tree(root).run()
    print("\n".join(faults) if faults else "every CUDA header compiles alone" if compiler else
          "no include goes up, none is unused")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
