"""The receiver: what it takes, what it refuses, and that nothing a sender does breaks it."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from topaz_async import CallbackEvent, CallbackHub, CallbackReply, ConfigurationError
from topaz_async.heard import Heard

from .receivers import ID, KEY, SERVERS, Ear, Pairs, body_of, post, receiving, signed
from .virtual_time import run_on_a_loop

TAKEN = b'{"code":200,"msg":"success"}'


def hub_with_ear(**options: Any) -> tuple[CallbackHub, Ear]:
    """Return a hub and what it tells."""
    hub, ear = CallbackHub(options.pop("secret", KEY), **options), Ear()
    hub.attach(ear)
    return hub, ear


def without(name: str) -> Pairs:
    return [pair for pair in signed() if pair[0].lower() != name]


def changed(name: str, value: str) -> Pairs:
    return [*without(name), (name, value)]


def twice(name: str) -> Pairs:
    return [*signed(), *(pair for pair in signed() if pair[0].lower() == name)]


STAMP, SIGNATURE = "x-webhook-timestamp", "x-webhook-signature"

#: What is sent, and the status it gets: name to (headers, body, status).
TABLE: dict[str, tuple[Callable[[], Pairs], bytes, int]] = {
    "signed": (signed, body_of(), 200),
    "no signature": (lambda: without(SIGNATURE), body_of(), 401),
    "no timestamp": (lambda: without(STAMP), body_of(), 401),
    "no headers": (list, body_of(), 401),
    "empty signature": (lambda: changed(SIGNATURE, ""), body_of(), 401),
    "empty timestamp": (lambda: changed(STAMP, ""), body_of(), 401),
    "wrong key": (lambda: signed(key="guessed"), body_of(), 401),
    "another task's signature": (lambda: signed("f" * 32), body_of(), 401),
    "non-ASCII signature": (lambda: changed(SIGNATURE, "\xe9" * 43 + "="), body_of(), 401),
    "non-ASCII timestamp": (lambda: changed(STAMP, "\xb2"), body_of(), 401),
    "timestamp with a sign": (lambda: changed(STAMP, f"+{int(time.time())}"), body_of(), 401),
    "timestamp in milliseconds": (lambda: signed(at=time.time() * 1000), body_of(), 401),
    "old": (lambda: signed(at=time.time() - 310), body_of(), 401),
    "from the future": (lambda: signed(at=time.time() + 310), body_of(), 401),
    "two signatures": (lambda: twice(SIGNATURE), body_of(), 401),
    "two timestamps": (lambda: twice(STAMP), body_of(), 401),
    "two true signatures": (lambda: [*signed(), *signed()[1:]], body_of(), 401),
    "empty body": (signed, b"", 400),
    "no JSON": (signed, b"taskId=" + ID.encode(), 400),
    "JSON array": (signed, b"[]", 400),
    "no id": (signed, b"{}", 400),
    "two ids": (signed, json.dumps({"taskId": "0" * 32, "data": {"taskId": ID}}).encode(), 400),
    "two keys": (signed, f'{{"taskId":"{ID}","taskId":"{ID}"}}'.encode(), 400),
    "not a number": (signed, f'{{"taskId":"{ID}","x":NaN}}'.encode(), 400),
    "huge number": (signed, f'{{"taskId":"{ID}","x":{"9" * 5000}}}'.encode(), 400),
    "deep": (signed, b"[" * 9000, 400),
    "no UTF-8": (signed, b'{"taskId":"\xff"}', 400),
    "byte order mark": (signed, b"\xef\xbb\xbf" + body_of(), 400),
    "gzip": (lambda: [*signed(), ("Content-Encoding", "gzip")], b"\x1f\x8b\x08nonsense", 400),
    "too large": (signed, body_of() + b" " * 10_000, 413),
    "the guide's body": (signed, json.dumps({"taskId": ID, "data": {"task_id": ID}}).encode(), 200),
    "signed again": (signed, body_of(), 200),
}


@pytest.mark.parametrize("server", SERVERS)
async def test_the_refusal_table(server: str) -> None:
    """On real sockets each row gets its status, and the one true callback has one effect."""
    hub, ear = hub_with_ear(max_body=10_000)
    statuses = {}
    async with receiving(server, hub) as url:
        for name, (headers, body, _) in TABLE.items():
            statuses[name], answer = await post(url, body, headers())
            if name != "gzip":  # which some servers unpack themselves, and refuse in HTML
                assert statuses[name] == json.loads(answer)["code"]
    assert {name: status for name, (_, _, status) in TABLE.items()} == statuses
    assert [(ID, None, True)] == ear.heard


@pytest.mark.parametrize("server", SERVERS)
async def test_slow_and_endless_senders_are_cut(server: str) -> None:
    """A body that drips is answered 408 in time; one announced too large is not read."""
    hub, ear = hub_with_ear(max_body=10_000, timeout=0.15)
    async with receiving(server, hub) as url:
        begun = time.monotonic()
        silent, _ = await post(url, b"", signed(), length=50)
        dripping, _ = await post(url, body_of(), signed(), drip=0.02)
        assert time.monotonic() - begun < 2
        endless, _ = await post(url, b" " * 20_000, signed(), length=10**12)
        after, _ = await post(url, body_of(), signed())
    assert (408, 408, 413, 200) == (silent, dripping, endless, after)
    assert 1 == len(ear.heard)


@pytest.mark.parametrize("server", SERVERS)
async def test_a_sender_that_leaves_disturbs_nobody(
    server: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A body that was cut has no effect, even if it reads well, and leaves no stack trace."""
    hub, ear = hub_with_ear()
    async with receiving(server, hub) as url:
        with pytest.raises((TimeoutError, EOFError, ConnectionError)):
            async with asyncio.timeout(0.1):
                await post(url, body_of("cut"), signed("cut"), length=500)
        assert 200 == (await post(url, body_of(), signed()))[0]
    assert [] == [record for record in caplog.records if record.exc_info]
    assert [ID] == [task_id for task_id, _, _ in ear.heard]


