"""What a callback's body claims, and the bodies that claim nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given, settings, strategies as st

from topaz_async import MalformedCallbackError
from topaz_async.notices import Notice, read_notice

ID = "0123456789abcdef0123456789abcdef"


def read(value: Any) -> tuple[str, str | None]:
    """Return what a body of JSON claims."""
    notice = read_notice(value if isinstance(value, bytes) else json.dumps(value).encode())
    return notice.task_id, notice.state


@pytest.mark.parametrize(
    "body",
    [
        {"data": {"taskId": ID}},
        {"data": {"task_id": ID}},
        {"taskId": ID},
        {"task_id": ID},
        {"taskId": ID, "data": {"task_id": ID, "callbackType": "task_completed"}},
        {"taskId": None, "data": {"taskId": ID, "task_id": None}},
        {"task_id": ID, "data": None},
        {"task_id": ID, "data": [1]},
        {"data": {"taskId": ID, "state": None}},
        {"data": {"taskId": ID, "state": " \x00"}},
    ],
)
def test_the_id_stands_in_any_of_four_places(body: Any) -> None:
    """As the market pages, the guide and their variants have it; without a state there is none."""
    assert (ID, None) == read(body)


def test_the_documented_bodies() -> None:
    """Success and failure, by `data.state`; the code does not decide."""
    for state, code in (("success", 501), ("fail", 200)):
        body = {"code": code, "msg": "", "data": {"taskId": ID, "state": state, "param": "{}"}}
        assert (ID, state) == read(body)
    notice = read_notice(json.dumps({"taskId": ID, "data": {"state": "fail"}}).encode())
    assert notice.state is not None
    assert notice.state.is_fail


BAD: list[Any] = [
    b"",
    b"null",
    b"[]",
    b'"text"',
    b"{",
    b"<html></html>",
    b"\xef\xbb\xbf" + json.dumps({"taskId": ID}).encode(),
    json.dumps({"taskId": ID}).encode("utf-16"),
    json.dumps({"taskId": ID}).encode("utf-32"),
    b'{"taskId":"\xff\xfe"}',
    b'{"taskId":"' + ID.encode() + b'","x":NaN}',
    b'{"taskId":"' + ID.encode() + b'","x":-Infinity}',
    b'{"taskId":"' + ID.encode() + b'","x":' + b"9" * 5000 + b"}",
    b'{"taskId":"' + ID.encode() + b'","x":' + b"[" * 100_000,
    b'{"taskId":"' + ID.encode() + b'","x":' + b"[" * 20_000 + b"]" * 20_000 + b"}",
    b'{"a":' * 20_000 + b"1" + b"}" * 20_000,
    b'{"taskId":"a","taskId":"b"}',
    b'{"taskId":"a","taskId":"a"}',
    b'{"taskId":"a","task\\u0049d":"a"}',
    b'{"data":{"taskId":"a","x":{"y":1,"y":2}}}',
    b'{"data":{"taskId":"a"},"data":{"taskId":"a"}}',
    {},
    {"data": {}},
    {"code": 200, "msg": "success", "data": {"state": "success"}},
    {"taskId": "a", "data": {"taskId": "b"}},
    {"taskId": "a", "task_id": "b"},
    {"data": {"taskId": "a", "task_id": "b"}},
    {"taskId": "a", "data": {"taskId": "A"}},
    {"taskId": "a", "data": {"taskId": 1}},
    {"taskId": 17},
    {"taskId": 1.5},
    {"taskId": True},
    {"taskId": [ID]},
    {"taskId": {"taskId": ID}},
    {"taskId": ""},
    {"taskId": " "},
    {"taskId": "a b"},
    {"taskId": "a\n"},
    {"taskId": "a\u202eb"},
    {"taskId": "\ud800"},
    {"taskId": "null"},
    {"taskId": "a" * 257},
    {"TaskId": ID},
]


@pytest.mark.parametrize("body", BAD, ids=lambda body: repr(body)[:60])
def test_anything_else_is_refused(body: Any) -> None:
    """No JSON, no object, no id, two ids, two keys of one name, an id that is none."""
    with pytest.raises(MalformedCallbackError):
        read(body)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["data", "taskId", "task_id", "state", "x"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=80) | _JSON.map(lambda value: json.dumps(value).encode()))
@example(b"\x00")
def test_no_bytes_raise_anything_else(body: bytes) -> None:
    """A body is a notice with one visible id, or refused."""
    try:
        notice = read_notice(body)
    except MalformedCallbackError:
        return
    assert isinstance(notice, Notice)
    assert notice.task_id.isprintable()
    assert notice.task_id
