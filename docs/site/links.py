# docs/site/links.py -- links of built pages that lead nowhere.
# SPDX-License-Identifier: Apache-2.0
"""Looks at each href and src of each page, Doxygen's too: the file has to be there, and the anchor in it. Links to
other sites are not followed."""
import html.parser
import os
import urllib.parse

# Doxygen 1.9.4 heads a page with links to these sections, and then leaves them out where nothing in them is public.
LEFT_OUT = ("#nested-classes", "#concepts")


class page(html.parser.HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.links, self.anchors = [], set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name in ("href", "src") and value and tag != "base":
                self.links.append(value)
            elif name == "id" or (name == "name" and tag == "a"):
                self.anchors.add(value)


def dead(site):
    """A line for each link below the folder `site` that leads nowhere."""
    pages = {file: page(file.read_text(errors="replace")) for file in sorted(site.rglob("*.html"))}
    found = []
    for file, content in pages.items():
        if file.name == "404.html":   # its links begin at the root of a server
            continue
        for link in content.links:
            parts = urllib.parse.urlsplit(link)
            if parts.scheme or parts.netloc or link == "#" or link in LEFT_OUT:
                continue
            path = urllib.parse.unquote(parts.path)
            target = file if not path else file.parent / path
            target = type(file)(os.path.normpath(target))
            if target.is_dir():
                target = target / "index.html"
            name = file.relative_to(site)
            if not target.is_file():
                found.append(f"{name}: ({link}) leads to no file")
                continue
            anchor = urllib.parse.unquote(parts.fragment)
            if anchor and target in pages and anchor not in pages[target].anchors:
                found.append(f"{name}: ({link}) leads to no anchor")
    return found
