"""The bodies the service was seen to answer with."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import attrs

#: Content types as captured: the API, its refusal of a bad key, and the upload host differ.
API_JSON: Final = "application/json;charset=UTF-8"
AUTH_JSON: Final = "application/json;charset=utf-8"
UPLOAD_JSON: Final = "application/json"
#: What requests must call their JSON.
JSON: Final = "application/json"
HTML: Final = "text/html"

UNAUTHORIZED: Final = (
    "Unauthorized – Authentication failed. Please check that your Authorization and "
    "Content-Type headers are correctly set."
)
UNKNOWN_MODEL: Final = (
    "The model name you specified is not supported. Please verify your input and use one of "
    "the supported models provided by KIE."
)
NO_INPUT: Final = "The input cannot be null"
FIELD_REQUIRED: Final = "This field is required"
NO_CREDITS: Final = "The current credits are insufficient. Please top up."
SERVER_EXCEPTION: Final = "Server exception, please try again later"
RATE_LIMIT: Final = "Rate limit exceeded"
NO_RECORD: Final = "recordInfo is null"
WRONG_URL: Final = "url is wrong"


@attrs.frozen
class Slice:
    """A piece of a file on disk."""

    path: Path
    start: int
    length: int


@attrs.frozen
class Answer:
    """One answer, before it is put on the wire."""

    status: int = 200
    body: bytes = b""
    content_type: str | None = API_JSON
    headers: Mapping[str, str] = attrs.field(factory=dict)
    #: The API's code inside the body; None where the body has none.
    code: int | None = None
    #: The task the answer is about.
    task_id: str | None = None
    #: Sent instead of ``body``.
    file: Slice | None = None

    @property
    def length(self) -> int:
        """Bytes of the body."""
        return len(self.body) if self.file is None else self.file.length


def dump(value: Any) -> str:
    """Write JSON as the service does: no spaces, characters as they are."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def json_object(body: bytes | str) -> dict[str, Any] | None:
    """Read a JSON object; None for anything else, and for text that no answer could repeat."""
    try:
        value = json.loads(body)
        # JSON can write half a surrogate pair, which UTF-8 cannot.
        dump(value).encode()
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def json_answer(
    value: Mapping[str, Any], *, content_type: str = API_JSON, task_id: str | None = None
) -> Answer:
    """Answer HTTP 200 with a JSON object."""
    code = value.get("code")
    return Answer(body=dump(value).encode(), content_type=content_type, code=code, task_id=task_id)


def success(data: Any, *, task_id: str | None = None) -> Answer:
    """Answer with the envelope of a success."""
    return json_answer({"code": 200, "msg": "success", "data": data}, task_id=task_id)


def failure(code: int, msg: str) -> Answer:
    """Answer with the envelope of an error: HTTP 200, the code inside, ``data`` null."""
    return json_answer({"code": code, "msg": msg, "data": None})


def unauthorized() -> Answer:
    """Refuse a key as the API does: HTTP 200, no ``data``, another spelling of the charset."""
    return json_answer({"code": 401, "msg": UNAUTHORIZED}, content_type=AUTH_JSON)


def rate_limited(retry_after: float | str | None) -> Answer:
    """Refuse one request too many: the HTTP status and body of the documentation."""
    headers = {} if retry_after is None else {"Retry-After": f"{retry_after}"}
    body = dump({"code": 429, "msg": RATE_LIMIT}).encode()
    return Answer(status=429, body=body, headers=headers, code=429)


def upload_failure(code: int, msg: str) -> Answer:
    """Answer with the upload host's error: HTTP 200, ``success`` false, no ``data``."""
    return json_answer({"success": False, "code": code, "msg": msg}, content_type=UPLOAD_JSON)


def not_found(
    path: str, *, status: int = 404, error: str = "Not Found", message: str = "No message available"
) -> Answer:
    """Answer for a route that does not exist; the one JSON body without ``code``."""
    value = {
        "timestamp": int(time.time() * 1000),
        "status": status,
        "error": error,
        "message": message,
        "path": path,
    }
    return Answer(status=status, body=dump(value).encode(), content_type="application/json")


def html_page(status: int, title: str) -> Answer:
    """Answer with a page of the proxy in front of the service."""
    body = (
        f"<html>\r\n<head><title>{status} {title}</title></head>\r\n<body>\r\n"
        f"<center><h1>{status} {title}</h1></center>\r\n<hr><center>cloudflare</center>\r\n"
        "</body>\r\n</html>\r\n"
    )
    return Answer(status=status, body=body.encode(), content_type=HTML)
