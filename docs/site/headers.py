# docs/site/headers.py -- the public headers, as Doxygen reads them: banners become the page of their file.
# SPDX-License-Identifier: Apache-2.0
"""The headers keep one form of comment for people who read them in an editor; what Doxygen wants beyond it is added
here, in a copy:

  - a banner (`// path -- what`, then paragraphs and pictures) becomes the description of the file;
  - a declaration directly below another one of the same name has its docstring too, as it has for a reader, and so
    has each of several members that one line declares;
  - what a concept asks of a policy (a name, the offsets of a layout) is described at the concept and points there;
  - the parts of kernels are left out, and copies, moves, destructors and comparisons that do what they always do;
  - the inline namespaces of the version and the instruction set, and the macros that only compilers read, are left out;
  - in prose, `<`, `#` and the like mean themselves.
"""
import pathlib
import re

# Folders with nothing for a caller: kernels' parts, and the primitives of the instruction sets.
INTERNAL = ("simd", "cuda/device")
# Headers of kernel/ that the public page hands on.
PUBLISHED_KERNELS = ("activation", "dequantize", "measure_error", "mxfp8", "pack", "quantize", "quantize_fp8",
                     "quantize_measured")

# Doxygen shows the functions of a namespace that has a description, and of no other.
NAMESPACES = {
    "mxfp4": "All of the library, in an inline namespace of the release, which names need not mention.",
    "mxfp4::reference": "The plain loops: the definition of every whole-matrix function.",
    "mxfp4::kernel": "The fast forms, which quantize.hpp hands on under their plain names.",
    "mxfp4::dispatch": "The same functions, for the instruction set that the CPU has when the program runs.",
    "mxfp4::recipe": "Recipes as types: whose bytes quantize gives.",
    "mxfp4::dialect": "Dialects as types: what a reader takes scale bytes 255 and 0 and code 8 for.",
    "mxfp4::layout": "Layouts as types: where the codes and the scale of a block lie.",
    "mxfp4::peer_cast": "Single casts of other programs, from a float to a code or a scale byte.",
    "mxfp4::peer_cast::casts": "What these casts are made of.",
    "mxfp4::io": "Files: safetensors, GGUF, output that appears whole or not at all.",
    "mxfp4::checkpoint": "Whole checkpoints: read, plan, quantise, convert, dequantise, verify.",
    "mxfp4::cuda": "Calls that launch kernels on a GPU.",
    "mxfp4::cuda::mma16": "The order of weights that pack_mma16 makes.",
}

# Members that a concept asks for, by folder: described there, once.
ASKED_FOR = {
    "format/dialect.hpp": {"name": "decode_dialect", "weight": "decode_dialect"},
    "format/nibble.hpp": {"name": "nibble_order", "byte_of": "nibble_order", "is_high": "nibble_order"},
    "format/recipe.hpp": dict.fromkeys("name encode for_input in".split(), "block_recipe"),
    "format/rounding.hpp": {"name": "rounding_rule", "base": "rounding_rule", "ulps": "rounding_rule",
                            "reachable": "rounding_rule", "stray": "rounding_rule",
                            "zero_is_negative": "zero_rule", "sign_boundary": "zero_rule"},
    "format/scale_rule.hpp": {"name": "scale_rule", "step": "scale_rule"},
    "tensor/layout.hpp": dict.fromkeys(
        "name order rows_per_band interleaved code_offset scale_offset code_row_bytes scale_band_bytes".split(),
        "block_layout"),
}

MACROS = re.compile(r"\bMXFP4_(INLINE|HD|MAY_ALIAS|NOINLINE|UNROLL)\b ?|\[\[(gnu::\w+|nodiscard|noreturn)\]\] ?|"
                    r"__extension__ ")
OPERATORS = re.compile(r"\boperator\s*(\(\)|\[\]|[^\s\w(]+|\w+)\s*\(|\b([A-Za-z_]\w*)\s*\(")
NOT_A_NAME = frozenset("requires alignas decltype noexcept explicit sizeof __attribute__ static_assert".split())


def is_public(path):
    """Of a path below include/mxfp4: does a caller read it?"""
    folder = path.parent.as_posix()
    if folder in INTERNAL or path.suffix == ".def":
        return False
    return folder != "kernel" or path.stem in PUBLISHED_KERNELS


def escaped(prose):
    """Text whose `<`, `>`, `#`, `&` and `%` are no commands; what stands in backquotes is left alone."""
    parts = re.split(r"(`[^`]*`)", prose)
    return "".join(part if part.startswith("`") else re.sub(r"([\\<>#&%$])", r"\\\1", part) for part in parts)


