"""The service's language: what is asked, and what each answer means for task and purse."""

from __future__ import annotations

import contextlib
import json
import pickle
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import attrs
import pytest
from hypothesis import given, settings, strategies as st

from topaz_async.errors import (
    ApiError,
    AuthenticationError,
    EdgeBlockedError,
    FeatureDisabledError,
    GenerationError,
    InsufficientCreditsError,
    KeyQuotaError,
    MaintenanceError,
    NotFoundError,
    RateLimitError,
    ResponseError,
    ServerError,
    TaskNotFoundError,
    TopazError,
    UploadError,
    ValidationError,
)
from topaz_async.models import (
    ImageUpscaleInput,
    TaskInput,
    TaskRecord,
    UploadedFile,
    UpscaleInput,
)
from topaz_async.ports import Answer, FilePart, Repeat, Request
from topaz_async.retries import retry_after
from topaz_async.settings import Timeouts
from topaz_async.wire import Made, Refused, Unknown, Wire

KEY = "kie-0f1e2d3c4b5a"
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
ID = "0123456789abcdef0123456789abcdef"
LINK = "https://tempfile.aiquickdraw.com/r/out.mp4"
WIRE = Wire(
    base_url="https://api.example",
    upload_url="https://up.example",
    timeouts=Timeouts(),
    redact=lambda text: text.replace(KEY, "[key]"),
)
quick = settings(deadline=None, database=None)


def answer(body: Any = b"", status: int = 200, **headers: str) -> Answer:
    """Return an answer; a body that is not bytes is sent as JSON, a text as it stands."""
    if isinstance(body, str):
        body = body.encode()
    elif not isinstance(body, bytes):
        body = json.dumps(body).encode()
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status=status, headers=names, body=body, received_at=NOW)


def said(code: object, msg: object = None, data: object = None) -> Answer:
    """Return an envelope as the service sends it: always HTTP 200."""
    return answer({"code": code, "msg": msg, "data": data})


# -- requests -------------------------------------------------------------------------------


@attrs.frozen
class CrispInput(TaskInput):
    """A further model of the same interface."""

    model: ClassVar[str] = "recraft/crisp-upscale"
    image: str
    mode: str | None = None


@pytest.mark.parametrize(
    ("task_input", "callback", "body"),
    [
        (
            UpscaleInput("https://a.example/c.mp4", 4),
            None,
            {
                "model": "topaz/video-upscale",
                "input": {"video_url": "https://a.example/c.mp4", "upscale_factor": "4"},
            },
        ),
        (
            UpscaleInput("https://a.example/日本.mp4"),
            "https://b.example/kie?job=42",
            {
                "model": "topaz/video-upscale",
                "callBackUrl": "https://b.example/kie?job=42",
                "input": {"video_url": "https://a.example/日本.mp4", "upscale_factor": "2"},
            },
        ),
        (
            ImageUpscaleInput("https://a.example/c.png", 1),
            "",
            {
                "model": "topaz/image-upscale",
                "input": {"image_url": "https://a.example/c.png", "upscale_factor": "1"},
            },
        ),
        (
            CrispInput("https://a.example/\ud800.png"),
            None,
            {"model": "recraft/crisp-upscale", "input": {"image": "https://a.example/\ud800.png"}},
        ),
    ],
    ids=["4x", "callback", "image", "further model"],
)
def test_create_task(task_input: TaskInput, callback: str | None, body: object) -> None:
    """Exact spelling, the factor as text and always there, nothing that is None."""
    request = WIRE.create_task(task_input, callback)
    assert request.body is not None
    assert json.loads(request.body) == body
    assert attrs.evolve(request, body=None) == Request(
        name="createTask",
        method="POST",
        url="https://api.example/api/v1/jobs/createTask",
        repeat=Repeat.IF_NOTHING_BOUGHT,
        timeout=60.0,
    )


def test_questions() -> None:
    """recordInfo, credit and download-url, as the documents spell them."""
    base = {"method": "GET", "repeat": Repeat.FREELY, "timeout": 15.0}
    record = Request(
        name="recordInfo",
        url="https://api.example/api/v1/jobs/recordInfo",
        query={"taskId": "a&b=c"},
        **base,
    )
    assert WIRE.record_info("a&b=c") == record
    assert WIRE.record_info("a&b=c", repeat=Repeat.NEVER) == attrs.evolve(
        record, repeat=Repeat.NEVER
    )
    assert WIRE.credits() == Request(
        name="credit", url="https://api.example/api/v1/chat/credit", **base
    )
    assert WIRE.fresh_link(LINK) == Request(
        name="download-url",
        url="https://api.example/api/v1/common/download-url",
        body=json.dumps({"url": LINK}).encode(),
        fresh=True,
        **{**base, "method": "POST"},
    )


def test_an_upload_names_file_and_folder() -> None:
    """The file under `file`, the texts beside it, to the other host."""

    async def nothing() -> AsyncIterator[bytes]:
        yield b""

    part = FilePart(field="file", name="a.mp4", content_type="video/mp4", size=1, open=nothing)
    assert WIRE.upload(part, "topaz-async") == Request(
        name="file-stream-upload",
        method="POST",
        url="https://up.example/api/file-stream-upload",
        fields={"uploadPath": "topaz-async", "fileName": "a.mp4"},
        file=part,
        repeat=Repeat.FREELY,
        timeout=900.0,
    )


