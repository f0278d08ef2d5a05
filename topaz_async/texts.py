"""Texts that nobody vouches for, made fit to be kept and printed."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final
from urllib.parse import unquote

__all__ = ["MAX_WORDS", "Redact", "clean", "quoted", "sentence", "thorough", "usable_id"]

#: The longest text of the service that an error or a record repeats, in characters.
MAX_WORDS: Final = 500

#: Takes a text of the service and returns it without our secrets.
Redact = Callable[[str], str]


def clean(text: object, limit: int = MAX_WORDS) -> str:
    """Return text that is safe to print, of at most `limit` characters.

    Controls, lone surrogates, marks that turn text around and letters without a shape become
    spaces.
    """
    whole = str(text).strip()
    words = whole[: 8 * limit]
    if not words.isprintable():
        words = " ".join("".join(ch if ch.isprintable() else " " for ch in words).split())
    if len(words) <= limit and len(whole) <= 8 * limit:
        return words
    return words[: limit - 1].rstrip() + "…"


def sentence(text: object, limit: int = MAX_WORDS) -> str:
    """Return a clean text that ends like a sentence, once; an empty one stays empty."""
    words = clean(text, limit).rstrip(" .")
    return words if not words or words[-1] in "!?…。！？" else f"{words}."


def quoted(value: object, limit: int = 40) -> str:
    """Return any value as an error may quote it: its repr, clean and short."""
    try:
        return clean(repr(value), limit)
    except Exception:  # a whole number of more than 4300 digits, a __repr__ that fails
        return f"a {type(value).__name__} that cannot be shown"


_NO_IDS = {"null", "none", "undefined"}


def usable_id(value: object) -> str | None:
    """Return a text that can be a task's id, or None: 1 to 256 visible characters, no blank."""
    is_usable = (
        isinstance(value, str)
        and 0 < len(value) <= 256
        and value.isprintable()
        and " " not in value
        and "\ufffd" not in value
        and value.lower() not in _NO_IDS
    )
    return value if isinstance(value, str) and is_usable else None


_JSON_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|(.))", re.DOTALL)
_ENTITY = re.compile(r"&#(?:x([0-9a-fA-F]{1,6})|([0-9]{1,7}));?")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]+")


def _unescaped(text: str) -> str:
    def letter(match: re.Match[str]) -> str:
        digits = match[1] or match[2]
        if digits:
            return chr(int(digits, 16))
        return "" if match[3] in "bfnrt" else match[3]

    return _JSON_ESCAPE.sub(letter, text) if "\\" in text else text


def _without_entities(text: str) -> str:
    def letter(match: re.Match[str]) -> str:
        number = int(match[1], 16) if match[1] else int(match[2])
        return chr(number) if number < 0x110000 else ""

    return _ENTITY.sub(letter, text) if "&#" in text else text


def _visible(text: str) -> str:
    if text.isascii() and text.isprintable():
        return text
    return _CONTROLS.sub("", text.encode("ascii", "ignore").decode())


#: How a text may be read, besides as it stands.  A key is made of visible ASCII.
_READINGS = (_unescaped, unquote, _without_entities, _visible)

#: Without one of these, and with nothing invisible, a text can be read in one way only.
_HIDING = frozenset("\\%&")

#: JSON in JSON in JSON, and one to spare.
_LAYERS = 4


def thorough(redact: Redact) -> Redact:
    """Return a `redact` that also finds a secret that is escaped or split by controls.

    A text that hides one comes back unescaped, every other text as it was.
    """

    def search(text: str) -> str:
        if text.isascii() and text.isprintable() and _HIDING.isdisjoint(text):
            return redact(text)  # there is but one way to read it
        text = reading = redact(text)
        for _ in range(_LAYERS):
            before = reading
            for read in _READINGS:
                plain = read(reading)
                if plain == reading:
                    continue
                reading = redact(plain)
                if reading != plain:
                    text = reading
            if reading == before:
                break
        return text

    return search