def picture(line):
    return line.startswith("  ")


def banner(lines):
    """The first comment of a file as a docstring, with pictures and code kept as they are."""
    path, what = re.fullmatch(r"// (\S+) -- (.*)", lines[0]).groups()
    text = [line[2:].removeprefix(" ") for line in lines[2:]]
    out = [f"/// @file {path}", f"/// @brief {escaped(what)}", "///"]
    inside = False
    for i, line in enumerate(text):
        shown = picture(line) or (inside and not line and any(picture(rest) for rest in text[i + 1:i + 2]))
        if shown != inside:
            example = "Example:" in text[max(0, i - 2):i]
            out.append(("/// ~~~{.cpp}" if example else "/// ~~~{.unparsed}") if shown else "/// ~~~")
            inside = shown
        out.append(f"/// {line if inside else escaped(line)}".rstrip())
    if inside:
        out.append("/// ~~~")
    return out


def declared_name(lines, at):
    """The function that the declaration at this line is of, and the line behind its end; '' for anything else."""
    text, depth, end = "", 0, at
    while end < len(lines):
        line = re.sub(r"//.*|\"(\\.|[^\"])*\"|'(\\.|[^'])'", "", lines[end])
        text += line + "\n"
        depth += line.count("{") - line.count("}")
        end += 1
        if depth == 0 and re.search(r"[;}]\s*$", line):
            break
    head = text
    while head.lstrip().startswith("template"):   # without its parameters
        head = head.lstrip()[len("template"):].lstrip()
        depth = 0
        for i, c in enumerate(head):
            depth += (c == "<") - (c == ">" and head[i - 1] != "-")
            if depth == 0:
                head = head[i + 1:]
                break
    head = re.sub(r"^\s*requires\b.*\n", "", head)
    for match in OPERATORS.finditer(MACROS.sub("", head.split("{")[0])):
        name = match[1] and f"operator{match[1]}" or match[2]
        if name not in NOT_A_NAME:
            return name, end
    return "", end


def with_shared_docstrings(lines):
    """Repeats a docstring for each declaration of the same function that follows without a gap."""
    out, doc, last = [], [], ""
    at = 0
    while at < len(lines):
        line = lines[at]
        bare = line.strip()
        if bare.startswith("///") and not bare.startswith("///<"):
            if not out or not out[-1].strip().startswith("///"):
                doc = []
            doc.append(line)
            out.append(line)
            at += 1
            last = None   # the next declaration has it by itself
            continue
        if not bare or bare.startswith(("//", "#", "}", "public", "private", "namespace", "inline namespace")):
            out.append(line)
            at += 1
            last, doc = "", []
            continue
        name, end = declared_name(lines, at)
        if name and (last is None or name == last) and doc:
            if name == last:
                out += doc
            out += lines[at:end]
            at, last = end, name
            continue
        last, doc = "", []
        out.append(line)
        at += 1
    return out


SPECIAL = re.compile(r"^\s*(explicit |constexpr |virtual )*(~\w+\(\)|(\w+)\((const )?\3&&?( \w+)?\)|"
                     r"(\w+)& operator=\((const )?\6&&?( \w+)?\)|friend .*operator==\(.*\) *)"
                     r"( noexcept)?( = (default|delete))?( override)?;")
SEVERAL = re.compile(r"^(\s*(?:const |inline constexpr )*(?:[\w:]+(?:<[^;=]*>)?[*&]? ))"
                     r"(\w+(?: = [^,;]+|\{[^}]*\})?(?:, \w+(?: = [^,;]+|\{[^}]*\})?)+);(.*)$")


def without_parts(lines, names):
    """Without what namespace kernel declares, but for these names; comments in front go with it."""
    out, at, inside = [], 0, ""
    while at < len(lines):
        line = lines[at]
        opened = re.fullmatch(r"namespace (mxfp4::(cuda::)?)?kernel {", line)
        if opened:
            inside = re.compile(r"}  // namespace (mxfp4::)?(cuda::)?kernel")
        if not inside or opened or inside.fullmatch(line) or not line or line.startswith(("//", "#", "namespace", "}")):
            if inside and not opened and inside.fullmatch(line):
                inside = ""
            out.append(line)
            at += 1
            continue
        name, end = declared_name(lines, at)
        if name in names and not line.startswith(("struct", "class")):
            out += lines[at:end]
        else:
            while out and out[-1].startswith("///"):
                out.pop()
        at = end
    return out


