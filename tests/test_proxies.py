"""Which proxy a URL goes through."""

from __future__ import annotations

import pytest
from hypothesis import given, settings, strategies as st

from topaz_async.errors import ConfigurationError
from topaz_async.sessions import proxies

HTTPS, HTTP = "https://api.example/x", "http://127.0.0.1:9/x"


@pytest.mark.parametrize(
    ("proxy", "environment", "expected"),
    [
        (None, {}, None),
        (None, {"HTTP_PROXY": "http://p:1"}, None),
        (None, {"http_proxy": "http://p:1"}, None),
        (None, {"HTTPS_PROXY": "http://p:1"}, "http://p:1"),
        (None, {"https_proxy": "http://p:1"}, "http://p:1"),
        (None, {"ALL_PROXY": "http://p:1"}, "http://p:1"),
        (None, {"HTTPS_PROXY": "http://p:1", "ALL_PROXY": "http://q:2"}, "http://p:1"),
        (None, {"HTTPS_PROXY": "", "ALL_PROXY": "http://q:2"}, "http://q:2"),
        (None, {"HTTPS_PROXY": "p:1"}, "http://p:1"),
        (None, {"HTTPS_PROXY": "http://u:w@p:1"}, "http://u:w@p:1"),
        (None, {"HTTPS_PROXY": "https://p:1", "NO_PROXY": "other.example"}, "https://p:1"),
        (None, {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "api.example"}, None),
        (None, {"HTTPS_PROXY": "http://p:1", "no_proxy": ".example"}, None),
        (None, {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "*"}, None),
        ("http://own:3", {"HTTPS_PROXY": "http://p:1"}, "http://own:3"),
        ("http://own:3", {"NO_PROXY": "*"}, "http://own:3"),
        ("own:3", {}, "http://own:3"),
        ("http://[::1]:3", {}, "http://[::1]:3"),
        ("", {"HTTPS_PROXY": "http://p:1"}, "http://p:1"),
    ],
)
def test_the_proxy_of_an_https_url(
    proxy: str | None, environment: dict[str, str], expected: str | None
) -> None:
    """The caller's own, else HTTPS_PROXY, else ALL_PROXY, but for the hosts of NO_PROXY."""
    assert proxies(proxy, environment)(HTTPS) == expected


@pytest.mark.parametrize("name", ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"])
def test_plain_http_never_goes_through_a_proxy(name: str) -> None:
    """It would see the key; and plain http is for loopback only."""
    assert proxies(None, {name: "http://p:1"})(HTTP) is None
    assert proxies("http://p:1", {})(HTTP) is None


def test_the_process_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """By ourselves: the sessions trust no environment."""
    monkeypatch.setenv("HTTPS_PROXY", "http://p:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    assert proxies(None)(HTTPS) == "http://p:1"


@pytest.mark.parametrize(
    ("proxy", "scheme"),
    [
        ("socks5://u:s3cret@p:1", "socks5"),
        ("socks5h://p:1", "socks5h"),
        ("ftp://p:1", "ftp"),
        ("http://", "http"),
        ("http://:1", "http"),
        ("http://p:port", "nothing"),
        ("http://p:99999", "nothing"),
        ("http://[::1", "nothing"),
        ("://p:1", "nothing"),
        (5, "nothing"),
    ],
)
def test_any_other_proxy_is_refused_in_words(proxy: object, scheme: str) -> None:
    """SOCKS needs another library; no password is quoted."""
    for arguments in ((proxy, {}), (None, {"ALL_PROXY": proxy})):
        with pytest.raises(ConfigurationError) as caught:
            proxies(*arguments)  # type: ignore[arg-type]
        assert str(caught.value) == (
            f"The proxy is {scheme}://…; it must be http://host:port or https://host:port. "
            "Unset ALL_PROXY or HTTPS_PROXY, or pass proxy='http://host:port'."
        )


@pytest.mark.parametrize(
    "proxy",
    [
        "http://p:1/path",
        "http://p:1/?s3cret",
        "http://p:1#s3cret",
        "http://u:1/s3cret@p:1",
        "http://u:1?s3cret@p:1",
        "u:1#s3cret@p:1",
    ],
)
def test_a_proxy_is_a_host_and_a_port(proxy: str) -> None:
    """What follows them may be the rest of a password: it is refused, and not quoted."""
    with pytest.raises(ConfigurationError) as caught:
        proxies(proxy, {})
    assert str(caught.value) == (
        "The proxy has a path, a query or a fragment; it must be http://host:port or "
        "https://host:port. Write /, ? and # of a password as %2F, %3F and %23."
    )
    assert proxies("http://u:s%2Fw@p:1/", {})(HTTPS) == "http://u:s%2Fw@p:1/"


@given(st.text(min_size=1) | st.text().map("http://{}".format))
@settings(deadline=None, database=None)
def test_any_text_is_a_proxy_or_refused(proxy: str) -> None:
    """Nothing else is raised."""
    try:
        found = proxies(proxy, {})(HTTPS)
    except ConfigurationError:
        found = None
    assert found is None or found.startswith(("http://", "https://"))
