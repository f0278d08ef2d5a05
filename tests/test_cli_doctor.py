"""What the doctor finds on machines that are well, and on others."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from tests.byteserver import KEY, ByteServer, answer, hang, http, refused_port, say
from tests.terminals import terminal
from tests.test_cli import ESC, Ran, topaz
from tests.test_cli_service import address
from topaz_async import SqliteJournal
from topaz_async.cli import checks
from topaz_async.cli.checks import Check, check_entries, check_journal, check_key, check_proxy
from topaz_async.cli.checks_online import (
    Sign,
    check_account,
    check_clock,
    check_edge,
    check_host,
    sign_of_life,
)
from topaz_async.ports import Answer, Intent
from topaz_async.sandbox import CopyEngine, Sandbox

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def rows(ran: Ran) -> dict[str, dict[str, str | None]]:
    """Return what `doctor --json` has printed, by check."""
    found = [json.loads(line) for line in ran.lines]
    assert [["event", "check", "status", "found", "todo"]] * len(found) == [
        list(row) for row in found
    ]
    return {row["check"]: row for row in found}


def answered(status: int = 200, body: bytes = b"", **headers: str) -> Sign:
    """Return the sign of a host that has answered."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Sign(
        "https://api.example", Answer(status=status, headers=named, body=body, received_at=NOW)
    )


SILENT = Sign("https://api.example", None, "Connection refused")


async def test_a_machine_that_is_well(tmp_path: Path) -> None:
    """Everything is ok and exit code 0; nothing is bought, and no file is left behind."""
    async with Sandbox(engine=CopyEngine(), credits=77.5) as sandbox:
        env = {**address(sandbox), "TOPAZ_ASYNC_JOURNAL": str(tmp_path / "new" / "j.sqlite")}
        plain, lines = await asyncio.gather(
            topaz("doctor", cwd=tmp_path, **env), topaz("doctor", "--json", cwd=tmp_path, **env)
        )
        routes = {request.route for request in sandbox.books.requests}
    assert (0, "", 0, "") == (plain.code, plain.err, lines.code, lines.err)
    found = rows(lines)
    assert {("ok", None)} == {(row["status"], row["todo"]) for row in found.values()}
    assert "the key is taken; 77.5 credits" == found["account"]["found"]
    assert f"{sandbox.base_url} answers" == found["API"]["found"]
    assert f"All {len(found)} checks are well." == plain.lines[-1]
    assert [line.split()[:2] for line in plain.lines[:-2]] == [["ok", name] for name in found]
    assert ESC not in plain.out
    assert "createTask" not in routes
    assert [] == list(tmp_path.iterdir())
    assert sandbox.api_key not in plain.out + lines.out


async def test_a_machine_without_anything() -> None:
    """No key and no service: exit code 1, each failure with what to do, and no trace."""
    with refused_port() as nobody:
        ran = await topaz("doctor", "--json", "--base-url", nobody)
    found = rows(ran)
    assert (1, "") == (ran.code, ran.err)
    status = {name: found[name]["status"] for name in ("key", "API", "uploads", "edge", "clock")}
    assert {
        "key": "fail",
        "API": "fail",
        "uploads": "warn",
        "edge": "warn",
        "clock": "warn",
    } == status
    assert f"{nobody} is not reached: Connection refused" == found["API"]["found"]
    assert "topaz-async login" in str(found["key"]["todo"])
    assert [] == [n for n, row in found.items() if row["status"] == "fail" and not row["todo"]]
    assert "account" not in found


async def test_failures_stand_out_on_a_terminal(tmp_path: Path) -> None:
    """A narrow terminal breaks lines between words, and colours say what is what."""
    async with (
        Sandbox(engine=CopyEngine()) as sandbox,
        terminal(
            "doctor",
            cwd=tmp_path,
            columns=60,
            env={**address(sandbox), "KIE_API_KEY": "wrong-key-of-mine"},
        ) as shown,
    ):
        assert 1 == await shown.end()
    assert any(line.startswith(" " * 17) for line in shown.lines)
    assert any(line.startswith("fail account") for line in shown.lines)
    assert "1 of 15 checks fail." == shown.lines[-1]
    assert b"\x1b[1;31mfail" in shown.raw
    assert b"wrong-key" not in shown.raw


