"""What a URL may be before anything is sent to it or about it."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings, strategies as st

from topaz_async.errors import ConfigurationError, InvalidInputError
from topaz_async.urls import check_url, is_loopback, shown, without_query


@pytest.mark.parametrize(
    "url",
    [
        "https://files.example/clip.mp4",
        "HTTPS://files.example/clip.mp4?signature=a%20b#t=1",
        "https://files.example:8443/clip.mp4",
        "https://93.184.216.34/clip.mp4",
        "https://[2001:db8::1]/clip.mp4",
        "https://bücher.example/日本.mp4",
        "https://under_score.example/clip.mp4",
        "http://localhost:8080/clip.mp4",
        "http://LOCALHOST./clip.mp4",
        "http://127.0.0.1/clip.mp4",
        "http://127.8.9.1/clip.mp4",
        "http://[::1]:8080/clip.mp4",
        "http://[::ffff:127.0.0.1]/clip.mp4",
    ],
)
def test_a_fit_url_comes_back_in_parts(url: str) -> None:
    """https to any host, and plain http to this machine, are fit."""
    assert url.lower() == check_url(url, "video_url").geturl().lower()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (None, "video_url must be a URL in text, not NoneType."),
        (b"https://a.example/", "video_url must be a URL in text, not bytes."),
        ("", "video_url is empty, or holds white space or control characters."),
        (" https://a.example/", "video_url is empty, or holds white space or control characters."),
        ("https://a.example/\r\nX: y", "video_url is empty, or holds white space or control "
         "characters."),
        ("https://a.example/\u202egpj.mp4", "video_url is empty, or holds white space or control "
         "characters."),
        ("https://a.example/\ud800", "video_url is empty, or holds white space or control "
         "characters."),
        ("https://a.example/" + "x" * 8192, "video_url has 8210 characters; at most 8192 are "
         "allowed."),
        ("a.example/clip.mp4", "video_url must begin with https://: 'a.example/clip.mp4'."),
        ("file:///etc/passwd", "video_url must begin with https://: 'file:///etc/passwd'."),
        ("ftp://a.example/c.mp4", "video_url must begin with https://: 'ftp://a.example/c.mp4'."),
        ("javascript:alert(1)", "video_url must begin with https://: 'javascript:alert(1)'."),
        ("http://a.example/c.mp4?s=1", "video_url is plain http to a.example."),
        ("http://127.0.0.1.a.example/", "video_url is plain http to 127.0.0.1.a.example."),
        ("http://0x7f.1/", "video_url is plain http to 0x7f.1."),
        ("http://0.0.0.0/", "video_url is plain http to 0.0.0.0."),
        ("https://u:secret@a.example/", "video_url holds a user name or password."),
        ("https://@a.example/", "video_url holds a user name or password."),
        ("https://a.example\\@b.example/", "video_url holds a user name or password."),
        ("https:///clip.mp4", "video_url names no host: 'https:///clip.mp4'."),
        ("https://?x", "video_url names no host: 'https://'."),
        ("https://./clip.mp4", "video_url names no host: 'https://./clip.mp4'."),
        ("https://a.example\\.b.example/", "video_url names no host: "
         "'https://a.example\\\\.b.example/'."),
        ("https://ho%73t.example/", "video_url names no host: 'https://ho%73t.example/'."),
        ("https://a.example:99999/", "video_url is no URL: 'https://a.example:99999/'."),
        ("https://a.example:port/", "video_url is no URL: 'https://a.example:port/'."),
        ("https://u:secret@[bad/x?key=1", "video_url is no URL: 'https://[bad/x'."),
    ],
)  # fmt: skip
def test_an_unfit_url_is_refused_in_words(url: object, message: str) -> None:
    """The error names what the URL is for and what is wrong with it, and no secret."""
    with pytest.raises(InvalidInputError) as caught:
        check_url(url, "video_url")
    assert message == caught.value.message
    assert "secret" not in str(caught.value)


def test_the_caller_chooses_the_error() -> None:
    """One rule serves inputs, settings and results."""
    with pytest.raises(ConfigurationError, match="base_url is plain http"):
        check_url("http://a.example", "base_url", ConfigurationError)


@given(st.text() | st.text().map("https://{}".format) | st.text().map("https://a.example{}".format))
@settings(deadline=None, database=None)
def test_any_text_is_fit_or_refused(url: str) -> None:
    """No text raises anything but the error asked for."""
    with contextlib.suppress(InvalidInputError):
        assert check_url(url, "video_url").hostname


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        (None, False),
        ("", False),
        ("localhost", True),
        ("localhost.example", False),
        ("a.localhost", False),
        ("127.0.0.1", True),
        ("[::1]", True),
        ("::ffff:127.0.0.1", True),
        ("::ffff:93.184.216.34", False),
        ("192.168.0.1", False),
        ("0.0.0.0", False),
        ("ｌocalhost", False),
    ],
)
def test_what_stands_for_this_machine(host: str | None, expected: bool) -> None:
    """Only localhost itself and literal loopback addresses do; no name is looked up."""
    assert expected is is_loopback(host)


@pytest.mark.parametrize(
    ("url", "bare"),
    [
        ("https://a.example/c.mp4?Signature=s&X=1", "https://a.example/c.mp4"),
        ("https://a.example/c.mp4#t=1?x", "https://a.example/c.mp4"),
        ("https://[bad?x", "https://[bad"),
        ("", ""),
    ],
)
def test_a_url_without_its_query(url: str, bare: str) -> None:
    """Query and fragment go, whatever the rest is."""
    assert bare == without_query(url)


def test_a_url_is_shown_without_secrets() -> None:
    """Logs and errors get neither password nor query, no controls and not everything."""
    assert shown("https://u:p@a.example/c\x1bd.mp4?key=1#f") == "https://a.example/c d.mp4"
    assert len(shown("https://a.example/" + "x" * 500)) == 120


@pytest.mark.parametrize(
    "url",
    [
        "https://user:se/cret@a.example/c.mp4",
        "https://user:se?cret@a.example/c.mp4?key=1",
        "https://user:se#cret@a.example/c.mp4",
        "https://user:s@e/cr@et@a.example/c.mp4",
        "https://user:se//cret@a.example/c.mp4",
        "HTTPS://user:\nse/cret@a.example/c.mp4",
    ],
)
def test_a_password_of_odd_letters_is_not_shown(url: str) -> None:
    """Whatever stands before the last @ can be one, also where a URL is read in another way."""
    assert shown(url).lower() == "https://a.example/c.mp4"
    assert shown(url.split("//", 1)[1]) == "a.example/c.mp4"
    with pytest.raises(InvalidInputError) as caught:
        check_url(url, "video_url")
    assert "cret" not in str(caught.value)
