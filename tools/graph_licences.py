"""Under which licence each definition stands, as the header of its file says, and which ship no graph."""

from __future__ import annotations

import ast
import importlib.util
import re
from pathlib import Path

#: the licence of each library, which holds for a file unless its header says otherwise
LIBRARIES = {"vertebra": "Apache-2.0", "timm": "Apache-2.0", "torchvision": "BSD-3-Clause"}
OWNERS = {
    "vertebra": "Copyright The vertebra maintainers",
    "timm": "Copyright 2019 Ross Wightman",
    "torchvision": "Copyright (c) Soumith Chintala 2016",
}
#: Networks by the beginning of their names, or files, whose header names another licence than the three.
REFUSED = {
    "timm/models/convit.py": "its definition is under CC BY-NC, which forbids commercial use",
    "timm/models/fastvit.py": "its definition is under Apple's terms",
    "timm/models/mobilevit.py": "its definition is under Apple's terms",
    "timm/models/hiera.py": "its definition's header points to a licence that it doesn't name",
    "timm/models/selecsls.py": "its definition is under CC BY 4.0, which isn't written for software",
    "timm:convnextv2_": "its definition's header names CC BY-NC, which forbids commercial use",
}
#: How headers say that a part is under MIT or BSD, beside the library's own licence.
_PARTS = {
    "MIT": r"licensed (?:under )?(?:the )?MIT|MIT Licen[sc]e|MIT licensed",
    "BSD-3-Clause": r"BSD-3-Clause|BSD-Clause 3|Licensed BSD",
}


def refusal(name: str, file: str) -> str | None:
    """Why the network ships no graph; None where it may."""
    for start, reason in REFUSED.items():
        if file == start or (":" in start and name.startswith(start)):
            return reason
    return None


def of(library: str, file: str) -> tuple[str, str]:
    """The licence (an SPDX expression) and the copyright lines of the definition in `file`."""
    head = header(file) if library == "timm" else ""
    told = "\n".join(line for line in head.splitlines() if "eights are" not in line)
    parts = [name for name, said in _PARTS.items() if re.search(said, told, re.IGNORECASE)]
    lines = [OWNERS[library], *copyrights(head)]
    if "BSD-3-Clause" in parts:
        lines.append(OWNERS["torchvision"])
    licences = dict.fromkeys([LIBRARIES[library], *parts])
    return " AND ".join(licences), "\n".join(dict.fromkeys(lines))


def header(file: str) -> str:
    """The text before a file's first statement: its docstring and comments."""
    library, _, inside = file.partition("/")
    found = importlib.util.find_spec(library)
    assert found is not None
    assert found.submodule_search_locations
    text = (Path(found.submodule_search_locations[0]) / inside).read_text("utf-8")
    body = ast.parse(text).body
    code = [one for one in body if not (isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant))]
    return "\n".join(text.splitlines()[: code[0].lineno - 1])


def copyrights(head: str) -> list[str]:
    """The header's copyright lines, without what is written around them."""
    found = []
    for line in head.splitlines():
        place = re.search(r"copyright\s*(?:\(c\)|©|\d|[A-Z])", line, re.IGNORECASE)
        if place is None or "notice" in line:
            continue
        text = re.split(r", original|\),|\):| MIT license|, Apache|\. All|\. MIT", line[place.start() :])[
            0
        ].strip(" #*,.")
        if not re.search("bell?ow", text):
            found.append("C" + text[1:])
    return found
