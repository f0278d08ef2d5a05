"""What a caller asks for, looked at and made ready to be submitted."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import attrs

from .errors import InvalidInputError, clean
from .media import Media, inspect
from .models import TaskInput, UpscaleFactor, UpscaleInput
from .ports import Intent
from .urls import check_url, without_query

__all__ = ["Order", "Video", "is_url", "make_order"]

#: An https URL, a path, or an input of any model.
Video = str | os.PathLike[str] | TaskInput

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*://")


@attrs.define(kw_only=True)
class Order:
    """One submit on its way; it changes as the submit goes on."""

    #: None until the local file has been uploaded.
    input: TaskInput | None
    #: The local file, if that is what the caller handed in.
    media: Media | None = None
    factor: UpscaleFactor
    #: How the result may be called, without an extension.
    title: str
    intent: Intent
    callback_url: str | None = None
    resubmit_unknown: bool = False
    resubmit_failed: bool = False
    #: Nobody waits for it any more: do not send it if it has not been sent.
    abandoned: bool = False
    #: Its request may have left; until it is refused, nobody knows what it bought.
    sent: bool = False
    #: Known as soon as the service has answered.
    task_id: str | None = None

    def uploaded_to(self, url: str) -> None:
        """The local file lies at this URL now."""
        self.input = UpscaleInput(url, self.factor)
        self.intent = attrs.evolve(self.intent, input=_described(self.input))


def is_url(text: str) -> bool:
    """Tell a URL of any scheme from a path."""
    return bool(_SCHEME.match(text))


def make_order(
    video: Video,
    *,
    factor: UpscaleFactor | int | str = 2,
    reference: str | None = None,
    seconds: float | None = None,
    fingerprint: str | None = None,
    max_bytes: int,
) -> Order:
    """Check what the caller handed in and return the order for it.

    Reads a local file from end to end for its hash, so call it off the event loop.

    Raises:
        InvalidInputError: It cannot be upscaled.
    """
    wanted = UpscaleFactor.parse(factor)
    if reference is not None and (
        not isinstance(reference, str) or not reference.strip() or len(reference) > 500
    ):
        raise InvalidInputError("A reference is a text of 1 to 500 characters.")
    task_input: TaskInput | None = None
    found: Media | None = None
    content = None
    if isinstance(video, TaskInput):
        task_input = video
        own = getattr(video, "factor", wanted)
        if wanted != own and wanted is not UpscaleFactor.X2:
            raise InvalidInputError(
                f"The input says factor {own}, the argument says {wanted}; which one is it?"
            )
        wanted = own
    elif isinstance(video, str) and is_url(video):
        task_input = UpscaleInput(video, wanted)
    elif isinstance(video, (str, os.PathLike)):
        if not os.fspath(video):
            raise InvalidInputError("The path of the video is empty.")
        found = inspect(video, max_bytes=max_bytes)
        content = _sha256(found.path)
        seconds = found.seconds if seconds is None else seconds
    else:
        raise InvalidInputError(
            f"A video is an https URL, a path or an input, not {type(video).__name__}."
        )
    model = UpscaleInput.model if task_input is None else task_input.model
    described = {"factor": str(wanted)} if task_input is None else _described(task_input)
    intent = Intent(
        reference=reference,
        fingerprint=fingerprint or _fingerprint(model, described, content),
        model=model,
        factor=str(wanted),
        input=described,
        seconds=seconds,
        size=None if found is None else found.size,
        content_hash=content,
    )
    return Order(
        input=task_input,
        media=found,
        factor=wanted,
        title=_title(video, found),
        intent=intent,
    )


def _title(video: Video, found: Media | None) -> str:
    if found is not None:
        return found.path.stem
    url = video if isinstance(video, str) else getattr(video, "video_url", "")
    return Path(urlsplit(url).path).stem or "video"


def _described(task_input: TaskInput) -> dict[str, Any]:
    """Return an input as journals may keep it: signed links lose their signature."""
    values = attrs.asdict(task_input)
    return {
        name: without_query(value) if isinstance(value, str) and is_url(value) else value
        for name, value in values.items()
    }


def _fingerprint(model: str, described: dict[str, Any], content: str | None) -> str:
    words = json.dumps([model, described, content], sort_keys=True, default=str)
    return hashlib.sha256(words.encode()).hexdigest()


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InvalidInputError(f"{clean(str(path), 200)} cannot be read: {reason}.") from None


def check_callback_url(url: str | None) -> None:
    """Raise unless the service may be told to call this URL."""
    if url is not None:
        check_url(url, "callback_url")
