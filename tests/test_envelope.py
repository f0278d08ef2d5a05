"""The outer `{code, msg, data}`, read from any bytes; texts without our secrets."""

from __future__ import annotations

import json
import math

import attrs
import pytest
from hypothesis import given, settings, strategies as st

from topaz_async.envelope import loads, open_envelope
from topaz_async.texts import thorough

KEY = "kie-0f1e2d3c4b5a"
NULL = {"code": 422, "msg": "recordInfo is null", "data": None}


def redact(text: str) -> str:
    return text.replace(KEY, "[key]")


def opened(body: bytes | str | object, status: int = 200) -> tuple[object, ...]:
    """Return code, whether it stood in the body, words and data."""
    if isinstance(body, str):
        body = body.encode()
    elif not isinstance(body, bytes):
        body = json.dumps(body).encode()
    envelope = open_envelope(status, body)
    return envelope.code, envelope.in_body, envelope.words, envelope.data


@pytest.mark.parametrize(
    ("body", "status", "expected"),
    [
        (NULL, 200, (422, True, "recordInfo is null", None)),
        ({"code": 200, "msg": "success", "data": {"x": 1}}, 200, (200, True, "success", {"x": 1})),
        ({"code": 401, "msg": "Unauthorized"}, 200, (401, True, "Unauthorized", None)),
        # The effective code: the body's whole number, else the status.
        ({"code": "429"}, 200, (429, True, "", None)),
        ({"code": " 455 "}, 200, (455, True, "", None)),
        ({"code": 500.0}, 200, (500, True, "", None)),
        ({"code": 0}, 200, (0, True, "", None)),
        ({"code": -1}, 200, (-1, True, "", None)),
        ({"code": "-1"}, 200, (-1, True, "", None)),
        ({"code": 10**20}, 200, (10**20, True, "", None)),
        ({"code": 200}, 502, (200, True, "", None)),
        ({"code": True}, 503, (503, False, "", None)),
        ({"code": None}, 503, (503, False, "", None)),
        ({"code": "OK"}, 503, (503, False, "", None)),
        ({"code": ""}, 503, (503, False, "", None)),
        ({"code": "٢٠٠"}, 503, (503, False, "", None)),
        ({"code": 1.5}, 503, (503, False, "", None)),
        ({"code": [200]}, 503, (503, False, "", None)),
        ('{"code": 1e300}', 503, (503, False, "", None)),
        ('{"code": NaN}', 503, (503, False, "", None)),
        ('{"code": ' + "9" * 5000 + "}", 503, (503, False, "", None)),
        ('{"code": 500, "code": 200}', 503, (200, True, "", None)),
        # The words: msg, message, error, the first that says something.
        ({"msg": "a", "message": "b", "error": "c"}, 404, (404, False, "a", None)),
        ({"msg": "", "message": "b"}, 404, (404, False, "b", None)),
        ({"msg": None, "message": 5, "error": "c"}, 404, (404, False, "c", None)),
        ({"msg": ["a"], "error": {"message": "x"}}, 404, (404, False, "", None)),
        ({"msg": "a\x1b[31m\nb\u202e"}, 404, (404, False, "a [31m b", None)),
        (
            {
                "timestamp": 1,
                "status": 404,
                "error": "Not Found",
                "message": "No message available",
            },
            404,
            (404, False, "No message available", None),
        ),
        # What is no JSON object.
        (b"", 200, (200, False, "an empty body", None)),
        (b" \r\n ", 200, (200, False, "an empty body", None)),
        (b"\xef\xbb\xbf" + json.dumps(NULL).encode(), 200, (422, True, "recordInfo is null", None)),
        ("error code: 1010", 403, (403, False, "text instead of JSON (error code: 1010)", None)),
        (
            "<!DOCTYPE html>\n<html><head><style>b{}</style><script>x()</script>"
            "<title>502  Bad\nGateway</title></head></html>",
            502,
            (502, False, "a page instead of JSON (502 Bad Gateway)", None),
        ),
        ("<html>", 502, (502, False, "a page instead of JSON", None)),
        ('{"code":200,"da', 200, (200, False, 'broken JSON ({"code":200,"da)', None)),
        ('{"a":1}{"b":2}', 200, (200, False, 'broken JSON ({"a":1}{"b":2})', None)),
        ("[" * 100_000, 200, (200, False, f"broken JSON ({'[' * 119}…)", None)),
        ('{"a":' * 100_000, 200, (200, False, "broken JSON (" + ('{"a":' * 24)[:119] + "…)", None)),
        ("[1]", 200, (200, False, "JSON that is no object ([1])", None)),
        ("null", 200, (200, False, "JSON that is no object (null)", None)),
        ('"x"', 200, (200, False, 'JSON that is no object ("x")', None)),
        (b"\xff\xfe{\x00}\x00", 200, (200, False, "text instead of JSON (��{ })", None)),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_what_an_answer_says_before_its_data_is_read(
    body: object, status: int, expected: tuple[object, ...]
) -> None:
    """Effective code, where it stood, words fit to print, and the payload."""
    assert opened(body, status) == expected


@given(st.binary() | st.text().map(str.encode), st.integers(100, 599))
@settings(deadline=None, database=None)
def test_any_bytes_make_an_envelope(body: bytes, status: int) -> None:
    """Nothing is raised, and the words are printable and short."""
    envelope = open_envelope(status, body)
    assert envelope.words.isprintable()
    assert len(envelope.words) <= 500


def test_a_repr_shows_no_body() -> None:
    """What the service sent is not printed by accident."""
    assert "secret" not in repr(open_envelope(200, b'{"code":200,"data":"secret"}'))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": NaN, "b": Infinity, "c": -Infinity}', {"a": None, "b": None, "c": None}),
        ('{"a": 1e999, "b": -1e999, "c": 1e-999}', {"a": None, "b": None, "c": 0.0}),
        ('{"a": ' + "9" * 30 + "}", {"a": int("9" * 30)}),
        ('{"a": ' + "9" * 5000 + ', "b": 1}', {"a": None, "b": 1}),
        ('{"a": ' + "9" * 5000 + ".5}", {"a": None}),
        ('{"a": 1, "a": 2}', {"a": 2}),
        ('"\\ud800x\\udc00"', "\ufffdx\ufffd"),
        ('{"\\ud83c\\udfac": 1}', {"🎬": 1}),
        ('{"\\ud800": 1}', {"\ufffd": 1}),
    ],
    ids=range(9),
)
def test_json_that_nobody_vouches_for(text: str, value: object) -> None:
    """Numbers beyond reason become None, the last duplicate wins, half letters are replaced."""
    assert loads(text) == value