# -- createTask: made, refused, unknown -----------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "task_id"),
    [
        (said(200, "success", {"taskId": ID, "recordId": ID}), ID),
        (said(200, "success", {"taskId": ID}), ID),
        (said(200, "success", {"recordId": ID}), ID),
        (said(200, "success", {"taskId": "", "recordId": ID}), ID),
        (said(200, "success", {"taskId": "task_topaz_123"}), "task_topaz_123"),
        (said(200, "success", {"taskId": "日本-1"}), "日本-1"),
        (said("200", "success", {"taskId": ID}), ID),
        (said(200.0, None, {"taskId": ID, "unknown": [1]}), ID),
        (answer({"data": {"taskId": ID}}), ID),
        (answer({"code": None, "data": {"taskId": ID}}), ID),
        (answer({"code": 200, "data": {"task_id": ID}}), ID),
        (answer({"code": 200, "taskId": ID}), ID),
        (answer({"code": 200, "data": {"taskId": ID}}, status=500), ID),
        (answer(b"\xef\xbb\xbf" + json.dumps({"code": 200, "data": {"taskId": ID}}).encode()), ID),
        (said(200, "success", {"taskId": "x" * 256}), "x" * 256),
    ],
)
def test_a_usable_id_is_a_task(reply: Answer, task_id: str) -> None:
    """Success and an id make a task, also where ids of sibling calls stand."""
    assert WIRE.created(reply) == Made(task_id)


REFUSALS = {
    400: ValidationError,
    401: AuthenticationError,
    402: InsufficientCreditsError,
    403: AuthenticationError,
    404: NotFoundError,
    405: ValidationError,
    413: ValidationError,
    415: ValidationError,
    422: ValidationError,
    429: RateLimitError,
    433: KeyQuotaError,
    455: MaintenanceError,
    505: FeatureDisabledError,
}


@pytest.mark.parametrize(("code", "kind"), REFUSALS.items())
@pytest.mark.parametrize("in_body", [True, False, "text"])
def test_a_code_that_bought_nothing_refuses(
    code: int, kind: type[ApiError], in_body: object
) -> None:
    """In the body or as HTTP status; the service's words are kept."""
    body = {"msg": "No.", "data": None}
    code_there = {True: {"code": code}, "text": {"code": str(code)}, False: {}}[in_body]
    outcome = WIRE.created(answer({**code_there, **body}, status=200 if in_body else code))
    assert isinstance(outcome, Refused)
    assert outcome.repeatable is (code in (429, 455))
    expected = EdgeBlockedError if (code, in_body) == (403, False) else kind
    assert (type(outcome.error), outcome.error.code, outcome.error.billed) == (expected, code, "no")
    assert f" {code}: No." in outcome.error.message


@pytest.mark.parametrize("page", [b"", b"<html>x</html>", b"error code: 1010", b"{", b"[]"])
@pytest.mark.parametrize("status", [*REFUSALS, 408, 500, 501, 502, 503, 504, 520, 524])
def test_pages_count_by_their_status(status: int, page: bytes) -> None:
    """A proxy's page is a refusal only where the status says so."""
    outcome = WIRE.created(answer(page, status))
    assert isinstance(outcome, Refused if status in REFUSALS else Unknown)


INVALID = [
    "This field is required",
    "this field is required.",
    "text is required",
    "video_url is required",
    "input.video_url cannot be empty",
    "upscale_factor is not within the range of allowed options",
    "Value must be within the specified range",
    "The text length cannot exceed the maximum limit",
]
CREDITS = [
    "Credits insufficient",
    "The current credits are insufficient. Please top up.",
    "Insufficient credits.",
]


@pytest.mark.parametrize(
    ("words", "kind"),
    [(words, ValidationError) for words in INVALID]
    + [(words, InsufficientCreditsError) for words in CREDITS],
)
def test_known_phrases_of_code_500_refuse(words: str, kind: type[ApiError]) -> None:
    """Parameter and credit errors are dressed as 500: nothing was bought, nothing is repeated."""
    for reply in (
        said(500, words),
        said("500", f" {words} "),
        answer({"code": 500, "msg": words}, 500),
    ):
        outcome = WIRE.created(reply)
        assert isinstance(outcome, Refused)
        assert (type(outcome.error), outcome.repeatable) == (kind, False)
        assert (outcome.error.billed, outcome.error.retryable) == ("no", False)


@pytest.mark.parametrize(
    "words",
    [
        "Server exception, please try again later",
        "Server exception, please try again later or contact customer service",
        "Internal Error",
        "",
        None,
        "Maintenance is required",
        "A restart of the service is required",
        "Error: This field is required",
        "This field is required, the task was queued",
        "The queue must be between 2 and 30 seconds",
        "Credits insufficient for the next task; this one was queued",
        "credits",
    ],
)
def test_other_words_of_code_500_are_unknown(words: str | None) -> None:
    """A phrase counts as a whole only: an outage may use the same words in passing."""
    outcome = WIRE.created(said(500, words))
    assert isinstance(outcome, Unknown)
    assert (outcome.error.code, outcome.error.words) == (500, words or "")


@pytest.mark.parametrize("words", [*INVALID, *CREDITS])
def test_phrases_outside_the_body_of_code_500_are_unknown(words: str) -> None:
    """As plain text, or with another code, they prove nothing."""
    assert isinstance(WIRE.created(answer(words, 500)), Unknown)
    assert isinstance(WIRE.created(answer({"msg": words}, 500)), Unknown)
    assert isinstance(WIRE.created(said(503, words)), Unknown)


