"""Models to requests; answers to models or errors: the service's language, without I/O.

Source:
    docs.kie.ai (market, file-upload-api, common-api pages) and recorded answers of 2026-03 to
    2026-10, read 2026-11-22.  Where they disagree the recorded answers are followed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import attrs
import cattrs
from cattrs.gen import make_dict_structure_fn, override

from .envelope import Envelope, Redact, loads, open_envelope
from .errors import (
    ApiError,
    EdgeBlockedError,
    InsufficientCreditsError,
    MaintenanceError,
    RateLimitError,
    ResponseError,
    SubmitUnknownError,
    TaskNotFoundError,
    TopazError,
    UploadError,
    ValidationError,
    clean,
    rule_for,
)
from .models import TaskInput, TaskRecord, TaskState, UploadedFile
from .ports import Answer, FilePart, Repeat, Request
from .settings import Timeouts

__all__ = ["Made", "Refused", "Unknown", "Wire", "retry_after"]

#: Words of code 500 that mean "not valid", seen in recorded answers and reports.  Whole
#: messages only: an outage may well use one of these words in passing.
_INVALID_PHRASES = re.compile(
    r"""(this\ field\ is\ required
    | [a-z_][\w.\[\]]*\ (is\ required | cannot\ be\ (empty|null)
                         | is\ not\ within\ the\ range\ of\ allowed\ options)
    | value\ must\ be\ within\ the\ specified\ range
    | the\ text\ length\ cannot\ exceed\ the\ maximum\ limit
    | .{0,80}must\ be\ between\ [\d.]+\ and\ [\d.]+\ seconds)\.?""",
    re.IGNORECASE | re.VERBOSE,
)
#: Words of code 500 that mean "not enough credits", reported once.
_CREDIT_PHRASES = re.compile(
    r"((the\ current\ )?credits?\ (are\ |is\ )?insufficient|insufficient\ credits?)\b.{0,60}",
    re.IGNORECASE | re.VERBOSE,
)
_NO_RECORD = re.compile(r"\s*recordinfo is null\W*", re.IGNORECASE)

#: Where links stand in a result, best first.  Only the first was ever recorded; the others are
#: what defensive clients look for.  Never taken from `param`: it holds the input's links.
_URL_KEYS = ("resultUrls", "videoUrl", "url")

_MAX_TASK_ID = 256


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


def _text(value: Any, _: Any = None) -> str | None:
    return clean(value, 2000) or None if isinstance(value, str) else None


def _number(value: Any, _: Any = None) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _moment(value: Any, _: Any = None) -> datetime | None:
    milliseconds = _number(value)
    if milliseconds is None:
        return None
    try:
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)
    except OverflowError:
        return None


def _fail_code(value: Any, _: Any = None) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return _text(value)


def _converter() -> cattrs.Converter:
    """Make the converter that holds every habit of the wire.

    Its hooks are strict about types and never raise: a field that only informs is None when it
    is not what it should be, and a number never becomes a text by itself.
    """
    converter = cattrs.Converter(detailed_validation=False)
    converter.register_structure_hook_func(lambda kind: kind == str | None, _text)
    converter.register_structure_hook_func(lambda kind: kind == float | None, _number)
    converter.register_structure_hook_func(lambda kind: kind == datetime | None, _moment)
    converter.register_structure_hook_func(
        lambda kind: kind == int | None,
        lambda value, _: value if isinstance(value, int) and not isinstance(value, bool) else None,
    )
    converter.register_structure_hook(TaskState, lambda value, _: TaskState(clean(value, 80)))
    converter.register_structure_hook(
        TaskRecord,
        make_dict_structure_fn(
            TaskRecord,
            converter,
            task_id=override(rename="taskId"),
            fail_code=override(rename="failCode", struct_hook=_fail_code),
            fail_message=override(rename="failMsg"),
            created_at=override(rename="createTime"),
            completed_at=override(rename="completeTime"),
            updated_at=override(rename="updateTime"),
            cost_time=override(rename="costTime"),
            credits_consumed=override(rename="creditsConsumed"),
            result_urls=override(omit=True),
            result=override(omit=True),
            raw=override(omit=True),
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
        ),
    )
    return converter


def _iso_moment(value: Any, _: Any = None) -> datetime | None:
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


_CONVERTER = _converter()


def input_to_wire(task_input: TaskInput) -> dict[str, Any]:
    """Return the `input` object of a createTask for any model's input."""
    fields: dict[str, Any] = _CONVERTER.unstructure(task_input)
    if "factor" in fields:
        fields["upscale_factor"] = fields.pop("factor")
    return {name: value for name, value in fields.items() if value is not None}


