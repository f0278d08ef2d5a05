"""Models to requests; answers to models or errors: the service's language, without I/O.

Source:
    docs.kie.ai (market, file-upload-api, common-api pages) and recorded answers of 2026-03 to
    2026-10, read 2026-11-22.  Where they disagree the recorded answers are followed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

import attrs

from .conversion import (
    callback_from_wire,
    file_from_wire,
    input_from_wire,
    input_to_wire,
    link,
    number,
    record_from_wire,
)
from .envelope import Envelope, open_envelope
from .errors import (
    ApiError,
    CodeRule,
    EdgeBlockedError,
    InvalidInputError,
    ResponseError,
    SubmitUnknownError,
    TaskNotFoundError,
    TopazError,
    UploadError,
    rule_for,
)
from .models import TaskInput, TaskRecord, TaskState, UploadedFile
from .orders import described
from .ports import Answer, FilePart, Repeat, Request
from .retries import retry_after
from .settings import Timeouts
from .texts import Redact, clean, quoted, thorough, usable_id
from .urls import check_url

__all__ = ["Made", "Refused", "Unknown", "Wire"]

#: Words of code 500 that mean "not valid", seen in recorded answers and reports.  Whole
#: messages only, and a field's name has no capitals: an outage may well use these words too.
_INVALID_PHRASES = re.compile(
    r"""(this\ field\ is\ required
    | (?-i:[a-z][a-z0-9_.\[\]]*)\ (is\ required | cannot\ be\ empty
                                   | is\ not\ within\ the\ range\ of\ allowed\ options)
    | value\ must\ be\ within\ the\ specified\ range
    | the\ text\ length\ cannot\ exceed\ the\ maximum\ limit)\.?""",
    re.IGNORECASE | re.VERBOSE,
)
#: Words of code 500 that mean "not enough credits", reported once.
_CREDIT_PHRASES = re.compile(
    r"((the\ current\ )?credits?\ (are\ |is\ )?insufficient|insufficient\ credits?)"
    r"(\.\ please\ top\ up)?\.?",
    re.IGNORECASE | re.VERBOSE,
)
_NO_RECORD = re.compile(r"recordinfo is null\W*", re.IGNORECASE)

_EDGE = CodeRule(
    EdgeBlockedError,
    "no",
    hint="The network in front of the service refused this machine; the key is not why.",
)
#: Hints of codes that are right for createTask and wrong for a question about a task.
_ABOUT_SUBMITS = {rule_for(code).hint for code in (402, 422)}
_NOT_OUR_PROTOCOL = "Try again; if it stays so, check base_url, upload_url and the proxy."

#: Where an answer to createTask names the task, best first.  Recorded answers have the first
#: two, and they are equal.
_ID_KEYS = ("taskId", "recordId", "task_id")
#: An id in a text that could not be read, or in a place where none belongs.
_STRAY_ID = re.compile(
    r'"(?:task|record)_?id\\*"\s*:[\s\[]*(?:\\*"([^"\\]{1,256})\\*"|([1-9][0-9]{0,63})(?![\w.]))',
    re.IGNORECASE,
)


@attrs.frozen
class Made:
    """The submit made a task."""

    task_id: str


@attrs.frozen
class Refused:
    """The submit bought nothing, for certain."""

    error: TopazError
    #: Whether the same submit may be sent again by itself.
    repeatable: bool = False


@attrs.frozen
class Unknown:
    """Nobody can tell whether the submit bought something."""

    error: SubmitUnknownError


def _task_id_in(envelope: Envelope) -> str | None:
    """Return the usable task id that an answer names where one belongs."""
    for place in (envelope.data, envelope.body):
        if isinstance(place, Mapping):
            found = next(filter(None, (usable_id(place.get(key)) for key in _ID_KEYS)), None)
            if found is not None:
                return found
    return None


def _meaning(envelope: Envelope) -> CodeRule:
    """Return what an answer's code means, its words and its place considered."""
    code, words = envelope.code, envelope.words
    if code == 500 and envelope.in_body:
        if _INVALID_PHRASES.fullmatch(words):
            return rule_for(422)
        if _CREDIT_PHRASES.fullmatch(words):
            return rule_for(402)
    return _EDGE if code == 403 and not envelope.in_body else rule_for(code)


def _said(name: str, envelope: Envelope) -> str:
    """Return what was answered: a code is the API's own, a status only HTTP's."""
    answered = f"code {envelope.code}" if envelope.in_body else f"HTTP {envelope.code}"
    return f"The service answered {name} with {answered}: {envelope.words or 'no words'}"