async def test_ctrl_c_ends_the_questions(tmp_path: Path) -> None:
    """A host that takes connections and says nothing keeps nobody waiting."""
    async with (
        ByteServer(hang) as server,
        terminal("doctor", "--base-url", server.url, cwd=tmp_path) as shown,
    ):
        await shown.until(lambda lines: any(line.startswith("ok   proxy") for line in lines))
        shown.press(b"\x03")
        assert 130 == await shown.end()
        assert "Traceback" not in shown.raw.decode()


# -- hosts -----------------------------------------------------------------------------------


async def test_hosts_are_asked_without_the_key() -> None:
    """The sign of life is a plain request under our own name, and follows nobody elsewhere."""
    away = http(b"", "302 Found", "Location: http://127.0.0.1:1/login")
    async with ByteServer(answer(away)) as server:
        sign = await sign_of_life(server.url)
    assert "warn" == check_host("API", sign).status
    (seen,) = server.requests
    assert ("GET", "/") == (seen.method, seen.path)
    assert seen.headers["user-agent"].startswith("topaz-async/")
    assert "authorization" not in seen.headers


@pytest.mark.parametrize(
    ("sign", "status"),
    [
        (answered(200), "ok"),
        (answered(404), "ok"),
        (answered(302, location="https://login.example"), "warn"),
        (answered(502), "warn"),
        (SILENT, "fail"),
    ],
)
def test_any_answer_is_an_answer(sign: Sign, status: str) -> None:
    """A host is reached when it says anything; what is no sound answer wants a look."""
    assert status == check_host("API", sign).status


def test_the_edge_is_told_from_the_host() -> None:
    """Only a page of the content network is a block; the host's own 403 is none."""
    blocked = answered(403, b"error code: 1010", cf_ray="abc-FRA")
    assert Check(
        "edge",
        "fail",
        "api.example refuses this machine (HTTP 403, ray abc-FRA); it is not about the key",
        "Go through another network or proxy, or ask the service's support.",
    ) == check_edge(answered(), blocked)
    assert "ok" == check_edge(answered(403, b"<h1>Forbidden</h1>")).status
    assert "ok" == check_edge(answered(), SILENT).status
    assert "warn" == check_edge(SILENT, SILENT).status


@pytest.mark.parametrize(
    ("ahead", "status", "found"),
    [
        (-1, "ok", "right to 1 s"),
        (29, "ok", "right to 29 s"),
        (100, "warn", "100 s ahead of the service's"),
        (-299, "warn", "299 s behind the service's"),
        (301, "fail", "301 s ahead of the service's: signed callbacks are refused"),
        (-86400, "fail", "86400 s behind the service's: signed callbacks are refused"),
    ],
)
def test_the_clock_is_held_against_the_services(ahead: int, status: str, found: str) -> None:
    """A skew is told with its sign; from 300 s on callbacks would be refused."""
    sign = answered(date=format_datetime(NOW - timedelta(seconds=ahead), usegmt=True))
    check = check_clock(SILENT, answered(), answered(date="yesterday"), sign)
    assert (status, found, status != "ok") == (check.status, check.found, bool(check.todo))


def test_nobody_who_tells_the_time() -> None:
    """Without a Date the clock is not known, and that is no failure."""
    assert "warn" == check_clock(SILENT, answered(date="31 Foo 1999")).status


@pytest.mark.parametrize(
    ("said", "status", "words"),
    [
        (say(5.5), "ok", "the key is taken; 5.5 credits"),
        (say(0), "warn", "the key is taken; 0 credits"),
        (say(None, 401, "no access"), "fail", "no access"),
        (http(b"error code: 1010", "403 Forbidden"), "fail", "HTTP 403"),
        (http(b"<html>", "502 Bad Gateway"), "fail", "HTTP 502"),
    ],
)
async def test_the_account_says_whether_the_key_is_taken(
    said: bytes, status: str, words: str
) -> None:
    """One question about the balance tells; what fails has what to do, and never the key."""
    async with ByteServer(answer(said)) as server:
        check = await check_account(KEY, server.url)
    assert status == check.status
    assert words in check.found
    assert (status != "ok") == bool(check.todo)
    assert KEY not in repr(check)
    assert {"/api/v1/chat/credit"} == {seen.path for seen in server.requests}


# -- the key and the proxy -------------------------------------------------------------------


