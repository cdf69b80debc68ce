#!/usr/bin/env python3
# docs/site/build.py -- the manual: reference, pages and search index, and whether they are right.
# SPDX-License-Identifier: Apache-2.0
"""build.py OUT [--source DIR]: the manual in OUT/site. Exit code 0: nothing is wrong; 77: a tool is missing.

    include/ --- headers.py, Doxygen ---> OUT/pages/reference     every public name has a docstring, no warning
    *.md     --- links followed --------> OUT/pages               each page that a page links to, and the files it shows
    OUT/pages --- mkdocs --strict ------> OUT/site                no warning
    OUT/site --- links.py, questions.py                           no dead link or anchor; each question finds its answer

A link of a page to a header goes to the header's page in the reference; one to another file of the repository shows
that file; one to a folder goes to its README.md, or is plain text where it has none.
"""
import argparse
import importlib.util
import pathlib
import posixpath
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import headers  # noqa: E402
import links  # noqa: E402
import questions  # noqa: E402

SKIPPED = 77
LEAST = {"doxygen": (1, 9, 4), "mkdocs": (1, 4)}   # older ones warn of other things
LINK = re.compile(r"(!?\[(?:[^][]|\[[^][]*\])*\])\(([^()\s]+)\)")
CODE = re.compile(r"`[^`]*`")
FENCE = re.compile(r"^(```|~~~)")


class wrong(Exception):
    """What is wrong, in a sentence or a list of lines."""


def version_found(tool):
    """(1, 9, 4), or () where there is none."""
    if not shutil.which(tool):
        return ()
    said = subprocess.run([tool, "--version"], capture_output=True, text=True, check=False).stdout
    number = re.search(r"\d+(\.\d+)+", said)
    return tuple(map(int, number[0].split("."))) if number else ()


def missing_tools():
    found = [f"{tool} {'.'.join(map(str, least))}" for tool, least in LEAST.items() if version_found(tool) < least]
    return found + [name for name in ("yaml", "lunr") if importlib.util.find_spec(name) is None]


def version_of(source):
    text = (source / "include/mxfp4/core/version.hpp").read_text()
    return ".".join(re.search(rf"MXFP4_VERSION_{part} (\d+)", text)[1] for part in ("MAJOR", "MINOR", "PATCH"))


def build_reference(source, out):
    """Doxygen's pages in out/pages/reference. @return header -> its page."""
    copy, tags, warnings = out / "headers", out / "tags.xml", out / "warnings.txt"
    headers.write(source / "include", copy)
    text = (HERE / "Doxyfile.in").read_text()
    values = {"VERSION": version_of(source), "HEADERS": copy, "OUT": out / "pages", "TAGS": tags, "WARNINGS": warnings}
    for name, value in values.items():
        text = text.replace(f"@{name}@", str(value))
    (out / "Doxyfile").write_text(text)
    (out / "pages").mkdir()
    done = subprocess.run(["doxygen", str(out / "Doxyfile")], capture_output=True, text=True, check=False)
    said = warnings.read_text().replace(f"{copy}/", "include/").strip() if warnings.exists() else ""
    if said or done.returncode != 0:
        raise wrong(f"doxygen (lines are those of {copy}):\n{said or done.stderr}")
    pages, members = {}, {}
    for compound in xml.etree.ElementTree.parse(tags).getroot().iter("compound"):
        if compound.get("kind") == "namespace":
            members[compound.findtext("name")] = len(compound.findall("member")) + len(compound.findall("class"))
    if empty := [name for name in headers.NAMESPACES if not members.get(name)]:
        raise wrong(f"the reference shows nothing of {', '.join(empty)}")
    for file in xml.etree.ElementTree.parse(tags).getroot().iter("compound"):
        if file.get("kind") == "file":
            name = file.findtext("filename")
            name = name if name.endswith(".html") else f"{name}.html"
            pages[f"include/{(file.findtext('path') or '')}{file.findtext('name')}"] = f"reference/{name}"
    return pages