def retry_after(answer: Answer) -> float | None:
    """Return the seconds that `Retry-After` asks for; None when it is missing or no sense.

    A date counts from the answer's own `Date`, where there is one: this machine's clock may be
    wrong.
    """
    value = answer.headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", value):
        return float(value)
    try:
        until = parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return None
    try:
        since = parsedate_to_datetime(answer.headers.get("date", ""))
    except (TypeError, ValueError):
        since = answer.received_at
    until, since = (m if m.tzinfo else m.replace(tzinfo=UTC) for m in (until, since))
    return max(0.0, (until - since).total_seconds())


def task_id_in(data: Any) -> str | None:
    """Return the task id that an answer's data names, or None for anything unusable."""
    if not isinstance(data, Mapping):
        return None
    for key in ("taskId", "recordId"):
        value = data.get(key)
        if (
            isinstance(value, str)
            and 0 < len(value) <= _MAX_TASK_ID
            and value.isprintable()
            and not any(ch.isspace() for ch in value)
        ):
            return value
    return None


@attrs.frozen(kw_only=True)
class Wire:
    """Speaks the service's language for one pair of origins."""

    base_url: str
    upload_url: str
    timeouts: Timeouts
    #: Takes our secrets out of the service's texts.
    redact: Redact = attrs.field(repr=False, eq=False, default=str)

    # -- requests ---------------------------------------------------------------------------

    def create_task(self, task_input: TaskInput, callback_url: str | None = None) -> Request:
        """Return the one request that costs money."""
        body: dict[str, Any] = {"model": task_input.model}
        if callback_url is not None:
            body["callBackUrl"] = callback_url
        body["input"] = input_to_wire(task_input)
        return Request(
            name="createTask",
            method="POST",
            url=f"{self.base_url}/api/v1/jobs/createTask",
            body=json.dumps(body, ensure_ascii=False).encode(),
            repeat=Repeat.IF_NOTHING_BOUGHT,
            timeout=self.timeouts.submit,
        )

    def record_info(self, task_id: str, *, repeat: Repeat = Repeat.FREELY) -> Request:
        """Return the question about one task."""
        return self._ask("recordInfo", "/api/v1/jobs/recordInfo", {"taskId": task_id}, repeat)

    def credits(self) -> Request:
        """Return the question about the balance."""
        return self._ask("credit", "/api/v1/chat/credit", {}, Repeat.FREELY)

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

    # -- answers ----------------------------------------------------------------------------

    def created(self, answer: Answer) -> Made | Refused | Unknown:
        """Tell what a createTask's answer means for the purse."""
        envelope = self._open(answer)
        task_id = task_id_in(envelope.data)
        if task_id is not None and 200 <= envelope.code <= 299:
            return Made(task_id)
        error = self._error("createTask", envelope, answer)
        # A refusal that names a task contradicts itself: better to ask than to pay twice.
        if error.billed == "no" and task_id is None:
            return Refused(error, repeatable=rule_for(envelope.code).repeatable)
        return Unknown(self._unclear(envelope, task_id))

    def _unclear(self, envelope: Envelope, task_id: str | None) -> SubmitUnknownError:
        said = (
            "said that it accepted the task but named none"
            if envelope.code == 200
            else (f"answered code {envelope.code}")
        )
        words = envelope.words or "no words"
        if envelope.code == 200 and envelope.body:
            words = clean(json.dumps(envelope.body, ensure_ascii=False), 300)
        error = SubmitUnknownError(
            f"The service {said} ({words}).",
            code=envelope.code,
            task_id=task_id,
            billed="unknown",
        )
        error.words = words
        return error

    def record(self, answer: Answer, task_id: str) -> TaskRecord:
        """Return what an answer says about a task.

        Raises:
            TaskNotFoundError: The service has no record of it (now).
            ApiError: The service answered with another code than success.
            ResponseError: The answer is not what the protocol says.
        """
        envelope = self._open(answer)
        if self._is_no_record(envelope):
            raise TaskNotFoundError(
                f"The service has no record of task {clean(task_id, 80)}.",
                code=envelope.code,
                task_id=task_id,
                billed="unknown",
                hint="Check the id, the key's account and base_url; records are kept two months.",
            )
        data = self._data("recordInfo", envelope, answer)
        if not isinstance(data, Mapping):
            raise self._unreadable("recordInfo", envelope)
        named = data.get("taskId")
        if isinstance(named, str) and named and named != task_id:
            raise ResponseError(
                f"The service was asked about task {clean(task_id, 80)} and answered about "
                f"another, {clean(named, 80)}.",
                code=envelope.code,
                retryable=True,
            )
        return self._structure_record(data, task_id)

    @staticmethod
    def _is_no_record(envelope: Envelope) -> bool:
        if envelope.code == 422:
            return bool(_NO_RECORD.fullmatch(envelope.words))
        if envelope.code == 404:
            return envelope.in_body
        return envelope.code == 200 and envelope.is_object and envelope.data is None

    def _structure_record(self, data: Mapping[str, Any], task_id: str) -> TaskRecord:
        result = self._result(data)
        urls = _links(result) or _links(data.get("response"))
        state = data.get("state")
        if not isinstance(state, str) or not state.strip():
            # One client reports a Topaz answer with links and without a state.
            state = "success" if urls else "unknown"
        record = _CONVERTER.structure(
            {**data, "taskId": task_id, "state": state.strip()}, TaskRecord
        )
        return attrs.evolve(record, result_urls=urls, result=result, raw=dict(data))

    def _result(self, data: Mapping[str, Any]) -> Mapping[str, Any]:
        result = data.get("resultJson")
        if isinstance(result, str):
            try:
                result = loads(result, self.redact)
            except ValueError:
                result = None
        return result if isinstance(result, Mapping) else {}

    def balance(self, answer: Answer) -> float:
        """Return the credits left, as a fraction."""
        envelope = self._open(answer)
        credits_left = _number(self._data("credit", envelope, answer))
        if credits_left is None:
            raise self._unreadable("credit", envelope)
        return credits_left

    def uploaded(self, answer: Answer) -> UploadedFile:
        """Return the file that an upload made."""
        envelope = self._open(answer)
        data = self._data("file-stream-upload", envelope, answer)
        fields = dict(data) if isinstance(data, Mapping) else {}
        # The quickstart page prints `fileUrl`; every recorded answer has `downloadUrl`.
        url = next((u for k in ("downloadUrl", "fileUrl") if (u := _link(fields.get(k)))), None)
        if envelope.body.get("success") is False or fields.get("success") is False or url is None:
            raise UploadError(
                f"The upload host took the file and gave no link: {envelope.words or 'no words'}.",
                code=envelope.code,
                retryable=True,
            )
        record = _CONVERTER.structure({**fields, "downloadUrl": url}, UploadedFile)
        return attrs.evolve(record, raw=fields)

    def failure(self, name: str, answer: Answer) -> TopazError | None:
        """Return the error that an answer stands for, or None when its code is success."""
        envelope = self._open(answer)
        return None if envelope.code == 200 else self._error(name, envelope, answer)

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
        return ResponseError(
            f"The answer to {name} is not what the protocol says: {envelope.words or 'no words'}.",
            code=envelope.code,
            retryable=True,
        )

    def _error(self, name: str, envelope: Envelope, answer: Answer) -> TopazError:
        code, words = envelope.code, envelope.words or "no words"
        message = f"The service answered code {code} to {name}: {words}"
        rule = rule_for(code)
        kind, billed, hint = rule.error, rule.billed, rule.hint
        if code == 500 and envelope.in_body and _INVALID_PHRASES.fullmatch(words.strip()):
            kind, billed, hint = ValidationError, "no", rule_for(422).hint
        elif code == 500 and envelope.in_body and _CREDIT_PHRASES.fullmatch(words.strip()):
            kind, billed, hint = InsufficientCreditsError, "no", rule_for(402).hint
        elif code == 403 and not envelope.in_body:
            kind = EdgeBlockedError
            hint = "The network in front of the service refused this machine; the key is not why."
        elif code < 400:
            return ResponseError(f"{message}.", code=code, billed="unknown")
        transient = rule.transient and kind is rule.error
        error: ApiError = kind(message, code=code, billed=billed, retryable=transient, hint=hint)
        if isinstance(error, (RateLimitError, MaintenanceError)):
            error.retry_after = retry_after(answer)
        return error


def _link(value: Any) -> str | None:
    """Return a text that is a web link, or None."""
    if not isinstance(value, str) or not 0 < len(value) <= 8192:
        return None
    try:
        parts = urlsplit(value.strip())
    except ValueError:
        return None
    return value.strip() if parts.scheme in ("http", "https") and parts.netloc else None


def _links(result: Any) -> tuple[str, ...]:
    """Return the links of a parsed result, each once, in its order."""
    if not isinstance(result, Mapping):
        return ()
    for key in _URL_KEYS:
        value = result.get(key)
        found = [
            link
            for item in (value if isinstance(value, list) else [value])
            if (link := _link(item))
        ]
        if found:
            return tuple(dict.fromkeys(found))
    return ()