@pytest.mark.parametrize("server", SERVERS)
async def test_a_connection_ends_with_a_body_that_was_not_read(server: str) -> None:
    """What is still on its way is not taken for another request."""
    hub, ear = hub_with_ear(max_body=100)
    async with receiving(server, hub) as url:
        for headers, status in ((signed(), b" 413 "), ([], b" 401 ")):
            said = await talk(url, headers, "Content-Length: 9999", b" " * 200)
            assert status in said.split(b"\r\n")[0]
    assert [] == ear.heard


async def talk(url: str, headers: Pairs, last: str, body: bytes, first: str = "POST /kie") -> bytes:
    """Send one request as it is described, and return all that comes until the end."""
    port = int(url.split(":")[2].split("/")[0])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    pairs = [f"{name}: {value}" for name, value in headers]
    lines = [f"{first} HTTP/1.1", "Host: localhost", *pairs, last, "", ""]
    writer.write("\r\n".join(lines).encode() + body)
    try:
        async with asyncio.timeout(3):
            return await reader.read()
    finally:
        writer.close()


@pytest.mark.parametrize("server", SERVERS)
async def test_what_does_not_look_signed_is_refused_before_its_body(server: str) -> None:
    """The answer to headers without a signature of about now waits for no body."""
    hub, ear = hub_with_ear()
    old = signed(at=time.time() - 310)
    looks = ([], without(STAMP), changed(SIGNATURE, "guess"), changed(STAMP, "now"), old)
    async with receiving(server, hub) as url:
        statuses = [(await post(url, b"", headers, length=50))[0] for headers in looks]
    assert ([401] * 5, []) == (statuses, ear.heard)


async def test_a_body_without_a_signature_is_not_parsed() -> None:
    """Whoever has no secret cannot make the hub read JSON, unless it takes all callers."""
    for headers in ([], changed(SIGNATURE, "guess"), signed(at=time.time() - 310)):
        assert 401 == (await CallbackHub(KEY).handle(headers, b"no JSON" * 20_000)).status
        trusting = CallbackHub(None, accept_unsigned=True)
        assert 400 == (await trusting.handle(headers, b"no JSON")).status


async def test_a_body_has_64_kib_at_most() -> None:
    """That is many times a genuine callback, and takes no time to parse."""
    hub = CallbackHub(KEY)
    statuses = [
        (await hub.handle(signed(), body_of().ljust(size))).status for size in (65536, 65537)
    ]
    assert [200, 413] == statuses


async def test_a_server_reads_64_bodies_at_once() -> None:
    """More senders that let it wait are answered 503, and it is free again after them."""
    hub, _ = hub_with_ear(timeout=1)
    async with hub.serve(port=0, path="/kie") as url:
        answers = await asyncio.gather(*(post(url, b"", signed(), length=50) for _ in range(70)))
        assert 200 == (await post(url, body_of(), signed()))[0]
    assert [408] * 64 + [503] * 6 == sorted(status for status, _ in answers)


