"""The outer `{code, msg, data}` of an answer, read from any bytes whatever."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any, Final

import attrs

from .texts import Redact, clean

__all__ = ["Envelope", "Redact", "loads", "open_envelope"]

#: Deeper nesting than any answer needs; below it every value becomes None.
_MAX_DEPTH: Final = 32
#: Longer whole numbers than any answer needs, in digits; they become None.
_MAX_DIGITS: Final = 30
#: A key of digits alone has at least as many.
_KEY_DIGITS: Final = 8
#: How much of a body that is no JSON is looked at, in characters.
_MAX_PAGE: Final = 1 << 16

_MESSAGE_KEYS = ("msg", "message", "error")
#: The names in every record, kept once and not in each of thousands of records.
_NAMES = {
    name: name
    for name in (
        "code", "msg", "data", "taskId", "model", "state", "param", "paramJson", "resultJson",
        "resultUrls", "response", "failCode", "failMsg", "costTime", "completeTime", "createTime",
        "updateTime", "progress", "creditsConsumed", "operationType", "successFlag",
    )
}  # fmt: skip
_TAGS = re.compile(r"(?s)<(script|style)\b.*?</\1>|<[^>]*>")
_SURROGATES = re.compile("[\ud800-\udfff]")
_DIGITS = re.compile(rf"\s*-?[0-9]{{1,{_MAX_DIGITS}}}\s*")


def _fraction(digits: str) -> float | None:
    number = float(digits)
    return number if math.isfinite(number) else None


def _no_number(_: str) -> None:
    return None


def loads(text: str, redact: Redact = str) -> Any:
    """Parse JSON that nobody vouches for.

    Numbers beyond reason, NaN and infinities become None, nesting is cut, the last of
    duplicate keys wins, lone surrogates are replaced, and every text is passed through
    `redact`.

    Raises:
        ValueError: The text is no JSON.
    """

    def integer(digits: str) -> int | None:
        if len(digits) > _MAX_DIGITS or (len(digits) >= _KEY_DIGITS and redact(digits) != digits):
            return None
        return int(digits)

    try:
        value = json.loads(
            text, parse_int=integer, parse_float=_fraction, parse_constant=_no_number
        )
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return _scrub(value, redact, _MAX_DEPTH)


def _scrub(value: Any, redact: Redact, depth: int) -> Any:
    if isinstance(value, str):
        return redact(value if value.isascii() else _SURROGATES.sub("\ufffd", value))
    if isinstance(value, dict):
        if depth == 0:
            return None
        return {
            _NAMES.get(key) or _scrub(key, redact, 0): _scrub(item, redact, depth - 1)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_scrub(item, redact, depth - 1) for item in value] if depth else None
    return value


@attrs.frozen(kw_only=True)
class Envelope:
    """What an answer says before anybody looks into its data."""

    #: The effective code: the body's when it has one, else the HTTP status.  Source: failures
    #: arrive as HTTP 200 with another code in the body (all recorded answers of 2026-04).
    code: int
    #: Whether the code stood in the body.
    in_body: bool
    #: The service's words, or what kind of answer came; safe to print.
    words: str
    #: The body when it is a JSON object, else empty.
    body: Mapping[str, Any] = attrs.field(factory=dict, repr=False)
    #: Whether the body is a JSON object.
    is_object: bool

    @property
    def data(self) -> Any:
        """The payload, of any type; None when there is none."""
        return self.body.get("data")


def _code(value: Any) -> int | None:
    """Return a code of the body: any whole number, whatever its sign; it may stand in text."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        return int(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < 10**_MAX_DIGITS:
        return int(value)
    return value if isinstance(value, int) else None


def open_envelope(status: int, body: bytes, redact: Redact = str) -> Envelope:
    """Read status and body; never fails.

    Args:
        status: The HTTP status.
        body: The body's bytes; a byte order mark is skipped, other encodings than UTF-8 lose
            the letters that cannot be read.
        redact: Takes our secrets out of every text.
    """
    text = body.decode("utf-8-sig", errors="replace")
    try:
        value = loads(text, redact)
    except ValueError:
        words = _describe(redact(text[:_MAX_PAGE]))
        return Envelope(code=status, in_body=False, words=words, is_object=False)
    if not isinstance(value, dict):
        words = f"JSON that is no object ({clean(redact(text[:_MAX_PAGE]), 80)})"
        return Envelope(code=status, in_body=False, words=words, is_object=False)
    code = _code(value.get("code"))
    texts = (clean(value[key]) for key in _MESSAGE_KEYS if isinstance(value.get(key), str))
    return Envelope(
        code=status if code is None else code,
        in_body=code is not None,
        words=next(filter(None, texts), ""),
        body=value,
        is_object=True,
    )


def _describe(text: str) -> str:
    start = text.lstrip()[:4096]
    if not start:
        return "an empty body"
    kind = "text"
    if start.startswith("<"):
        kind, start = "a page", _TAGS.sub(" ", start)
    elif start.startswith(("{", "[")):
        kind = "broken JSON"
    said = clean(" ".join(start.split()), 120)
    kind = kind if kind == "broken JSON" else f"{kind} instead of JSON"
    return f"{kind} ({said})" if said else kind