class staged:
    """The pages and the files that they link to, in a folder that mkdocs reads."""

    def __init__(self, source, into, reference):
        self.source, self.into, self.reference = source, into, reference
        self.seen = set()

    def target_of(self, page, link):
        """Where a link goes in the staged tree, or None: to plain text."""
        if re.match(r"[a-z]+:|#", link):
            return link
        path, _, anchor = link.partition("#")
        path = posixpath.normpath(posixpath.join(posixpath.dirname(page), path))
        file = self.source / path
        if path.startswith("..") or not file.exists():
            raise wrong(f"{page}: the link ({link}) leads nowhere")
        if path in self.reference:
            path = self.reference[path]
        elif file.is_dir():
            if not (file / "README.md").is_file():
                return None
            path += "/README.md"
            self.add(path)
        elif file.suffix == ".md":
            self.add(path)
        else:
            self.copy(path)
        relative = posixpath.relpath(path, posixpath.dirname(page) or ".")
        return f"{relative}#{anchor}" if anchor else relative

    def copy(self, path):
        target = self.into / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.source / path, target)

    def add(self, page):
        if page in self.seen:
            return
        self.seen.add(page)
        out, fenced = [], False
        for line in (self.source / page).read_text().split("\n"):
            fenced ^= bool(FENCE.match(line))

            def moved(match):
                target = self.target_of(page, match[2])
                return match[1][1:-1] if target is None else f"{match[1]}({target})"

            if not fenced:
                line = LINK.sub(moved, line)
                if line.startswith("|"):   # forges want a bar in code escaped, Python-Markdown does not
                    line = CODE.sub(lambda code: code[0].replace("\\|", "|"), line)
            out.append(line)
        (self.into / page).parent.mkdir(parents=True, exist_ok=True)
        (self.into / page).write_text("\n".join(out))


def pages_of(nav):
    for entry in nav:
        for value in entry.values():
            yield from [value] if isinstance(value, str) else pages_of(value)


def existing(nav, is_there):
    """The entries of a navigation whose page is there, and the groups that have any."""
    out = []
    for entry in nav:
        for title, value in entry.items():
            kept = value if isinstance(value, str) and is_there(value) else None
            kept = kept or (existing(value, is_there) if isinstance(value, list) else None)
            if kept:
                out.append({title: kept})
    return out


def mend_theme(theme, pages):
    """Debian's package of mkdocs 1.4 lacks two scripts that its theme loads: without jQuery there is no search."""
    import mkdocs
    scripts = pathlib.Path(mkdocs.__file__).parent / "themes" / theme / "js"
    mended = {"jquery-3.6.0.min.js": pathlib.Path("/usr/share/javascript/jquery/jquery.min.js"), "theme_extra.js": None}
    for name, instead in mended.items():
        if not (scripts / name).exists():
            (pages / "js").mkdir(exist_ok=True)
            (pages / "js" / name).write_bytes(instead.read_bytes() if instead else b"")


def build_pages(source, out, reference):
    import yaml
    pages = out / "pages"
    config = yaml.safe_load((HERE / "mkdocs.yml").read_text())
    listed = set(pages_of(config["nav"]))
    unlisted = {f"docs/{p.name}" for p in (source / "docs").glob("*.md")} - listed
    if unlisted:
        raise wrong(f"docs/site/mkdocs.yml has no entry for {', '.join(sorted(unlisted))}")
    stage = staged(source, pages, reference)
    config["nav"] = existing(config["nav"], lambda page: (source / page).exists() or page.startswith("reference/"))
    for page in pages_of(config["nav"]):
        if page.endswith(".md"):
            stage.add(page)
    mend_theme(config["theme"]["name"], pages)
    config.update(docs_dir=str(pages), site_dir=str(out / "site"))
    (out / "mkdocs.yml").write_text(yaml.safe_dump(config, sort_keys=False))
    done = subprocess.run(["mkdocs", "build", "--strict", "--quiet", "--config-file", str(out / "mkdocs.yml")],
                          capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise wrong(f"mkdocs:\n{done.stdout}{done.stderr}")


OURS = {"Doxyfile", "headers", "mkdocs.yml", "pages", "site", "tags.xml", "warnings.txt"}


def build(source, out):
    others = sorted({path.name for path in out.iterdir()} - OURS) if out.exists() else []
    if others:
        raise wrong(f"{out} holds {others[0]}, expected a new folder or one that was made here")
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    build_pages(source, out, build_reference(source, out))
    dead = links.dead(out / "site")
    if dead:
        raise wrong("\n".join(dead))
    lost = questions.unanswered(out / "site")
    if lost:
        raise wrong("\n".join(lost))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--source", type=pathlib.Path, default=HERE.parents[1])
    arguments = parser.parse_args()
    if missing := missing_tools():
        print(f"build.py: {', '.join(missing)} is missing: cmake/setup.sh installs it", file=sys.stderr)
        return SKIPPED
    out = arguments.out.resolve()
    try:
        build(arguments.source.resolve(), out)
    except (wrong, ValueError) as why:
        print(why, file=sys.stderr)
        return 1
    print(f"{out}/site/index.html")
    return 0


if __name__ == "__main__":
    sys.exit(main())