async def test_bad_requests_leave_no_stack_trace(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever finds the port cannot fill the log of a server of ours, nor make it unpack."""
    hub, _ = hub_with_ear()
    requests = (
        ("Content-Length: 0", b"", "POST *"),
        ("Content-Length: x", b"", "POST /kie"),
        ("Transfer-Encoding: chunked", b"zz\r\n", "POST /kie"),
        ("Content-Encoding: gzip\r\nContent-Length: 4", b"nope", "POST /kie"),
    )
    async with hub.serve(port=0, path="/kie") as url:
        for last, body, first in requests:
            said = await talk(url, [*signed(), ("Connection", "close")], last, body, first)
            assert int(said.split(b" ")[1]) in (400, 404)
        packed = [*signed(), ("Content-Encoding", "gzip")]
        assert 400 == (await post(url, gzip.compress(body_of()), packed))[0]
    assert [] == [record for record in caplog.records if record.exc_info]


async def test_a_fault_of_ours_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The quiet server still tells of what is no sender's fault."""

    class Broken(Ear):
        def hear(self, task_id: str, nonce: str | None, *, is_signed: bool) -> bool:
            raise ZeroDivisionError

    hub, broken = CallbackHub(KEY), Broken()
    hub.attach(broken)
    async with hub.serve(port=0, path="/kie") as url:
        said = await talk(
            url,
            [*signed(), ("Connection", "close")],
            f"Content-Length: {len(body_of())}",
            body_of(),
        )
    assert b" 500 " in said.split(b"\r\n")[0]
    assert ["topaz_async"] == [record.name for record in caplog.records if record.exc_info]


@pytest.mark.parametrize("server", SERVERS)
async def test_only_post_is_taken(server: str) -> None:
    """Anything else is 405."""
    hub, ear = hub_with_ear()
    async with receiving(server, hub) as url:
        statuses = [
            (await post(url, body_of(), signed(), method=m))[0] for m in ("GET", "PUT", "DELETE")
        ]
    assert ([405, 405, 405], []) == (statuses, ear.heard)


@pytest.mark.parametrize("server", SERVERS)
async def test_the_nonce_of_the_url_is_told(server: str) -> None:
    """The word in the query reaches whoever listens, unless there are two."""
    hub, ear = hub_with_ear()
    async with receiving(server, hub) as url:
        for number, query in enumerate(("job=4&topaz_nonce=abc-_1", "topaz_nonce=a&topaz_nonce=b")):
            task_id = str(number)
            status, _ = await post(f"{url}?{query}", body_of(task_id), signed(task_id))
            assert 200 == status
    assert [("0", "abc-_1", True), ("1", None, True)] == ear.heard


async def test_connections_without_a_request_are_cut() -> None:
    """The hub's own server waits no longer for headers than for a body."""
    hub, _ = hub_with_ear(timeout=0.2)
    async with hub.serve(port=0, path="/kie") as url:
        port = int(url.split(":")[2].split("/")[0])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /kie HTTP/1.1\r\nX-Slow: ")
        async with asyncio.timeout(2):
            assert b"" == await reader.read()
        writer.close()
        assert 200 == (await post(url, body_of(), signed()))[0]


async def test_a_server_that_cannot_listen_says_so() -> None:
    """A port that is taken, a host that is none, a path without a slash."""
    hub = CallbackHub(KEY)
    async with hub.serve(port=0) as url:
        taken = int(url.split(":")[2].rstrip("/"))
        for options in ({"port": taken}, {"host": "256.1.1.1"}, {"path": "kie"}, {"port": 99999}):
            with pytest.raises(ConfigurationError):
                async with hub.serve(**{"port": 0, **options}):  # type: ignore[arg-type]
                    pass


# -- handle -----------------------------------------------------------------------------------


async def test_handle_takes_headers_as_any_framework_has_them() -> None:
    """Mappings and pairs, texts and bytes, names in any case."""
    for kind in (dict, list, lambda pairs: [(n.encode(), v.encode()) for n, v in pairs]):
        for spell in (str.lower, str.upper, str):
            hub, ear = hub_with_ear()
            headers = kind([(spell(name), value) for name, value in signed()])
            assert CallbackReply(200, TAKEN) == await hub.handle(headers, body_of())
            assert 1 == len(ear.heard)


async def test_the_reply_is_json_that_says_why() -> None:
    """The body of a refusal holds the status and a sentence, and the media type is JSON."""
    reply = await CallbackHub(KEY).handle(signed(key="guessed"), body_of())
    assert {"code": 401, "msg": "The callback's signature is wrong."} == json.loads(reply.body)
    assert ("application/json", 401) == (reply.content_type, reply.status)


async def test_all_secrets_of_a_rotation_are_taken() -> None:
    """Two keys are in force while one takes the other's place."""
    hub, ear = hub_with_ear(secret=["old", KEY])
    for number, key in enumerate(("old", KEY, "older")):
        await hub.handle(signed(str(number), key=key), body_of(str(number)))
    assert ["0", "1"] == [task_id for task_id, _, _ in ear.heard]


@pytest.mark.parametrize(
    ("secret", "options"),
    [
        ("", {}),
        (None, {}),
        ([], {}),
        (["good", ""], {}),
        ("key\n", {}),
        (" ", {}),
        (b"key", {}),
        (5, {}),
        ("\ud800", {}),
        ("key", {"accept_unsigned": True}),
        ("key", {"max_body": 0}),
        ("key", {"max_body": True}),
        ("key", {"timeout": 0}),
        ("key", {"timeout": None}),
        ("key", {"window": -1}),
        ("key", {"journal": 5}),
    ],
    ids=repr,
)
def test_what_no_hub_can_be_made_of(secret: Any, options: dict[str, Any]) -> None:
    """An empty secret would let everybody in; it is refused when the hub is made."""
    with pytest.raises(ConfigurationError):
        CallbackHub(secret, **options)


async def test_running_without_signatures_is_loud(caplog: pytest.LogCaptureFixture) -> None:
    """It takes an option of its own, is warned about, and proves nothing to listeners."""
    hub, ear = hub_with_ear(secret=None, accept_unsigned=True)
    assert "without a signature" in caplog.text
    assert 200 == (await hub.handle({}, body_of())).status
    assert [(ID, None, False)] == ear.heard


def test_a_hub_shows_no_secret() -> None:
    """Its repr counts them."""
    assert "CallbackHub(2 secret(s))" == repr(CallbackHub([KEY, "other-secret"]))
    assert KEY not in repr(CallbackHub(KEY).__dict__.keys())


async def test_a_flood_of_refusals_is_one_line_of_log(caplog: pytest.LogCaptureFixture) -> None:
    """The first refusal is told, so that a wrong secret is noticed; the next ones are counted."""
    hub = CallbackHub(KEY)
    for _ in range(100):
        await hub.handle({}, body_of())
    assert 1 == len(caplog.records)
    assert "401" in caplog.text


async def test_a_hub_may_be_used_from_threads() -> None:
    """A framework with threads hands callbacks in from many; each has one effect."""
    hub, ear = hub_with_ear()
    events = hub.events()

    def send() -> None:
        for number in range(50):
            run_on_a_loop(hub.handle(signed(str(number)), body_of(str(number))))

    reading = asyncio.create_task(anext(events))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    async with asyncio.timeout(5):
        await reading
    for thread in threads:
        thread.join()
    assert {str(n) for n in range(50)} == {task_id for task_id, _, _ in ear.heard}
    assert 50 == len(ear.heard)


# -- events -----------------------------------------------------------------------------------


async def test_events_tell_each_task_once() -> None:
    """A web service without a client learns task id, claimed state and the moment."""
    hub = CallbackHub(KEY)
    first, second = hub.events(), hub.events()
    for task_id, state in (("a", "success"), ("a", "fail"), ("b", "fail")):
        await hub.handle(signed(task_id), body_of(task_id, state))
    for reader in (first, second):
        got: list[CallbackEvent] = [await anext(reader), await anext(reader)]
        assert [("a", "success"), ("b", "fail")] == [(e.task_id, e.state) for e in got]
        assert abs(datetime.now(UTC) - got[0].received_at) < timedelta(seconds=5)


async def test_events_wait_for_the_next_callback() -> None:
    """Two who wait on one iterator share its events; nothing of a cancelled one is lost."""
    hub = CallbackHub(KEY)
    events = hub.events()
    impatient = asyncio.create_task(anext(events))  # type: ignore[arg-type]
    waiting = [asyncio.create_task(anext(events)) for _ in range(2)]  # type: ignore[arg-type]
    await asyncio.sleep(0)
    impatient.cancel()
    for task_id in "ab":
        await hub.handle(signed(task_id), body_of(task_id))
    assert {"a", "b"} == {event.task_id for event in await asyncio.gather(*waiting)}


async def test_events_nobody_reads_are_bounded() -> None:
    """The newest 10,000 are kept; an iterator that was dropped keeps none."""
    hub = CallbackHub(None, accept_unsigned=True)
    kept = hub.events()
    hub.events()
    for number in range(10_050):
        await hub.handle({}, b'{"taskId":"%d"}' % number)
    assert "50" == (await anext(kept)).task_id
    hub.events()
    assert 2 == len(hub._readers)


def test_what_was_heard_is_bounded() -> None:
    """The oldest is forgotten, and its nonce with it."""
    heard = Heard(2)
    assert [True, False] == [heard.add("a", "n"), heard.add("a", "m")]
    assert ("a", None) == (heard.task_of("n"), heard.task_of("m"))
    assert [True, True] == [heard.add("b"), heard.add("c", "n")]
    assert (2, False, True, "c") == (len(heard), "a" in heard, "b" in heard, heard.task_of("n"))


# -- for all ----------------------------------------------------------------------------------

_NAMES = st.sampled_from([STAMP, SIGNATURE, STAMP.upper(), "content-type", ""]) | st.text(
    max_size=8
)
_VALUES = st.text(max_size=60) | st.sampled_from([signed()[1][1], signed()[2][1]])
_HEADERS = (
    st.lists(st.tuples(_NAMES, _VALUES), max_size=6)
    | st.dictionaries(_NAMES, _VALUES, max_size=6)
    | st.lists(st.tuples(st.binary(max_size=30), st.binary(max_size=60)), max_size=6)
)


@settings(max_examples=400, deadline=None)
@given(_HEADERS, st.binary(max_size=200) | st.just(body_of()), st.text(max_size=80) | st.binary())
def test_nothing_that_is_sent_raises(headers: Any, body: bytes, query: str | bytes) -> None:
    """Whatever bytes stand in headers, body and query, the answer is 200 or a refusal."""
    reply = run_on_a_loop(CallbackHub(KEY).handle(headers, body, query=query))
    assert reply.status in (200, 400, 401)
    json.loads(reply.body)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200), st.text(max_size=80) | st.just("topaz_nonce=%ff%00&topaz_nonce"))
