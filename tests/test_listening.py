"""`topaz-async listen` as a program."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from topaz_async.rings import RingReader, rings_beside

from .receivers import KEY, body_of, post, signed
from .test_cli import ended, read_until, started, typed


async def test_callbacks_are_shown_and_handed_on(tmp_path: Path) -> None:
    """Each verified callback is a line and a ring; others are refused; Ctrl-C ends it well."""
    journal = tmp_path / "j.sqlite"
    options = ("--port", "0", "--path", "/kie", "--journal", journal)
    program = await started("listen", *options, KIE_WEBHOOK_KEY=f"new {KEY}")
    before = await read_until(program, "Ctrl-C stops it.")
    url = before.split()[4]
    statuses = []
    for task_id, state in (("a", "success"), ("b", "fail"), ("a", "success")):
        statuses.append((await post(url, body_of(task_id, state), signed(task_id)))[0])
    statuses.append((await post(url, body_of("c"), signed("c", key="guess")))[0])
    before += await read_until(program, "task b")
    program.send_signal(signal.SIGINT)
    ran = await ended(program, before)
    assert ([200, 200, 200, 401], 0) == (statuses, ran.code)
    shown = [line.split("UTC  ")[1] for line in ran.lines if "UTC" in line]
    assert ["task a  success", "task b  fail"] == shown
    assert "No more callbacks are received." == ran.lines[-1]
    assert 1 == ran.err.count("A callback was refused with 401")
    rings = rings_beside(journal)
    assert rings is not None
    assert [("a", None), ("b", None)] == await asyncio.to_thread(RingReader(rings).read)


async def test_the_key_may_stand_in_a_file(tmp_path: Path) -> None:
    """`--env-file` gives the webhook key as it gives the others."""
    path = tmp_path / "mine.env"
    path.write_text(f"KIE_WEBHOOK_KEY={KEY}\n")
    program = await started("listen", "--port", "0", "--env-file", path)
    before = await read_until(program, "Ctrl-C stops it.")
    assert 200 == (await post(before.split()[4], body_of("a"), signed("a")))[0]
    program.send_signal(signal.SIGTERM)
    assert 0 == (await ended(program, before)).code


def test_without_a_key_nothing_is_received(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says which variable to set, and what the way without a key is called."""
    monkeypatch.delenv("KIE_WEBHOOK_KEY", raising=False)
    ran = typed(capsys, "listen")
    assert 2 == ran.code
    assert "KIE_WEBHOOK_KEY" in ran.err
    assert "--accept-unsigned" in ran.err


async def test_the_way_without_a_key_is_loud() -> None:
    """A warning stands on the error output, and unsigned callbacks are taken."""
    program = await started("listen", "--port", "0", "--accept-unsigned")
    before = await read_until(program, "Ctrl-C stops it.")
    assert 200 == (await post(before.split()[4], body_of("a")))[0]
    await read_until(program, "task a")
    program.send_signal(signal.SIGTERM)
    assert "without a signature" in (await ended(program)).err


def test_a_port_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """Wrong usage is exit code 2 and one sentence."""
    ran = typed(capsys, "listen", "--port", "99999")
    assert (2, True) == (ran.code, "from 0 to 65535" in ran.err)