def with_policies(lines, asked_for):
    """A member that a concept asks for and that has no docstring gets one that names the concept."""
    out = []
    for i, line in enumerate(lines):
        here = re.match(r"^  (?:template .*|static constexpr .*|using .*|constexpr .*)$", line)
        before = out[-1].strip() if out else ""
        if here and "///" not in line and not before.startswith(("///", "template", "requires")):
            name, _ = declared_name(lines, i)
            if not name or name not in asked_for:
                found = re.match(r"^  (?:static constexpr [\w:* ]*?|using )(\w+) =", line)
                if line.startswith("  template") and i + 1 < len(lines):
                    found = re.match(r"^  using (\w+) =", lines[i + 1])
                name = found[1] if found else ""
            if name in asked_for:
                out.append(f"  /// Asked for by the concept {asked_for[name]}.")
        out.append(line)
    return out


def for_doxygen(text, path, published):
    """The text of a header; of namespace kernel only the functions with these names."""
    lines = text.split("\n")
    head = 0
    while lines[head].startswith("//"):
        head += 1
    out = banner(lines[:head])
    for line in lines[head:]:
        if re.fullmatch(r"(inline namespace|}  // namespace) MXFP4_ISA_NS ?{?", line):
            continue
        line = line.replace("mxfp4::inline MXFP4_VERSION_NS", "mxfp4")
        code, mark, comment = line.partition("///")
        if not mark and line.lstrip().startswith(("//", "#")):
            out.append(line)
            continue
        code = MACROS.sub("", code)
        if mark:
            words = comment[1:] if comment.startswith("<") else comment
            comment = ("<" if comment.startswith("<") else "") + escaped(words)
        several = SEVERAL.match(code.rstrip())
        if SPECIAL.match(code.rstrip()):
            continue
        if several:   # one member a line, each with the comment
            names = re.split(r", (?=\w+(?: =|\{|,|$))", several[2])
            out += [f"{several[1]}{name};  {mark}{comment}" for name in names]
            continue
        out.append(code + mark + comment)
    out = without_parts(out, published)
    return "\n".join(with_policies(with_shared_docstrings(out), ASKED_FOR.get(path, {})))


def bare_concepts(text):
    """The concepts without a docstring, of which Doxygen 1.9.4 says nothing."""
    lines, hidden, found = text.split("\n"), False, []
    for i, line in enumerate(lines):
        if re.fullmatch(r"namespace detail {|}  // namespace detail", line):
            hidden = line.startswith("namespace")
        if line.startswith("concept ") and not hidden:
            above = next(part for part in reversed(lines[:i]) if not part.startswith(("template", "requires")))
            if not above.startswith("///"):
                found.append(line.split()[1])
    return found


def main_page(include):
    """The reference's first page: the headers that a caller includes, with the first line of each."""
    lines = ["# The public page {#mainpage}", "", "What to call for what: [the manual](../docs/how-to.html).", ""]
    found = [*sorted(include.glob("mxfp4/*.hpp")), *(p for folder in ("executor", "io", "checkpoint", "cuda")
                                                      for p in sorted(include.glob(f"mxfp4/{folder}/*.*h*")))]
    for file in found:
        path = file.relative_to(include).as_posix()
        lines.append(f"- @ref {path} \"{path}\": {escaped(file.read_text().splitlines()[0].partition(' -- ')[2])}")
    return "\n".join(lines) + "\n"


def write(include, into):
    """Copies the public headers of include/ into a folder, ready for Doxygen, and writes its first page."""
    pathlib.Path(into, "mxfp4").mkdir(parents=True)
    pathlib.Path(into, "mxfp4/main.md").write_text(main_page(include))
    described = (f"/** @namespace {name}\n * {what} */\n" for name, what in NAMESPACES.items())
    pathlib.Path(into, "mxfp4/namespaces.hpp").write_text("".join(described))
    published = frozenset(re.findall(r"\bkernel::(\w+)", (include / "mxfp4/quantize.hpp").read_text()))
    opened = set()
    for file in sorted(include.rglob("*")):
        path = file.relative_to(include)
        if file.is_file() and is_public(path.relative_to("mxfp4")):
            target = pathlib.Path(into, path)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(for_doxygen(file.read_text(), path.relative_to("mxfp4").as_posix(), published))
            if bare := bare_concepts(target.read_text()):
                raise ValueError(f"include/{path}: concept {', '.join(bare)} is not documented")
            opened |= {name.rpartition("::")[2] for name in re.findall(r"^namespace (\S+) {", target.read_text(), re.M)}
    known = {name.rpartition("::")[2] for name in NAMESPACES} | {"detail", "device"}
    if opened - known:
        raise ValueError(f"docs/site/headers.py, NAMESPACES: says nothing of {', '.join(sorted(opened - known))}")