@pytest.mark.parametrize(
    ("reply", "code", "task_id"),
    [
        (answer(b""), 200, None),
        (answer("<html>welcome</html>"), 200, None),
        (answer("OK"), 200, None),
        (answer("null"), 200, None),
        (answer("[]"), 200, None),
        (answer({}), 200, None),
        (said(200, "success", None), 200, None),
        (said(200, "success", []), 200, None),
        (said(200, "success", ID), 200, None),
        (said(200, "success", {"taskId": None}), 200, None),
        (said(200, "success", {"taskId": ""}), 200, None),
        (said(200, "success", {"taskId": " "}), 200, None),
        (said(200, "success", {"taskId": "null"}), 200, None),
        (said(200, "success", {"taskId": "a b"}), 200, None),
        (said(200, "success", {"taskId": "a\nb"}), 200, None),
        (said(200, "success", {"taskId": "a\ud800"}), 200, None),
        (said(200, "success", {"taskId": "x" * 257}), 200, None),
        (said(200, "success", {"taskId": True}), 200, None),
        (said(200, "success", {"taskId": [ID]}), 200, ID),
        (said(0, "ok", None), 0, None),
        (said(-1, "busy", None), -1, None),
        (said(100, "continue", None), 100, None),
        (answer(b"", 204), 204, None),
        (answer(b"", 307, location="https://evil.example/"), 307, None),
        (said(408, "timeout"), 408, None),
        (said(409, "conflict"), 409, None),
        (said(418, "teapot"), 418, None),
        (said(501, "failed"), 501, None),
        (said(502, "bad"), 502, None),
        (said(999, "what"), 999, None),
        (said(10**20, "what"), 10**20, None),
        # An id that is seen anywhere is not lost.
        (answer(f'{{"code":200,"msg":"success","data":{{"taskId":"{ID}","rec'), 200, ID),
        (answer(f'{{"code":200,"data":{{"taskId":"{ID}"}}}}{{"code":500}}'), 200, ID),
        (answer(f'<p>{{"taskId": "{ID}"}}</p>', 502), 502, ID),
        (answer(f'{{"code":200,"data":{{"taskId":"{ID}","taskId":""}}}}'), 200, ID),
        (said(200, "success", {"task": {"taskId": ID}}), 200, ID),
        (said(200, "success", json.dumps({"taskId": ID})), 200, ID),
        (said(200, "success", [{"TaskID": ID}]), 200, ID),
        (said(200, "success", {"taskId": 1234567}), 200, "1234567"),
        (said(200, "success", {"taskId": 12.5}), 200, None),
        (said(500, "Server exception", {"taskId": ID}), 500, ID),
        (said(422, "The input cannot be null", {"taskId": ID}), 422, ID),
        (said(500, "This field is required", {"recordId": ID}), 500, ID),
        (said(429, "slow down", {"task": {"taskId": ID}}), 429, ID),
        (said(0, "ok", {"taskId": ID}), 0, ID),
        (answer(f'{{"taskId":"{ID}"', 404), 404, ID),
        (said(200, "success", {"taskId": KEY + "\n"}), 200, None),
    ],
    ids=lambda value: ascii(getattr(value, "body", value))[:60],
)
def test_everything_else_is_unknown(reply: Answer, code: int, task_id: str | None) -> None:
    """The task may exist: the error says so, keeps code and id, and is never repeated."""
    outcome = WIRE.created(reply)
    assert isinstance(outcome, Unknown)
    error = outcome.error
    assert (error.code, error.task_id, error.billed, error.retryable) == (
        code,
        task_id,
        "unknown",
        False,
    )


@given(st.binary() | st.text().map(str.encode), st.integers(100, 599))
@quick
def test_no_bytes_are_made_or_refused_by_chance(body: bytes, status: int) -> None:
    """Bytes without an envelope are a refusal by their status or unknown, never a task."""
    outcome = WIRE.created(answer(body, status))
    assert not isinstance(outcome, Made)
    if isinstance(outcome, Refused):
        assert status in REFUSALS


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(ID),
    lambda values: st.lists(values, max_size=4) | st.dictionaries(st.text(), values, max_size=4),
    max_leaves=8,
)
ENVELOPES = st.fixed_dictionaries(
    {},
    optional={
        "code": JSON | st.sampled_from([200, 422, 500, "200", 0]),
        "msg": JSON | st.sampled_from([*INVALID, *CREDITS]),
        "data": JSON | st.dictionaries(st.sampled_from(["taskId", "recordId", "url"]), JSON),
        "success": JSON,
    },
)


@given(ENVELOPES, st.integers(100, 599))
@quick
def test_the_three_outcomes_keep_their_promise(body: dict[str, Any], status: int) -> None:
    """Made has a usable id, Refused cost nothing and saw no id, Unknown says unknown."""
    outcome = WIRE.created(answer(body, status))
    if isinstance(outcome, Made):
        assert outcome.task_id.isprintable()
        assert outcome.task_id.split() == [outcome.task_id]
    elif isinstance(outcome, Refused):
        assert outcome.error.billed == "no"
        assert outcome.error.task_id is None
        assert outcome.error.code in {*REFUSALS, 500}
    else:
        assert outcome.error.billed == "unknown"
        assert str(outcome.error).isprintable()
        assert pickle.loads(pickle.dumps(outcome.error)).words == outcome.error.words


# -- recordInfo -----------------------------------------------------------------------------