def test_a_key_that_cannot_be_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key with a line break in it is told of before the service is asked."""
    monkeypatch.setenv("KIE_API_KEY", "half\nof-it")
    check, key = check_key("https://api.kie.ai")
    assert ("fail", None) == (check.status, key)
    assert "half" not in check.found


def test_the_proxy_in_force(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is shown without its password; one that nobody uses and one of a wrong kind are told."""
    for name in ("HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    base = "https://api.kie.ai"
    assert Check("proxy", "ok", "none") == check_proxy(base)
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:1")
    assert "warn" == check_proxy(base).status
    monkeypatch.setenv("HTTPS_PROXY", "http://me:secret@proxy.example:3128")
    assert Check(
        "proxy", "ok", "http://proxy.example:3128, from HTTPS_PROXY or ALL_PROXY"
    ) == check_proxy(base)
    monkeypatch.setenv("HTTPS_PROXY", "socks5://localhost:1080")
    check = check_proxy(base)
    assert ("fail", True) == (check.status, bool(check.todo))


# -- the journal -----------------------------------------------------------------------------


def journal(path: Path | None) -> Check:
    """Return the line about a journal's place."""
    (check,) = check_journal(path)
    return check


def test_a_place_for_a_journal_is_tried_out(tmp_path: Path) -> None:
    """Nothing is left at a place that is fit, whether its folder exists or not."""
    for path in (tmp_path / "j.sqlite", tmp_path / "not" / "yet" / "j.sqlite"):
        found = f"{path} (not made yet), writable, on a local disk, WAL works"
        assert Check("journal", "ok", found) == journal(path)
    assert [] == list(tmp_path.iterdir())
    assert "warn" == journal(None).status


async def entries(path: Path) -> list[Check]:
    """Return the lines about what stands in a journal."""
    return [check async for check in check_entries(path)]


async def test_what_waits_in_the_journal_is_counted(tmp_path: Path) -> None:
    """Pending and unknown entries are counted, and an unknown one wants a look."""
    path = tmp_path / "j.sqlite"
    assert [] == await entries(path)
    intent = Intent(reference=None, fingerprint="f", model="topaz/video-upscale")
    book = SqliteJournal(path)
    first = await book.claim(intent)
    assert [Check("entries", "ok", "0 pending, 0 unknown")] == await entries(path)
    await book.bind(first.entry.id, "task-1")
    (check,) = await entries(path)
    assert ("ok", "1 pending, 0 unknown", True) == (
        check.status,
        check.found,
        "resume" in check.todo,
    )
    second = await book.claim(intent)
    await book.lose(second.entry.id, None, "reset")
    (check,) = await entries(path)
    assert ("warn", "1 pending, 1 unknown") == (check.status, check.found)
    assert "billed" in check.todo
    await book.aclose()


async def test_places_that_are_not_fit_for_a_journal(tmp_path: Path) -> None:
    """A place that cannot be written and a file of another program are told, and left alone."""
    assert "fail" == journal(Path("/proc/no/j.sqlite")).status
    (tmp_path / "file").touch()
    check = journal(tmp_path / "file" / "j.sqlite")
    assert ("fail", True) == (check.status, "TOPAZ_ASYNC_JOURNAL" in check.todo)
    other = tmp_path / "other.sqlite"
    with sqlite3.connect(other) as db:
        db.execute("CREATE TABLE theirs (x)")
    db.close()
    before = other.read_bytes()
    assert [
        Check(
            "entries",
            "fail",
            f"{other} is the database of another program",
            "Keep it elsewhere: --journal or TOPAZ_ASYNC_JOURNAL names the file.",
        )
    ] == await entries(other)
    assert before == other.read_bytes()


@pytest.mark.parametrize(
    ("installed", "found"),
    [
        ({"backoff": "2.2.1"}, ["backoff 2.2.1"]),
        ({"python-backoff": "2.3.1"}, ["python-backoff 2.3.1"]),
        ({"backoff": "2.2.1", "python-backoff": "2.3.1"}, ["backoff 2.2.1", "both installed"]),
    ],
)
def test_either_backoff(
    monkeypatch: pytest.MonkeyPatch, installed: dict[str, str], found: list[str]
) -> None:
    """The fork is as good, and the two together are not."""
    monkeypatch.setattr(checks, "_version", installed.get)
    told = " / ".join(check.found for check in checks.check_versions())
    assert all(words in told for words in found)
    assert "backoff None" not in told
