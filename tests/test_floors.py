"""Imports go down: from each floor only to floors below it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import topaz_async

ROOT = Path(topaz_async.__file__).parent

#: Every module of the package, lowest floor first.  A module imports from lower rows only.
FLOORS: list[set[str]] = [
    {"texts", "heard", "loops", "locks", "addresses", "names", "aside", "direct"},
    {"errors", "telling"},
    {
        "urls",
        "calls",
        "transfers",
        "durations",
        "owners",
        "rings",
        "signature",
        "doorbell",
        "signed_urls",
    },
    {"models", "settings", "ports", "media", "envelope", "access", "ring_watch", "hosts", "marks"},
    {"advice", "report", "survival", "notices", "callbacks_asgi", "callbacks_events", "guard"},
    {"schedule", "callbacks_aiohttp"},
    {"experience"},
    {"watching", "results", "retries", "sessions", "targets", "uploads", "orders", "purse"},
    {"parts", "ranges", "contents"},
    {"journal_uploads", "shelf", "writing", "framing"},
    {"conversion", "journal_rows", "journal_file", "callbacks"},
    {"wire", "journal_writer", "journal_changes"},
    {"transport", "polling", "downloads", "limiter", "debts", "journal", "rescue"},
    {"job", "memory", "uploader", "submission"},
    {"engine"},
    {"buying", "files", "recovery"},
    {"chapters"},
    {"batch"},
    {"client"},
    {"sandbox"},
    {"__init__"},
    {"cli"},
    {"__main__"},
]


def modules() -> list[Path]:
    return sorted(p for p in ROOT.rglob("*.py"))


def top_of(path: Path) -> str:
    """Return the module or subpackage directly below the package's root."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports_of(path: Path) -> set[str]:
    """Return the first names below the root that a file imports, wherever in the file."""
    package = ["topaz_async", *path.relative_to(ROOT).parts[:-1]]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            names = (
                [module]
                if module != "topaz_async"
                else [f"topaz_async.{alias.name}" for alias in node.names]
            )
        for name in names:
            if name.split(".")[0] == "topaz_async":
                found.add(name.split(".")[1] if "." in name else "__init__")
    return found


def floor_of(name: str) -> int:
    return next(number for number, floor in enumerate(FLOORS) if name in floor)


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_down(path: Path) -> None:
    """No module imports from its own floor, a higher one or the package's root."""
    own = top_of(path)
    others = imports_of(path) - ({own} if (ROOT / own).is_dir() else set())
    if own == "__init__":
        return  # the door names everything, and loads nothing
    assert sorted(name for name in others if floor_of(name) >= floor_of(own)) == []


def test_the_sandbox_imports_nothing_of_ours() -> None:
    """A second reading of the protocol cannot agree with a misreading of the first."""
    found = {name for path in (ROOT / "sandbox").rglob("*.py") for name in imports_of(path)}
    assert {"sandbox"} >= found


def test_every_module_has_a_floor_and_a_sentence() -> None:
    """The plan of the house names each module, and each module says what it is."""
    for path in modules():
        floor_of(top_of(path))
        assert ast.get_docstring(ast.parse(path.read_text())), path