@attrs.frozen(kw_only=True)
class Wire:
    """Speaks the service's language for one pair of origins."""

    base_url: str
    upload_url: str
    timeouts: Timeouts
    #: Takes our secrets out of the service's texts, also where they are escaped.
    redact: Redact = attrs.field(repr=False, eq=False, default=str, converter=thorough)

    # -- requests ---------------------------------------------------------------------------

    def create_task(self, task_input: TaskInput, callback_url: str | None = None) -> Request:
        """Return the one request that costs money."""
        body: dict[str, Any] = {"model": task_input.model}
        if callback_url:
            body["callBackUrl"] = callback_url
        body["input"] = input_to_wire(task_input)
        return Request(
            name="createTask",
            method="POST",
            url=f"{self.base_url}/api/v1/jobs/createTask",
            body=_encoded(body),
            repeat=Repeat.IF_NOTHING_BOUGHT,
            timeout=self.timeouts.submit,
        )

    def record_info(self, task_id: str, *, repeat: Repeat = Repeat.FREELY) -> Request:
        """Return the question about one task."""
        return self._ask("recordInfo", "/api/v1/jobs/recordInfo", {"taskId": task_id}, repeat)

    def credits(self) -> Request:
        """Return the question about the balance."""
        return self._ask("credit", "/api/v1/chat/credit", {}, Repeat.FREELY)

    def fresh_link(self, url: str) -> Request:
        """Return the question for a link of 20 minutes to a result whose own link has died."""
        return Request(
            name="download-url",
            method="POST",
            url=f"{self.base_url}/api/v1/common/download-url",
            body=json.dumps({"url": url}).encode(),
            repeat=Repeat.FREELY,
            timeout=self.timeouts.poll,
            fresh=True,
        )

    def _ask(self, name: str, path: str, query: Mapping[str, str], repeat: Repeat) -> Request:
        return Request(
            name=name,
            method="GET",
            url=self.base_url + path,
            query=query,
            repeat=repeat,
            timeout=self.timeouts.poll,
        )

    def upload(self, part: FilePart, folder: str) -> Request:
        """Return a streamed upload; the answer's link is what createTask takes."""
        return Request(
            name="file-stream-upload",
            method="POST",
            url=f"{self.upload_url}/api/file-stream-upload",
            fields={"uploadPath": folder, "fileName": part.name},
            file=part,
            repeat=Repeat.FREELY,
            timeout=self.timeouts.upload,
        )

    def upload_from_url(self, url: str, name: str, folder: str) -> Request:
        """Return the wish that the upload host fetch a file itself."""
        return Request(
            name="file-url-upload",
            method="POST",
            url=f"{self.upload_url}/api/file-url-upload",
            body=_encoded({"fileUrl": url, "uploadPath": folder, "fileName": name}),
            repeat=Repeat.FREELY,
            timeout=self.timeouts.fetch,
            fresh=True,
        )

    # -- answers ----------------------------------------------------------------------------

    def created(self, answer: Answer) -> Made | Refused | Unknown:
        """Tell what a createTask's answer means for the purse."""
        envelope = self._open(answer)
        task_id = _task_id_in(envelope)
        if task_id is not None and 200 <= envelope.code <= 299:
            return Made(task_id)
        # A refusal that names a task contradicts itself: better to ask than to pay twice.
        task_id = task_id or self.stray_id(answer)
        rule = _meaning(envelope)
        if rule.billed == "no" and task_id is None:
            return Refused(self._error("createTask", envelope, answer), rule.repeatable)
        message = _said("createTask", envelope)
        words = envelope.words
        if envelope.is_object and 200 <= envelope.code <= 299:
            words = clean(json.dumps(envelope.body, ensure_ascii=False))
            message = f"The service said yes to createTask and named no task that is fit: {words}"
        if task_id is not None:
            message = f"The answer leaves a doubt and names task {task_id}. {message}"
        error = SubmitUnknownError(message, code=envelope.code, task_id=task_id, billed="unknown")
        error.words = words
        return Unknown(error)

    def stray_id(self, answer: Answer) -> str | None:
        """Return an id that stands anywhere in an answer: it may be all that is left of a task."""
        for found in _STRAY_ID.finditer(answer.body.decode(errors="replace")):
            task_id = usable_id(found[1] or found[2])
            if task_id is not None and self.redact(task_id) == task_id:
                return task_id
        return None

    def record(self, answer: Answer, task_id: str, last: TaskRecord | None = None) -> TaskRecord:
        """Return what an answer says about a task.

        Args:
            answer: To the question about it.
            task_id: The task.
            last: Its record before, returned itself when the answer is the same to the byte, as
                most are while a task waits.

        Raises:
            TaskNotFoundError: The service has no record of it (now).
            ApiError: The service answered with another code than success.
            ResponseError: The answer is not what the protocol says.
        """
        digest = b""
        if answer.status == 200:
            digest = blake2b(answer.body, digest_size=16).digest()
            if last is not None and digest == last.digest:
                return last
        envelope = self._open(answer)
        if _is_no_record(envelope):
            raise TaskNotFoundError(
                f"The service has no record of task {clean(task_id, 80)}.",
                code=envelope.code,
                task_id=task_id,
                billed="unknown",
                hint="Check the id, the key's account and base_url; records are kept two months.",
            )
        data = envelope.data
        try:
            # A task's end counts, whatever code stands around it: 501 around a failure.
            if not (_is_end(data) and data["taskId"] == task_id):
                data = self._data("recordInfo", envelope, answer)
            if not isinstance(data, Mapping):
                raise self._unreadable("recordInfo", envelope)
        except TopazError as error:
            # The question is free; the task that it asks about is not.
            failed = error.about(task_id=task_id, billed="unknown")
            if isinstance(error, ApiError) and _meaning(envelope).hint in _ABOUT_SUBMITS:
                failed.hint = (
                    "The question failed, not the task: ask again with "
                    f"wait_for_result({clean(task_id, 80)!r}), and do not submit again."
                )
            raise failed from None
        named = data.get("taskId")
        if isinstance(named, str) and named and named != task_id:
            stray = ResponseError(
                f"The service was asked about task {clean(task_id, 80)} and answered about "
                f"another, {clean(named, 80)}.",
                code=envelope.code,
                task_id=task_id,
                retryable=True,
                billed="unknown",
                hint=_NOT_OUR_PROTOCOL,
            )
            stray.is_stray = True
            raise stray
        return record_from_wire(data, task_id, self.redact, digest)

    def balance(self, answer: Answer) -> float:
        """Return the credits left, as a fraction."""
        envelope = self._open(answer)
        credits_left = number(self._data("credit", envelope, answer))
        if credits_left is None:
            raise self._unreadable("credit", envelope)
        return credits_left

    def renewed(self, answer: Answer) -> str:
        """Return the fresh link that was asked for."""
        envelope = self._open(answer)
        data = self._data("download-url", envelope, answer)
        # Documented as a bare text; other clients expect an object.
        url = link(data.get("url") if isinstance(data, Mapping) else data)
        if url is None:
            raise self._unreadable("download-url", envelope)
        return url

    def sent_input(self, record: TaskRecord) -> tuple[str | None, dict[str, str]]:
        """Return the model and the input of a task as its record tells them, for comparing."""
        model, fields = input_from_wire(record.raw.get("param"), self.redact)
        return record.model or model, described(fields)

    def sent_callback(self, record: TaskRecord) -> str | None:
        """Return the callback URL of a task as its record tells it, or None."""
        return callback_from_wire(record.raw.get("param"), self.redact)

    def uploaded(self, answer: Answer, name: str = "file-stream-upload") -> UploadedFile:
        """Return the file that an upload of this name made."""
        envelope = self._open(answer)
        data = self._data(name, envelope, answer)
        fields = data if isinstance(data, Mapping) else {}
        # The quickstart page prints `fileUrl`; every recorded answer has `downloadUrl`.
        url = next((u for k in ("downloadUrl", "fileUrl") if (u := link(fields.get(k)))), None)
        if envelope.body.get("success") is False or fields.get("success") is False or url is None:
            raise UploadError(
                f"The upload host gave no link to the file: {envelope.words or 'no words'}",
                code=envelope.code,
                retryable=True,
                hint="Uploads are free: try again.",
            )
        check_url(url, "The upload host's link", UploadError)
        return file_from_wire(fields, url)

    def failure(self, name: str, answer: Answer) -> TopazError | None:
        """Return the error that an answer to a question stands for, or None for success."""
        envelope = self._open(answer)
        if name == "recordInfo" and _is_end(envelope.data):
            return None
        try:
            self._data(name, envelope, answer)
        except TopazError as error:
            return error
        return None

    # -- helpers ----------------------------------------------------------------------------

    def _open(self, answer: Answer) -> Envelope:
        return open_envelope(answer.status, answer.body, self.redact)

    def _data(self, name: str, envelope: Envelope, answer: Answer) -> Any:
        if envelope.code != 200:
            raise self._error(name, envelope, answer)
        if not envelope.is_object:
            raise self._unreadable(name, envelope)
        return envelope.data

    def _unreadable(self, name: str, envelope: Envelope) -> ResponseError:
        found = f"its data is {quoted(envelope.data)}" if envelope.is_object else envelope.words
        return ResponseError(
            f"The answer to {name} is not what the protocol says: {found}",
            code=envelope.code,
            retryable=True,
            hint=_NOT_OUR_PROTOCOL,
        )

    def _error(self, name: str, envelope: Envelope, answer: Answer) -> TopazError:
        """Return the error of a code; what it cost is for the caller to add."""
        code, rule, message = envelope.code, _meaning(envelope), _said(name, envelope)
        if code < 400:
            return ResponseError(message, code=code, hint=_NOT_OUR_PROTOCOL)
        error = rule.error(message, code=code, retryable=rule.transient, hint=rule.hint)
        error.retry_after = retry_after(answer.headers, answer.received_at)
        return error


def _encoded(body: dict[str, Any]) -> bytes:
    try:
        return json.dumps(body, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInputError(f"The input cannot be sent as JSON: {clean(error, 120)}") from None


def _is_end(data: Any) -> bool:
    """Tell whether an answer's data is the record of some task that has ended."""
    if not isinstance(data, Mapping) or not isinstance(data.get("taskId"), str):
        return False
    state = data.get("state")
    return isinstance(state, str) and TaskState(clean(state, 80)).is_terminal


def _is_no_record(envelope: Envelope) -> bool:
    if envelope.code == 422:
        return bool(_NO_RECORD.fullmatch(envelope.words))
    if envelope.code == 404:
        return envelope.in_body
    is_success = envelope.code == 200 and envelope.in_body
    return is_success and "data" in envelope.body and envelope.data is None