PENDING = {
    "taskId": ID,
    "model": "topaz/video-upscale",
    "state": "waiting",
    "param": json.dumps(
        {
            "input": json.dumps(
                {"video_url": "https://files.example/clip.mp4?s=1", "upscale_factor": "2"}
            ),
            "model": "topaz/video-upscale",
        }
    ),
    "resultJson": "",
    "failCode": None,
    "failMsg": None,
    "costTime": None,
    "completeTime": None,
    "createTime": 1790000000000,
}
SUCCESS = {
    **PENDING,
    "state": "success",
    "resultJson": json.dumps({"resultUrls": [LINK]}),
    "costTime": 64,
    "completeTime": 1790000064000,
    "creditsConsumed": 80.5,
    "operationType": "topaz/video-upscale",
    "successFlag": 1,
    "paramJson": PENDING["param"],
    "response": {"resultUrls": [LINK]},
}
CREATED = datetime(2026, 9, 21, 14, 13, 20, tzinfo=UTC)


def record(data: object, task_id: str = ID) -> TaskRecord:
    return WIRE.record(said(200, "success", data), task_id)


def test_a_pending_record() -> None:
    """Every field of a recorded answer, in our words."""
    found = record(PENDING)
    assert found == TaskRecord(ID, "waiting", model="topaz/video-upscale", created_at=CREATED)
    assert (found.raw, found.result, found.duration) == (PENDING, {}, None)


def test_a_success() -> None:
    """Links, times as aware UTC, cost; unknown fields stay in `raw`."""
    found = record(SUCCESS)
    assert found == TaskRecord(
        ID,
        "success",
        model="topaz/video-upscale",
        result_urls=(LINK,),
        created_at=CREATED,
        completed_at=CREATED + timedelta(seconds=64),
        cost_time=64.0,
        credits_consumed=80.5,
    )
    assert (found.raw, found.result) == (SUCCESS, {"resultUrls": [LINK]})
    assert found.duration == 64.0


def test_a_failure() -> None:
    """Code and words of the task, not of the envelope; null times are None."""
    data = {**PENDING, "state": "fail", "failCode": "422", "failMsg": "task id is blank"}
    found = record({**data, "creditsConsumed": 0})
    assert (found.state.is_fail, found.fail_code, found.fail_message) == (
        True,
        "422",
        "task id is blank",
    )
    assert (found.completed_at, found.credits_consumed) == (None, 0.0)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"failCode": 500}, {"fail_code": "500"}),
        ({"failCode": ""}, {"fail_code": None}),
        ({"failCode": "GENERATION_FAILED"}, {"fail_code": "GENERATION_FAILED"}),
        ({"failCode": True}, {"fail_code": None}),
        ({"failCode": ["422"]}, {"fail_code": None}),
        ({"failMsg": ""}, {"fail_message": None}),
        ({"failMsg": 5}, {"fail_message": None}),
        ({"failMsg": "a\x1b[0m\nb"}, {"fail_message": "a [0m b"}),
        ({"failMsg": "x" * 9999}, {"fail_message": "x" * 499 + "…"}),
        ({"model": None}, {"model": None}),
        ({"model": 5}, {"model": None}),
        ({"costTime": "64"}, {"cost_time": None}),
        ({"costTime": True}, {"cost_time": None}),
        ({"costTime": 15000}, {"cost_time": 15000.0}),
        ({"creditsConsumed": "80"}, {"credits_consumed": None}),
        ({"creditsConsumed": 0}, {"credits_consumed": 0.0}),
        ({"progress": 40}, {"progress": 40.0}),
        ({"progress": {}}, {"progress": None}),
        ({"createTime": "1790000000000"}, {"created_at": None}),
        ({"createTime": 10**18}, {"created_at": None}),
        ({"createTime": -(10**18)}, {"created_at": None}),
        ({"createTime": 10**29}, {"created_at": None}),
        ({"createTime": True}, {"created_at": None}),
        ({"createTime": 1790000000000.5}, {"created_at": CREATED + timedelta(microseconds=500)}),
        ({"completeTime": None, "updateTime": 1790000000000}, {"updated_at": CREATED}),
        ({"task_id": "other", "raw": 1, "result_urls": [LINK]}, {"result_urls": ()}),
    ],
)
def test_a_field_that_informs_is_read_or_left_out(fields: dict, expected: dict) -> None:
    """What is not of its type is None; nothing is made up."""
    found = record({**PENDING, **fields})
    assert {name: getattr(found, name) for name in expected} == expected
    assert found.task_id == ID


@pytest.mark.parametrize(
    ("result", "response", "urls"),
    [
        (json.dumps({"resultUrls": [LINK]}), None, (LINK,)),
        ({"resultUrls": [LINK]}, None, (LINK,)),
        (json.dumps(json.dumps({"resultUrls": [LINK]})), None, (LINK,)),
        (json.dumps([LINK]), None, (LINK,)),
        ([LINK], None, (LINK,)),
        (LINK, None, (LINK,)),
        ({"resultUrls": LINK}, None, (LINK,)),
        ({"resultUrls": json.dumps([LINK])}, None, (LINK,)),
        ({"resultUrls": [LINK, LINK, LINK + "2"]}, None, (LINK, LINK + "2")),
        ({"resultUrls": [None, 5, "", {}, LINK]}, None, (LINK,)),
        ({"resultUrls": [f" {LINK} "]}, None, (LINK,)),
        ({"resultUrls": ["https://r.example/a b.mp4"]}, None, ("https://r.example/a%20b.mp4",)),
        ({"resultUrls": ["http://r.example/o.mp4"]}, None, ("http://r.example/o.mp4",)),
        ({"videoUrl": LINK, "url": "https://r.example/2"}, None, (LINK,)),
        ({"resultUrls": [], "url": LINK}, None, (LINK,)),
        # `response` holds the same, parsed, where resultJson is of no use.
        ("", {"resultUrls": [LINK]}, (LINK,)),
        (None, {"resultUrls": [LINK]}, (LINK,)),
        ("{broken", {"resultUrls": [LINK]}, (LINK,)),
        ({"resultUrls": []}, {"resultUrls": [LINK]}, (LINK,)),
        (5, json.dumps({"resultUrls": [LINK]}), (LINK,)),
        # Nothing usable.
        ("", None, ()),
        ("null", None, ()),
        ("[" * 100_000, None, ()),
        ({"resultObject": {"text": "x"}}, None, ()),
        ({"resultUrls": ["ftp://r.example/o.mp4"]}, None, ()),
        ({"resultUrls": ["file:///etc/passwd", "javascript:alert(1)", "/o.mp4"]}, None, ()),
        ({"resultUrls": ["https://"]}, None, ()),
        ({"resultUrls": ["https://[bad/o.mp4"]}, None, ()),
        ({"resultUrls": ["https://r.example/a\nb.mp4"]}, None, ()),
        ({"resultUrls": ["https://r.example/" + "x" * 9000]}, None, ()),
        (True, False, ()),
    ],
    ids=lambda value: ascii(value)[:60],
)
def test_where_links_are_found(result: object, response: object, urls: tuple[str, ...]) -> None:
    """In `resultJson` of any shape, then in `response`; never in `param`; web links only."""
    found = record({**SUCCESS, "resultJson": result, "response": response})
    assert found.result_urls == urls
    assert found.state.is_success


