"""Models to the wire's JSON objects and back: the one cattrs converter.

Its hooks are strict about types and never raise: a field that only informs is None when it is
not what it should be, and a number never becomes a text by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import attrs
import cattrs
from cattrs.gen import make_dict_structure_fn, override

from .envelope import loads
from .models import (
    ImageUpscaleInput,
    TaskInput,
    TaskRecord,
    TaskState,
    UploadedFile,
    UpscaleInput,
)
from .texts import Redact, clean

__all__ = [
    "callback_from_wire",
    "file_from_wire",
    "input_from_wire",
    "input_to_wire",
    "link",
    "number",
    "record_from_wire",
]

#: Where links stand in a result, best first.  Only the first was ever recorded; the others are
#: what defensive clients look for.  Never taken from `param`: it holds the input's links.
_URL_KEYS = ("resultUrls", "videoUrl", "url")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def number(value: Any, _: Any = None) -> float | None:
    """Return a number as a fraction; None for anything else, booleans included."""
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _whole(value: Any, _: Any = None) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _text(value: Any, _: Any = None) -> str | None:
    return clean(value) or None if isinstance(value, str) else None


def _code(value: Any, _: Any = None) -> str | None:
    whole = _whole(value)
    return _text(value) if whole is None else str(whole)


#: Times below it are seconds: as milliseconds they would lie in 1970 to 1973.
_SECONDS = 1e11


def _moment(value: Any, _: Any = None) -> datetime | None:
    """Return the moment of a number of milliseconds; of seconds, as one page's example has."""
    count = number(value)
    unit = timedelta(seconds=1) if abs(count or 0) < _SECONDS else timedelta(milliseconds=1)
    try:
        return None if count is None else _EPOCH + unit * count
    except OverflowError:
        return None


def _iso_moment(value: Any, _: Any = None) -> datetime | None:
    try:
        moment = datetime.fromisoformat(value)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        return None


def _converter() -> cattrs.Converter:
    converter = cattrs.Converter(detailed_validation=False)
    converter.register_structure_hook_func(lambda kind: kind == str | None, _text)
    converter.register_structure_hook_func(lambda kind: kind == int | None, _whole)
    converter.register_structure_hook_func(lambda kind: kind == float | None, number)
    converter.register_structure_hook_func(lambda kind: kind == datetime | None, _moment)
    converter.register_structure_hook(TaskState, lambda value, _: TaskState(clean(value, 80)))
    converter.register_structure_hook(
        TaskRecord,
        make_dict_structure_fn(
            TaskRecord,
            converter,
            task_id=override(rename="taskId"),
            fail_code=override(rename="failCode", struct_hook=_code),
            fail_message=override(rename="failMsg"),
            created_at=override(rename="createTime"),
            completed_at=override(rename="completeTime"),
            updated_at=override(rename="updateTime"),
            cost_time=override(rename="costTime"),
            credits_consumed=override(rename="creditsConsumed"),
            result_urls=override(omit=True),
            result=override(omit=True),
            raw=override(omit=True),
            digest=override(omit=True),
        ),
    )
    converter.register_structure_hook(
        UploadedFile,
        make_dict_structure_fn(
            UploadedFile,
            converter,
            url=override(rename="downloadUrl"),
            name=override(rename="fileName"),
            size=override(rename="fileSize"),
            mime_type=override(rename="mimeType"),
            uploaded_at=override(rename="uploadedAt", struct_hook=_iso_moment),
            raw=override(omit=True),
            expires_hint=override(omit=True),
        ),
    )
    return converter


_CONVERTER = _converter()

#: The fields of each known model's input.
_FIELDS = {
    kind.model: frozenset(field.name for field in attrs.fields(kind))
    for kind in (UpscaleInput, ImageUpscaleInput)
}


def input_to_wire(task_input: TaskInput) -> dict[str, Any]:
    """Return the `input` object of a createTask for any model's input."""
    fields: dict[str, Any] = _CONVERTER.unstructure(task_input)
    if "factor" in fields:
        fields["upscale_factor"] = fields.pop("factor")
    return {name: value for name, value in fields.items() if value is not None}


def input_from_wire(param: Any, redact: Redact) -> tuple[str | None, dict[str, Any]]:
    """Return the model and the input that a record's `param` repeats, in our names.

    Its `input` is JSON in JSON in every recorded answer, an object in the documentation.  The
    service adds fields of its own (seeds, flags): those that a known model lacks are left out.
    """
    request = _opened(param, redact)
    request = request if isinstance(request, Mapping) else {}
    sent = _opened(request.get("input"), redact)
    fields = dict(sent) if isinstance(sent, Mapping) else {}
    if "upscale_factor" in fields:
        fields["factor"] = fields.pop("upscale_factor")
    model = _text(request.get("model"))
    known = _FIELDS.get(model or "", fields)
    return model, {name: value for name, value in fields.items() if name in known}


def callback_from_wire(param: Any, redact: Redact) -> str | None:
    """Return the callback URL that a record's `param` repeats; None where it does not."""
    request = _opened(param, redact)
    return link(request.get("callBackUrl")) if isinstance(request, Mapping) else None


def record_from_wire(
    data: Mapping[str, Any], task_id: str, redact: Redact, digest: bytes = b""
) -> TaskRecord:
    """Return the record that an answer's data makes; nothing in it can fail.

    Args:
        data: The payload of a recordInfo.
        task_id: The task that was asked about.
        redact: Takes our secrets out of a `resultJson`.
        digest: Of the answer.
    """
    parsed, response = (_opened(data.get(key), redact) for key in ("resultJson", "response"))
    urls = _links(parsed, redact) or _links(response, redact)
    state = data.get("state")
    if not isinstance(state, str) or not clean(state):
        # One client reports a Topaz answer with links and without a state.
        state = "success" if urls else "unknown"
    record = _CONVERTER.structure({**data, "taskId": task_id, "state": state}, TaskRecord)
    result = next((value for value in (parsed, response) if isinstance(value, Mapping)), {})
    return attrs.evolve(record, result_urls=urls, result=result, raw=data, digest=digest)


def file_from_wire(data: Mapping[str, Any], url: str) -> UploadedFile:
    """Return the file that an upload's data describes, at the link that was found in it."""
    file = _CONVERTER.structure({**data, "downloadUrl": url}, UploadedFile)
    return attrs.evolve(file, raw=dict(data))


def link(value: Any) -> str | None:
    """Return a text that is a web link, its spaces encoded, or None."""
    if not isinstance(value, str) or not 0 < len(value) <= 8192:
        return None
    text = value.strip().replace(" ", "%20")
    try:
        parts = urlsplit(text)
    except ValueError:
        return None
    is_link = parts.scheme in ("http", "https") and parts.hostname and text.isprintable()
    return text if is_link else None


def _opened(value: Any, redact: Redact) -> Any:
    """Return what a JSON text holds, encoded once or twice; other values as they are."""
    for _ in range(2):
        if isinstance(value, str):
            try:
                value = loads(value, redact)
            except ValueError:
                break
    return value


def _links(result: Any, redact: Redact) -> tuple[str, ...]:
    """Return the links of a result or of a bare list of links, each once, in its order."""
    places = [result.get(key) for key in _URL_KEYS] if isinstance(result, Mapping) else [result]
    for place in places:
        opened = _opened(place, redact)
        items = opened if isinstance(opened, list) else [opened]
        found = [url for item in items if (url := link(item))]
        if found:
            return tuple(dict.fromkeys(found))
    return ()
