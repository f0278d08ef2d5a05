"""How Sphinx builds these pages: `nox -s docs`."""

from __future__ import annotations

import re
from importlib.metadata import version as version_of
from typing import Any

project = "topaz_async"
author = "the topaz_async authors"
copyright = f"2026, {author}"  # noqa: A001  # Sphinx's word
version = release = version_of("topaz-async")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "examples"]
nitpicky = False

html_theme = "furo"
html_title = f"topaz_async {version}"
html_show_sourcelink = False
html_theme_options = {"top_of_page_buttons": []}

# Headings down to the third level can be linked to: [words](page.md#a-heading).
myst_heading_anchors = 3
myst_enable_extensions = ["deflist"]

# In docstrings, `name` is code.
default_role = "literal"
python_use_unqualified_type_names = True
maximum_signature_line_length = 72
toc_object_entries_show_parents = "hide"

autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "undoc-members": True}
autodoc_typehints_format = "short"
autodoc_class_signature = "mixed"

napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_custom_sections = ["Source"]
napoleon_use_ivar = True

#: What a field's comment says, kept from napoleon, which takes the words before a colon for a type.
_comments: dict[str, list[str]] = {}


def _keep(_: Any, what: str, name: str, __: Any, ___: Any, lines: list[str]) -> None:
    if what == "attribute":
        _comments[name] = list(lines)


def _give_back(_: Any, what: str, name: str, __: Any, ___: Any, lines: list[str]) -> None:
    if what == "attribute":
        lines[:] = _comments.pop(name)


def _tidy(_: Any, __: str, ___: str, ____: Any, _____: Any, lines: list[str]) -> None:
    """Take an indented paragraph for code and `Name`s for a plural, as the docstrings mean it."""
    lines[:] = [re.sub(r"(?<!`)(`\w+`)(?=\w)", r"\1\\ ", line) for line in lines]
    for at in range(len(lines) - 1, 1, -1):
        is_code = lines[at].startswith("    ") and not lines[at - 1] and lines[at - 2].endswith(".")
        if is_code and not lines[at - 2].startswith(" "):
            lines[at:at] = ["::", ""]


def _shorten(_: Any, __: str, ___: str, ____: Any, _____: Any, signature: Any, back: Any) -> Any:
    """Write `...` for defaults that are made afresh each time."""
    short = re.sub(r"NOTHING|<function [^>]*>|mappingproxy\(.*?\)", "...", signature or "")
    return short or signature, back


def setup(app: Any) -> None:
    app.connect("autodoc-process-docstring", _keep, priority=400)
    app.connect("autodoc-process-docstring", _tidy, priority=400)
    app.connect("autodoc-process-docstring", _give_back, priority=600)
    app.connect("autodoc-process-signature", _shorten)