@pytest.mark.parametrize(
    ("state", "linked", "expected"),
    [
        ("waiting", True, "waiting"),
        ("SUCCESS", True, "SUCCESS"),
        (" Success ", True, "Success"),
        ("archiving", False, "archiving"),
        ("a\x00b", False, "a b"),
        ("x" * 200, False, "x" * 79 + "…"),
        (None, False, "unknown"),
        (None, True, "success"),
        ("", True, "success"),
        (3, False, "unknown"),
        (["success"], False, "unknown"),
    ],
)
def test_the_state_is_an_open_word(state: object, linked: bool, expected: str) -> None:
    """Kept as it is spelled; where it is missing, links tell."""
    result = {"resultUrls": [LINK]} if linked else ""
    data = {**PENDING, "state": state, "resultJson": result}
    assert record(data).state == expected
    del data["state"]
    assert record(data).state == ("success" if linked else "unknown")


@given(
    st.dictionaries(
        st.sampled_from([*SUCCESS, "updateTime", "progress"]),
        JSON | st.integers(-(10**40), 10**40) | st.floats(),
    )
)
@quick
def test_no_value_breaks_a_success(fields: dict[str, Any]) -> None:
    """Whatever stands in the fields that inform, the state and the links come through."""
    fields = {**fields, "taskId": ID, "state": "success", "response": {"resultUrls": [LINK]}}
    found = record({**SUCCESS, "resultJson": "", **fields})
    assert found.state.is_success
    assert found.result_urls[-1:] == (LINK,) or "resultJson" in fields
    assert pickle.loads(pickle.dumps(found)) == found
    assert repr(found).isprintable()


@pytest.mark.parametrize(
    "reply",
    [
        said(422, "recordInfo is null"),
        said(422, " RecordInfo is null. "),
        answer({"code": 422, "msg": "recordInfo is null"}, 422),
        answer({"message": "recordInfo is null"}, 422),
        said(404, "Task not found"),
        said(200, "success", None),
    ],
)
def test_no_record_is_not_found(reply: Answer) -> None:
    """However the service says that it has none."""
    with pytest.raises(TaskNotFoundError) as caught:
        WIRE.record(reply, ID)
    assert (caught.value.task_id, caught.value.billed) == (ID, "unknown")


@pytest.mark.parametrize(
    ("reply", "kind", "retryable"),
    [
        (said(401, "Unauthorized"), AuthenticationError, False),
        (said(422, "The input cannot be null"), ValidationError, False),
        (said(429, "Rate limit exceeded"), RateLimitError, True),
        (answer(b"", 429), RateLimitError, True),
        (said(433, "quota"), KeyQuotaError, False),
        (said(455, "maintenance"), MaintenanceError, True),
        (said(500, "Server exception"), ServerError, True),
        (said(500, "This field is required"), ValidationError, False),
        (said(408, "timeout"), ServerError, True),
        (said(501, "failed"), GenerationError, True),
        (answer("<html>Bad Gateway</html>", 502), ServerError, True),
        (answer("error code: 1010", 403), EdgeBlockedError, False),
        (answer({"error": "Not Found"}, 404), NotFoundError, False),
        (said(418, "teapot"), ApiError, False),
        (said(-1, "busy"), ResponseError, False),
        (answer(b"", 302), ResponseError, False),
        (answer(b""), ResponseError, True),
        (answer("<html>welcome</html>"), ResponseError, True),
        (answer("[]"), ResponseError, True),
        (answer({}), ResponseError, True),
        (answer({"code": 200}), ResponseError, True),
        (answer({"data": None}), ResponseError, True),
        (said(200, "success", []), ResponseError, True),
        (said(200, "success", "x"), ResponseError, True),
        (said(200, "success", 5), ResponseError, True),
        (said(200, "success", {**SUCCESS, "taskId": "another"}), ResponseError, True),
    ],
    ids=lambda value: ascii(getattr(value, "body", value))[:60],
)
def test_an_answer_that_is_no_record(reply: Answer, kind: type, retryable: bool) -> None:
    """A typed error that names the task and claims nothing about its cost."""
    with pytest.raises(TopazError) as caught:
        WIRE.record(reply, ID)
    error = caught.value
    assert (type(error), error.retryable, error.task_id, error.billed) == (
        kind,
        retryable,
        ID,
        "unknown",
    )