def test_nesting_is_cut() -> None:
    """Below 32 levels there is nothing, so that nobody who walks the value falls."""
    for deep in ("[" * 500 + "]" * 500, '{"0":' * 500 + "0" + "}" * 500):
        value, depth = loads(deep), 0
        while value:
            value, depth = value[0 if isinstance(value, list) else "0"], depth + 1
        assert (value, depth) == (None, 32)


@pytest.mark.parametrize("text", ["", "{", "nul", "[" * 100_000, "{'a': 1}", "\ufeff{}"])
def test_what_is_no_json_is_a_value_error(text: str) -> None:
    """RecursionError is one as well."""
    with pytest.raises(ValueError):  # noqa: PT011  # json's own words differ by version
        loads(text)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**28), 10**28)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda values: st.lists(values) | st.dictionaries(st.text(), values),
)


@given(JSON)
@settings(deadline=None, database=None)
def test_sane_json_comes_through_as_it_is(value: object) -> None:
    """Only what is beyond reason is touched."""
    assert loads(json.dumps(value), thorough(redact)) == value


ESCAPED = "".join(f"\\u{ord(letter):04x}" for letter in KEY)


@pytest.mark.parametrize(
    "hidden",
    [
        KEY,
        f"Invalid key {KEY}!",
        ESCAPED,
        ESCAPED.replace("\\", "\\\\"),
        ESCAPED.replace("\\", "\\\\\\\\"),
        "\\x6b" + KEY[1:],
        KEY[:5] + "\x00" + KEY[5:],
        "\u200b".join(KEY),
        "\n".join(KEY),
        KEY[:5] + "\\n" + KEY[5:],
        KEY[:5] + "\\u0000" + KEY[5:],
        "".join(f"%{ord(letter):02X}" for letter in KEY),
        "".join(f"&#{ord(letter)};" for letter in KEY),
        "".join(f"&#x{ord(letter):x};" for letter in KEY),
        json.dumps({"input": json.dumps({"url": f"https://a.example/?k={ESCAPED}"})}),
    ],
)
def test_a_secret_is_found_however_it_is_written(hidden: str) -> None:
    """Escaped once or thrice, split by controls, in JSON in JSON, percent-encoded: out it goes."""
    search = thorough(redact)
    assert "[key]" in search(hidden)
    for text in (json.dumps({"code": 400, "msg": hidden, "data": {hidden: [hidden]}}), hidden):
        said = repr(attrs.asdict(open_envelope(400, text.encode(), search)))
        bare = "".join(letter for letter in json.loads(json.dumps(said)) if letter.isalnum())
        assert KEY not in said
        assert KEY.replace("-", "") not in bare
        assert ESCAPED not in said.replace("\\\\", "\\")


def test_a_number_that_is_the_secret_is_none() -> None:
    """A key of digits alone does not come out as a number either."""
    assert (
        loads('{"a": 123456789012, "b": 12}', thorough(lambda t: t.replace("123456789012", "")))[
            "a"
        ]
        is None
    )


@given(st.text())
@settings(deadline=None, database=None)
def test_a_text_without_the_secret_stays_as_it_is(text: str) -> None:
    """However many escapes it holds."""
    for innocent in (text, text.replace("a", "\\u0041%41&#65;\\\\n")):
        assert thorough(redact)(innocent) == innocent


def test_a_float_is_no_infinity() -> None:
    """No number that comes out of an answer is infinite."""
    assert not math.isinf(loads("1.7976931348623157e308"))