def test_no_signed_bytes_raise(body: bytes, query: str) -> None:
    """The same with a true signature, and over ASGI."""
    hub = CallbackHub(KEY)
    reply = run_on_a_loop(hub.handle(signed(), body, query=query))
    assert reply.status in (200, 400, 401)
    said: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body}

    async def send(message: Any) -> None:
        said.append(message)

    raw = [(name.lower().encode(), value.encode()) for name, value in signed()]
    scope = {"type": "http", "method": "POST", "headers": raw, "query_string": query.encode()}
    run_on_a_loop(hub.asgi(scope, receive, send))
    assert said[0]["status"] < 500


async def test_a_sender_that_keeps_its_connection_is_not_cut() -> None:
    """It has brought requests all the time: only silence is counted."""
    hub, ear = hub_with_ear(timeout=0.2)
    async with hub.serve(port=0, path="/kie") as url:
        port = int(url.split(":")[2].split("/")[0])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number in range(25):
            body = body_of(f"task-{number}")
            pairs = [f"{name}: {value}" for name, value in signed(f"task-{number}")]
            lines = ["POST /kie HTTP/1.1", "Host: localhost", *pairs]
            head = "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""])
            writer.write(head.encode() + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            assert b" 200 " in answer.split(b"\r\n")[0]
            size = int(answer.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
            await reader.readexactly(size)
            await asyncio.sleep(0.04)
        writer.close()
    assert 25 == len(ear.heard)


@pytest.mark.parametrize("server", SERVERS)
async def test_who_asks_before_the_body_is_told_to_go_on(server: str) -> None:
    """Some senders wait for that, and send no body before."""
    hub, ear = hub_with_ear(timeout=1.0)
    async with receiving(server, hub) as url:
        port = int(url.split(":")[2].split("/")[0])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        body = body_of()
        pairs = [f"{name}: {value}" for name, value in signed()]
        lines = ["POST /kie HTTP/1.1", "Host: localhost", *pairs, f"Content-Length: {len(body)}"]
        writer.write("\r\n".join([*lines, "Expect: 100-continue", "", ""]).encode())
        async with asyncio.timeout(3):
            assert b"100 Continue" in await reader.readuntil(b"\r\n\r\n")
            writer.write(body)
            assert b" 200 " in (await reader.readline())
        writer.close()
    assert 1 == len(ear.heard)