@pytest.mark.parametrize("state", ["fail", "success"])
@pytest.mark.parametrize(("status", "code"), [(200, 501), (200, 500), (500, 500), (200, None)])
def test_an_end_counts_whatever_code_stands_around_it(
    status: int, code: int | None, state: str
) -> None:
    """Newer pages list 501 for a question about a failed task; its record says it better."""
    data = {**SUCCESS, "state": state, "failMsg": "Generation failed" if state == "fail" else None}
    reply = answer({"code": code, "msg": "failed", "data": data}, status)
    assert WIRE.failure("recordInfo", reply) is None  # so it is not asked again
    found = WIRE.record(reply, ID)
    assert (state, data["failMsg"]) == (found.state, found.fail_message)


@pytest.mark.parametrize("changes", [{"state": "generating"}, {"taskId": "t2"}, {"state": None}])
def test_what_is_no_end_does_not_count(changes: dict[str, Any]) -> None:
    """Nor does the end of another task."""
    with pytest.raises(GenerationError):
        WIRE.record(said(501, "failed", {**SUCCESS, "state": "fail", **changes}), ID)


@pytest.mark.parametrize(
    ("code", "msg"),
    [(402, "Credits insufficient"), (422, "bad taskId"), (400, "no"), (500, "model is required")],
)
def test_a_refused_question_is_no_reason_to_submit_again(code: int, msg: str) -> None:
    """The task goes on: hints that are right for createTask would make its caller pay twice."""
    with pytest.raises(TopazError) as caught:
        WIRE.record(said(code, msg), ID)
    assert caught.value.hint is not None
    assert f"wait_for_result('{ID}')" in caught.value.hint
    assert "do not submit again" in caught.value.hint


def test_times_in_seconds() -> None:
    """One page's example has them; taken for milliseconds they lie in 1970, and links are old."""
    found = record({**SUCCESS, "createTime": 1790000000, "completeTime": 1790000064})
    assert (CREATED, CREATED + timedelta(seconds=64)) == (found.created_at, found.completed_at)


@given(st.binary() | st.text().map(str.encode) | ENVELOPES, st.integers(100, 599))
@quick
def test_no_answer_raises_anything_but_ours(body: object, status: int) -> None:
    """Every parser, on any bytes: a value or a `TopazError` that prints and pickles."""
    reply = answer(body, status)
    WIRE.created(reply)
    WIRE.failure("credit", reply)
    for parse in (lambda r: WIRE.record(r, ID), WIRE.balance, WIRE.uploaded, WIRE.renewed):
        with contextlib.suppress(TopazError):
            parse(reply)


@pytest.mark.parametrize(
    "body",
    [b"\\" * 1_000_000, b'{"msg":"' + b"\\" * 1_000_000 + b'"}', b'{"msg":"%25%25' * 90_000,
     b"<" * 1_000_000, b"<script" * 150_000, b"[" * 1_000_000, b'"taskId":' * 110_000,
     b'"taskId"' + b" " * 1_000_000, b'{"code":' + b"9" * 1_000_000 + b"}",
     b'{"code":200,"data":{"state":"success","resultJson":"' + b"[" * 1_000_000 + b'"}}'],
    ids=lambda body: body[:20].decode(),
)  # fmt: skip
def test_no_body_is_chewed_on_for_long(body: bytes) -> None:
    """A megabyte of the worst is read in time that grows with its length alone."""
    began = time.process_time()
    WIRE.created(answer(body))
    with contextlib.suppress(TopazError):
        WIRE.record(answer(body), ID)
    assert time.process_time() - began < 2


# -- the other answers ----------------------------------------------------------------------


@pytest.mark.parametrize("data", [5916.25, 100, 0, -1.5])
def test_a_balance_is_a_bare_number(data: float) -> None:
    """Credits have fractions, and the documents show whole ones."""
    assert WIRE.balance(said(200, "success", data)) == data


@pytest.mark.parametrize("data", [None, True, "100", [], {"credits": 5}])
def test_anything_else_is_no_balance(data: object) -> None:
    """Nothing is guessed."""
    with pytest.raises(ResponseError, match=r"^The answer to credit is not what.*: its data is "):
        WIRE.balance(said(200, "success", data))


UPLOADED = {
    "success": True,
    "fileName": "clip.mp4",
    "filePath": "kieai/100001/videos/clip.mp4",
    "downloadUrl": "https://tempfile.redpandaai.co/kieai/100001/videos/clip.mp4",
    "fileSize": 1048576,
    "mimeType": "video/mp4",
    "uploadedAt": "2026-10-01T07:46:53.882Z",
}


def upload_answer(data: object, **envelope: object) -> Answer:
    return answer({"success": True, "code": 200, "msg": "File uploaded successfully", "data": data,
                   **envelope})  # fmt: skip


