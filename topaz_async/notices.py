"""What the body of a callback claims: which task it speaks of, and how that ended."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import attrs

from .errors import MalformedCallbackError
from .models import TaskState
from .texts import clean, usable_id

__all__ = ["Notice", "read_notice"]

#: Where the id may stand, in `data` and beside it.  The service's own pages disagree.
#: Source: docs.kie.ai, market pages (`data.taskId`) and webhook-verification (`data.task_id`,
#: `taskId`), read 2026-11-22.
_ID_KEYS = ("taskId", "task_id")


@attrs.frozen
class Notice:
    """A callback's claim; nothing of it is true until the signature and recordInfo say so."""

    task_id: str
    #: The state as claimed; None when the body names none.
    state: TaskState | None


def read_notice(body: bytes) -> Notice:
    """Return what a body claims.

    Strict where two readers could differ: UTF-8 without a byte order mark, no duplicate keys,
    one id however often it stands there.

    Raises:
        MalformedCallbackError: The body is anything else.
    """
    try:
        value = _DECODER.decode(body.decode())
    except (ValueError, RecursionError):  # no UTF-8, no JSON, a number without end, too deep
        raise MalformedCallbackError("The callback's body is no JSON.") from None
    if not isinstance(value, dict):
        raise MalformedCallbackError("The callback's body is no JSON object.")
    data = value.get("data")
    places = [place for place in (data, value) if isinstance(place, Mapping)]
    named = [place[key] for place in places for key in _ID_KEYS if place.get(key) is not None]
    if not named:
        raise MalformedCallbackError("The callback names no task.")
    task_id = usable_id(named[0])
    if task_id is None or any(other != task_id for other in named):
        raise MalformedCallbackError("The callback's task id is ill-formed, or there are two.")
    state = data.get("state") if isinstance(data, Mapping) else None
    words = clean(state, 80) if isinstance(state, str) else ""
    return Notice(task_id, TaskState(words) if words else None)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object; the first and the last of two equal keys are read by different readers."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise MalformedCallbackError("The callback's body names a key twice.")
    return found


def _no_number(word: str) -> None:
    raise ValueError(word)


#: Made once: making one takes as long as a body.
_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_no_number)
