"""What a caller asks for, looked at and made ready to be submitted."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import attrs

from .durations import check_timeout
from .errors import Billed, InvalidInputError
from .media import Media, content_hash, inspect
from .models import TaskInput, UploadedFile, UpscaleFactor, UpscaleInput
from .names import own_name, safe_name
from .ports import Intent
from .signed_urls import named_by
from .urls import check_url, without_query

__all__ = ["NONCE", "Order", "Video", "described", "is_url", "make_order", "nonce_in"]

#: An https URL, a path, or an input of any model.
Video = str | os.PathLike[str] | TaskInput

#: The name of the nonce in a callback URL's query.
NONCE = "topaz_nonce"

_NONCE = re.compile(rf"(?:^|[?&]){NONCE}=([A-Za-z0-9_-]{{1,64}})(?=[&#]|$)")
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
    #: Tells this work from all other: the intent's fingerprint, but links to different files of
    #: one address differ.
    content: str
    intent: Intent
    callback_url: str | None = None
    resubmit_unknown: bool = False
    resubmit_failed: bool = False
    #: The journal's entry to which that consent was given.
    consented_to: int | None = None
    #: Its nonce, and the task that a callback named for it and the service does not know.
    consented_nonce: str | None = None
    passed_over: str | None = None
    #: Its reference may stand for a task already: nobody has found out yet.
    is_open: bool = False
    #: Nobody waits for it any more: do not send it if it has not been sent.
    abandoned: bool = False
    #: The exchange that sends it, in a task of its own; it outlives a caller that is cancelled.
    exchange: asyncio.Future[Any] | None = None
    #: It was abandoned in time: nothing was sent.
    is_given_back: bool = False
    #: Its request may have left; until it is refused, nobody knows what it bought.
    sent: bool = False
    #: Known as soon as the service has answered.
    task_id: str | None = None

    @property
    def billed(self) -> Billed:
        """What is known of the cost of its work, whoever submitted it."""
        if self.task_id is not None:
            return "yes"
        return "unknown" if self.sent or self.is_open else "no"

    @property
    def may_have_bought(self) -> bool:
        """Whether this very order made a task, or may have."""
        return self.sent or self.task_id is not None

    def deliver_to(self, folder: Path, name: str | None) -> None:
        """Its result is to be brought to this place; an open name is made from the title."""
        place = folder / (name or f"{self.title}-{self.factor}x.mp4")
        self.intent = attrs.evolve(self.intent, output=os.path.abspath(place))

    def name_by_content(self) -> None:
        """Give work without a name of the caller's one that tells its content."""
        if self.intent.reference is None:
            reference = f"batch:{self.content}"
            self.intent = attrs.evolve(self.intent, reference=reference)

    def uploaded_to(self, url: str) -> None:
        """The local file lies at this URL now."""
        self.input = UpscaleInput(url, self.factor)
        self.intent = attrs.evolve(self.intent, input=described(attrs.asdict(self.input)))


def is_url(text: str) -> bool:
    """Tell a URL of any scheme from a path."""
    return bool(_SCHEME.match(text.lstrip()))


def make_order(
    video: Video,
    *,
    factor: UpscaleFactor | int | str = 2,
    callback_url: str | None = None,
    reference: str | None = None,
    seconds: float | None = None,
    fingerprint: str | None = None,
    service: str | None = None,
    max_bytes: int,
) -> Order:
    """Check what the caller handed in and return the order for it.

    Reads a local file from end to end for its hash, so call it off the event loop.

    Raises:
        InvalidInputError: It cannot be upscaled.
    """
    wanted = UpscaleFactor.parse(factor)
    for word, what in ((reference, "reference"), (fingerprint, "fingerprint")):
        if word is not None and not _can_be_kept(word):
            raise InvalidInputError(f"A {what} is a text of 1 to 500 characters.")
    seconds = check_timeout(seconds, "seconds")
    nonce = None
    if callback_url is not None:
        check_url(callback_url, "callback_url")
        nonce = secrets.token_urlsafe(16)
        callback_url = _with_nonce(callback_url, nonce)
    task_input: TaskInput | None = None
    found: Media | None = None
    content = None
    if isinstance(video, TaskInput):
        task_input = video
        if not isinstance(getattr(video, "model", None), str):
            raise InvalidInputError(f"{type(video).__name__} names no model.")
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
        content = content_hash(found.path)
        seconds = found.seconds if seconds is None else seconds
    else:
        raise InvalidInputError(
            f"A video is an https URL, a path or an input, not {type(video).__name__}.",
            hint=_instead_of(video),
        )
    model = UpscaleInput.model if task_input is None else task_input.model
    told = {"factor": wanted} if task_input is None else attrs.asdict(task_input)
    values = described(told)
    named = {name: named_by(text) if is_url(text) else text for name, text in _texts(told).items()}
    intent = Intent(
        reference=reference,
        fingerprint=fingerprint or _fingerprint(model, values, content),
        model=model,
        factor=str(wanted),
        input=values,
        seconds=seconds,
        size=None if found is None else found.size,
        content_hash=content,
        nonce=nonce,
        service=service,
    )
    return Order(
        input=task_input,
        media=found,
        factor=wanted,
        title=_title(video, found),
        content=fingerprint or _fingerprint(model, named, content),
        intent=intent,
        callback_url=callback_url,
    )


def _instead_of(video: object) -> str | None:
    if isinstance(video, UploadedFile):
        return "Pass its url."
    if isinstance(video, (bytes, bytearray, memoryview)) or hasattr(video, "read"):
        return "First upload() it, then pass the url of what comes back, and a fingerprint."
    return None


def _can_be_kept(word: object) -> bool:
    if not isinstance(word, str) or not word.strip() or len(word) > 500:
        return False
    return word == word.encode(errors="ignore").decode()  # no journal takes half a letter


def _title(video: Video, found: Media | None) -> str:
    if found is not None:
        return own_name(found.path.stem, "video")
    values = attrs.asdict(video).values() if isinstance(video, TaskInput) else [video]
    url = next((text for text in values if isinstance(text, str) and is_url(text)), "")
    path = without_query(url).partition("://")[2].partition("/")[2]
    return Path(safe_name(path)).stem


def described(values: Mapping[str, Any]) -> dict[str, str]:
    """Return an input as journals keep it: signed links lose their signature."""
    texts = _texts(values)
    return {name: without_query(text) if is_url(text) else text for name, text in texts.items()}


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in values.items() if value is not None}


def nonce_in(query: str) -> str | None:
    """Return the nonce in a query or a URL; None when there is none, or more than one."""
    nonces = set(_NONCE.findall(query))
    return nonces.pop() if len(nonces) == 1 else None


def _fingerprint(model: str, values: dict[str, str], content: str | None) -> str:
    words = json.dumps([model, values, content], sort_keys=True)
    return hashlib.sha256(words.encode()).hexdigest()


def _with_nonce(callback_url: str, nonce: str) -> str:
    """Return the URL with an opaque word that only the service and the journal know."""
    parts = urlsplit(callback_url)
    query = f"{parts.query}&" if parts.query else ""
    return parts._replace(query=f"{query}{NONCE}={nonce}").geturl()