def test_an_upload_gives_its_link() -> None:
    """`downloadUrl` is what createTask takes; the rest informs."""
    file = WIRE.uploaded(upload_answer(UPLOADED))
    assert file == UploadedFile(
        UPLOADED["downloadUrl"],
        name="clip.mp4",
        size=1048576,
        mime_type="video/mp4",
        uploaded_at=datetime(2026, 10, 1, 7, 46, 53, 882000, tzinfo=UTC),
    )
    assert file.raw == UPLOADED


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"downloadUrl": None, "fileUrl": "https://b.example/c.mp4"}, ("url",
         "https://b.example/c.mp4")),
        (
            {"downloadUrl": "https://b.example/c.mp4", "fileUrl": "https://b.example/d.mp4"},
            ("url", "https://b.example/c.mp4"),
        ),
        ({"downloadUrl": "https://b.example/a b.mp4"}, ("url", "https://b.example/a%20b.mp4")),
        ({"uploadedAt": "0001-01-01T00:00:00+23:59"}, ("uploaded_at", None)),
        ({"uploadedAt": "2026-10-01T07:00:00"}, ("uploaded_at", datetime(2026, 10, 1, 7,
         tzinfo=UTC))),
        ({"uploadedAt": "2026-10-01T09:00:00+02:00"}, ("uploaded_at", datetime(2026, 10, 1, 7,
         tzinfo=UTC))),
        ({"uploadedAt": 5}, ("uploaded_at", None)),
        ({"uploadedAt": "soon"}, ("uploaded_at", None)),
        ({"fileSize": "5"}, ("size", None)),
        ({"fileSize": True}, ("size", None)),
        ({"fileName": ["a"]}, ("name", None)),
        ({"mimeType": None}, ("mime_type", None)),
    ],
)  # fmt: skip
def test_an_upload_survives_what_only_informs(fields: dict, expected: tuple[str, object]) -> None:
    """Only the link must be there."""
    name, value = expected
    assert getattr(WIRE.uploaded(upload_answer({**UPLOADED, **fields})), name) == value


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (answer({"success": False, "code": 400, "msg": "Missing parameter"}), ValidationError),
        (answer({"success": False, "msg": "no"}), UploadError),
        (upload_answer(UPLOADED, success=False), UploadError),
        (upload_answer({**UPLOADED, "success": False}), UploadError),
        (upload_answer(None), UploadError),
        (upload_answer([]), UploadError),
        (upload_answer({}), UploadError),
        (upload_answer({"downloadUrl": "ftp://b.example/c.mp4"}), UploadError),
        (upload_answer({"downloadUrl": "http://b.example/c.mp4"}), UploadError),
        (upload_answer({"downloadUrl": "https://u:p@b.example/c.mp4"}), UploadError),
        (answer("<html>"), ResponseError),
        (answer("error code: 1010", 403), EdgeBlockedError),
        (answer("too large", 413), ValidationError),
    ],
    ids=lambda value: ascii(getattr(value, "body", value))[:60],
)
def test_an_upload_that_gave_no_link(reply: Answer, kind: type[TopazError]) -> None:
    """Status, code and both success flags are looked at; uploads are free."""
    with pytest.raises(TopazError) as caught:
        WIRE.uploaded(reply)
    assert (type(caught.value), caught.value.billed) == (kind, "no")


@pytest.mark.parametrize("data", [LINK, {"url": LINK}])
def test_a_fresh_link(data: object) -> None:
    """A bare text, or what other clients expect."""
    assert WIRE.renewed(said(200, "success", data)) == LINK


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (said(422, "url is wrong"), ValidationError),
        (said(200, "success", None), ResponseError),
        (said(200, "success", {}), ResponseError),
        (said(200, "success", "gone"), ResponseError),
    ],
)
def test_no_fresh_link(reply: Answer, kind: type[TopazError]) -> None:
    """A link of another origin is refused by the service; nonsense by us."""
    with pytest.raises(kind):
        WIRE.renewed(reply)


PARAM_INPUT = {"video_url": "https://files.example/clip.mp4?s=1", "upscale_factor": 2, "seed": 7}


@pytest.mark.parametrize(
    ("param", "expected"),
    [
        (
            json.dumps({"model": "topaz/video-upscale", "input": json.dumps(PARAM_INPUT)}),
            {"video_url": "https://files.example/clip.mp4", "factor": "2"},
        ),
        (
            {"model": "topaz/video-upscale", "input": PARAM_INPUT},
            {"video_url": "https://files.example/clip.mp4", "factor": "2"},
        ),
        ("{broken", {}),
        (None, {}),
        (5, {}),
        ({"model": "topaz/video-upscale", "input": [1]}, {}),
    ],
)
def test_what_a_task_was_made_of(param: object, expected: dict[str, str]) -> None:
    """`param` in either shape, without what the service added, as journals keep it."""
    found = record({**PENDING, "param": param})
    assert WIRE.sent_input(found) == ("topaz/video-upscale", expected)


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (said(200), None),
        (answer({}), None),
        (said(500, "Server exception"), ServerError),
        (answer("<html>", 200), ResponseError),
        (answer("<html>", 503), ServerError),
        (answer(b"", 204), ResponseError),
    ],
)
def test_the_judge_of_questions(reply: Answer, kind: type[TopazError] | None) -> None:
    """A page is a failure even at HTTP 200: the question may be asked again."""
    found = WIRE.failure("credit", reply)
    assert (type(found) if found else None) is kind


# -- Retry-After ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry_after": "7"}, 7.0),
        ({"retry_after": " 2.5 "}, 2.5),
        ({"retry_after": "0"}, 0.0),
        ({"retry_after": "999999999"}, 999999999.0),
        ({"retry_after": "9999999999"}, None),
        ({"retry_after": "-5"}, None),
        ({"retry_after": "٧"}, None),
        ({"retry_after": "nan"}, None),
        ({"retry_after": "1e9"}, None),
        ({"retry_after": "soon"}, None),
        ({"retry_after": "Sun, 22 Nov 2026 12:00:30 GMT"}, 30.0),
        ({"retry_after": "Sun, 22 Nov 2026 11:00:00 GMT"}, 0.0),
        (
            {
                "retry_after": "Sun, 22 Nov 2026 15:00:30 GMT",
                "date": "Sun, 22 Nov 2026 15:00:00 GMT",
            },
            30.0,
        ),
        ({"retry_after": "Sun, 22 Nov 2026 12:00:30 GMT", "date": "yesterday"}, 30.0),
        ({"retry_after": "Sun, 22 Nov 2026 12:00:30 -0000"}, 30.0),
        ({"retry_after": "Jan 2026 24:00 +99999999999999 -2359"}, None),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    """Seconds, or a date that counts from the answer's own; no sense is none."""
    told = answer(b"", 429, **headers)
    assert retry_after(told.headers, told.received_at) == seconds


@given(st.text(), st.text())
@quick
def test_any_retry_after_is_none_or_seconds(value: str, date: str) -> None:
    """No text raises, and no pause is negative."""
    told = answer(b"", 429, retry_after=value, date=date)
    seconds = retry_after(told.headers, told.received_at)
    assert seconds is None or seconds >= 0


@pytest.mark.parametrize("code", [429, 455, 503])
def test_an_error_carries_the_pause_that_was_asked_for(code: int) -> None:
    """Whoever repeats the request reads it there."""
    found = WIRE.failure("credit", answer({"code": code}, 200, retry_after="12"))
    assert isinstance(found, ApiError)
    assert found.retry_after == 12.0


# -- words and secrets ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        (
            said(402, "The current credits are insufficient. Please top up."),
            "The service answered createTask with code 402: The current credits are "
            "insufficient. Please top up. Nothing was billed. Top up the account, then submit "
            "again.",
        ),
        (
            said(500, "This field is required"),
            "The service answered createTask with code 500: This field is required. Nothing was "
            "billed. Correct the input; the service's words say what it misses.",
        ),
        (
            answer("error code: 1010", 403),
            "The service answered createTask with HTTP 403: text instead of JSON (error code: "
            "1010). Nothing was billed. The network in front of the service refused this "
            "machine; the key is not why.",
        ),
        (
            said(401),
            "The service answered createTask with code 401: no words. Nothing was billed. Check "
            "the API key (KIE_API_KEY).",
        ),
        (
            answer("<h1>Bad Gateway</h1>", 502),
            "The service answered createTask with HTTP 502: a page instead of JSON (Bad "
            "Gateway). The task may have been billed.",
        ),
        (
            answer(b""),
            "The service answered createTask with HTTP 200: an empty body. The task may have "
            "been billed.",
        ),
        (
            said(200, "success", {"id": 5}),
            "The service said yes to createTask and named no task that is fit: "
            '{"code": 200, "msg": "success", "data": {"id": 5}}. The task may have been billed.',
        ),
        (
            said(500, "Server exception", {"taskId": ID}),
            f"The answer leaves a doubt and names task {ID}. The service answered createTask "
            "with code 500: Server exception. The task may have been billed.",
        ),
    ],
)
def test_a_submit_that_failed_reads_aloud(reply: Answer, text: str) -> None:
    """What happened, in the service's words; what it cost; what to do next."""
    outcome = WIRE.created(reply)
    assert isinstance(outcome, (Refused, Unknown))
    assert str(outcome.error) == text


def test_a_failed_question_reads_aloud() -> None:
    """A poll that failed does not say that nothing was billed: the task may be."""
    with pytest.raises(TopazError) as caught:
        WIRE.record(said(500, "Server exception, please try again later"), ID)
    assert str(caught.value) == (
        "The service answered recordInfo with code 500: Server exception, please try again "
        "later. The task may have been billed. Wait, then try again."
    )


ESCAPED = "".join(f"\\u{ord(letter):04x}" for letter in KEY)


@pytest.mark.parametrize(
    "hidden", [KEY, f"Bearer {KEY}", ESCAPED, "\x00".join(KEY), KEY[:6] + "\n" + KEY[6:]]
)
def test_the_key_comes_out_nowhere(hidden: str) -> None:
    """Quoted in words, data, JSON in JSON or a page: not in text, repr, raw or pickle."""
    inner = json.dumps({"input": json.dumps({"auth": hidden, "resultUrls": [hidden]})})
    data = {**SUCCESS, "param": inner, "paramJson": inner, "resultJson": inner, hidden: hidden,
            "failMsg": hidden, "model": hidden, "response": {"x": [hidden]}}  # fmt: skip
    values: list[object] = [record(data)]
    values += [WIRE.uploaded(upload_answer({**UPLOADED, "fileName": hidden, "x": hidden}))]
    values += [WIRE.sent_input(record(data))]
    for reply in (
        said(401, hidden),
        said(500, hidden, hidden),
        said(200, hidden, {"x": hidden}),
        answer(f"<p>{hidden}</p>", 502),
        answer(f'{{"msg":"{hidden}', 200),
        said(200, "success", {"taskId": KEY + "\n"}),
        answer(f'{{"taskId":"{KEY}",', 200),
    ):
        outcome = WIRE.created(reply)
        assert isinstance(outcome, (Refused, Unknown))
        values += [outcome.error, vars(outcome.error), str(outcome.error)]
        values += [WIRE.failure("credit", reply)]
    for value in values:
        for text in (repr(value), repr(pickle.dumps(value)), repr(getattr(value, "raw", ""))):
            plain = text.replace("\\x00", "").replace("\\n", "").replace("\\\\", "\\")
            while "\\\\" in plain:
                plain = plain.replace("\\\\", "\\")
            assert KEY not in plain
            assert ESCAPED not in plain


def test_the_wire_shows_nothing_of_its_redaction() -> None:
    """Its repr holds origins and timeouts alone."""
    assert "redact" not in repr(WIRE)
