"""The command line against a service on which things go wrong."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.services import Service
from tests.test_cli import ended, read_until, started, surroundings, topaz, typed
from topaz_async.sandbox import CopyEngine, Fault, Sandbox


@pytest.fixture
async def slow() -> AsyncIterator[Sandbox]:
    """A sandbox whose tasks take a minute unless a test lets them go."""
    async with Sandbox(engine=CopyEngine(), run_seconds=60.0) as running:
        yield running


def address(sandbox: Sandbox) -> dict[str, str]:
    """Return the environment that points the program at a sandbox."""
    return {
        "KIE_API_KEY": sandbox.api_key,
        "TOPAZ_ASYNC_BASE_URL": sandbox.base_url,
        "TOPAZ_ASYNC_UPLOAD_URL": sandbox.upload_url,
    }


@pytest.fixture
def clip(tiny_clip: Path, tmp_path: Path) -> Path:
    """A clip in a folder of its own."""
    place = tmp_path / "clip.mp4"
    place.write_bytes(tiny_clip.read_bytes())
    return place


def test_a_sandbox_elsewhere_is_named_in_the_first_line(
    clip: Path, service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another service than kie.ai is shown, so that nobody waits for it in vain."""
    ran = typed(capsys, "upscale", clip)
    assert (ran.code, ran.err) == (0, "")
    assert ran.lines[0] == f"upscaling clip.mp4 2x at {service.sandbox.base_url}, to clip-2x.mp4"
    assert re.search(r", 16 credits, [\d.]+ s\)$", ran.lines[-1])


#: What goes wrong, the exit code, and what must be said of it.
FAILURES: list[tuple[Fault, int, list[str]]] = [
    (
        Fault("createTask", "fail", fail_code="422", fail_msg="This video is unsupported."),
        1,
        ["This video is unsupported", "422", "Nothing was billed."],
    ),
    (
        Fault("createTask", "lost_reply"),
        3,
        [
            "may have been billed.",
            "topaz-async bind REFERENCE TASK",
            "forget REFERENCE --yes",
            "--resubmit-unknown pays twice",
        ],
    ),
    (
        Fault("createTask", "answer", code=401, msg="You do not have access permissions"),
        4,
        ["You do not have access permissions", "Nothing was billed.", "KIE_API_KEY"],
    ),
    (
        Fault("createTask", "answer", code=402, msg="Credits insufficient"),
        5,
        ["Credits insufficient", "Nothing was billed.", "Top up"],
    ),
    (
        Fault("createTask", "answer", code=433, msg="Sub-key usage exceeds limit"),
        5,
        ["Sub-key usage exceeds limit", "Nothing was billed."],
    ),
    (
        Fault("files", "expired", times=None),
        1,
        ["dead", "may be billed"],
    ),
]


@pytest.mark.parametrize(("fault", "code", "words"), FAILURES)
def test_each_way_to_fail_has_its_exit_code(
    fault: Fault,
    code: int,
    words: list[str],
    clip: Path,
    service: Service,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A failure says what happened, what it cost and what to do, and leaves no file."""
    service.add(fault)
    ran = typed(capsys, "upscale", clip)
    assert ran.code == code
    assert ran.err.startswith("Error: ")
    assert [word for word in words if word not in ran.err] == []
    assert "Traceback" not in ran.err
    assert [path.name for path in clip.parent.iterdir()] == ["clip.mp4"]


def test_a_wrong_key_is_never_shown(
    clip: Path,
    service: Service,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A refused key is exit code 4, and stands in no output."""
    monkeypatch.setenv("KIE_API_KEY", "wrong-key-of-mine")
    ran = typed(capsys, "upscale", clip)
    assert ran.code == 4
    assert "wrong-key-of-mine" not in ran.out + ran.err


async def test_a_service_that_is_not_there_billed_nothing(clip: Path) -> None:
    """No connection is exit code 1, with the address and the cost."""
    nobody = "http://127.0.0.1:1"
    ran = await topaz(
        *("upscale", clip, "--base-url", nobody, "--upload-url", nobody),
        cwd=clip.parent,
        KIE_API_KEY="k",
    )
    assert ran.code == 1
    assert "127.0.0.1:1" in ran.err
    assert "Nothing was billed." in ran.err


def test_the_end_of_patience_names_the_task(
    clip: Path, service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    """--timeout ends with exit code 6, the task's id, and the command that gets its result."""
    service.run_seconds = 60.0
    ran = typed(capsys, "upscale", clip, "--timeout", "0.4")
    task_id = list(service.sandbox.books.tasks)[-1]
    assert ran.code == 6
    first, *lines = ran.err.splitlines()
    assert first.startswith(f"Error: Task {task_id} did not end within 0.4 s; ")
    assert first.endswith("The task exists and may be billed. It goes on at the service.")
    assert lines == [
        "1 task goes on at the service and may be billed.",
        f"  clip.mp4  task {task_id}",
        "Bring the result with: topaz-async resume",
    ]


async def test_an_interrupted_wait_loses_nothing(clip: Path) -> None:
    """Ctrl-C ends the wait with exit code 130; the command it prints fetches what was paid for."""
    async with Sandbox(engine=CopyEngine(), run_seconds=1.0) as sandbox:
        program = await started("upscale", clip, cwd=clip.parent, **address(sandbox))
        told = await read_until(program, "generating")
        program.send_signal(signal.SIGINT)
        ran = await ended(program, told)
        (task_id,) = sandbox.books.tasks
        assert ran.code == 130
        assert ran.err.splitlines() == [
            "Interrupted. 1 task goes on at the service and may be billed.",
            f"  clip.mp4  task {task_id}",
            "Bring the result with: topaz-async resume",
        ]
        assert not (clip.parent / "clip-2x.mp4").exists()

        resumed = await topaz("resume", **address(sandbox))
        assert (resumed.code, resumed.err) == (0, "")
        assert (clip.parent / "clip-2x.mp4").read_bytes() == clip.read_bytes()
        assert list(sandbox.books.tasks) == [task_id]


async def test_without_a_journal_each_task_has_its_own_command(clip: Path, slow: Sandbox) -> None:
    """Where nothing is written down, Ctrl-C prints the command that fetches each result."""
    options = ("--no-journal", "--base-url", slow.base_url, "--upload-url", slow.upload_url)
    program = await started(*("upscale", clip, *options), cwd=clip.parent, KIE_API_KEY=slow.api_key)
    told = await read_until(program, "generating")
    program.send_signal(signal.SIGINT)
    ran = await ended(program, told)
    (task_id,) = slow.books.tasks
    assert ran.err.splitlines()[-1] == (
        f"topaz-async download {task_id} -o clip-2x.mp4 --base-url {slow.base_url} "
        f"--upload-url {slow.upload_url}"
    )


async def test_sigterm_ends_a_wait_as_ctrl_c_does(clip: Path, slow: Sandbox) -> None:
    """A service manager's SIGTERM ends the wait in order as well, with the task's id."""
    program = await started("upscale", clip, cwd=clip.parent, **address(slow))
    told = await read_until(program, "generating")
    program.send_signal(signal.SIGTERM)
    ran = await ended(program, told)
    (task_id,) = slow.books.tasks
    assert ran.code == 130
    assert f"task {task_id}" in ran.err
    assert "Traceback" not in ran.err


async def test_a_reader_that_leaves_ends_nothing(clip: Path) -> None:
    """Whoever closes the pipe early gets no complaint, and what was paid for is brought."""
    async with Sandbox(engine=CopyEngine(), run_seconds=0.5) as sandbox:
        read, write = os.pipe()
        program = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "topaz_async", "upscale", str(clip)),
            cwd=clip.parent,
            env=surroundings(**address(sandbox)),
            stdout=write,
            stderr=asyncio.subprocess.PIPE,
        )
        os.close(write)
        os.close(read)
        ran = await ended(program)
    assert (ran.code, ran.err) == (0, "")
    assert (clip.parent / "clip-2x.mp4").is_file()


async def test_interrupted_before_the_submit_costs_nothing(clip: Path) -> None:
    """Ctrl-C while the upload hangs says that nothing was submitted, and nothing was."""
    fault = Fault("file-stream-upload", "act_then_hang", times=None)
    async with Sandbox(engine=CopyEngine(), faults=[fault]) as sandbox:
        program = await started("upscale", clip, cwd=clip.parent, **address(sandbox))
        told = await read_until(program, "upload")
        program.send_signal(signal.SIGINT)
        ran = await ended(program, told)
        assert ran.code == 130
        assert ran.err.splitlines() == [
            "Interrupted before anything was submitted. Nothing was billed.",
            "Send it with: topaz-async resume",
        ]
        assert sandbox.books.tasks == {}


async def test_interrupted_in_the_embedded_sandbox_leaves_nothing(clip: Path) -> None:
    """A rehearsal that is broken off says that its task is gone, not that it goes on."""
    program = await started("upscale", clip, "--sandbox", cwd=clip.parent)
    told = await read_until(program, "submit")
    program.send_signal(signal.SIGINT)
    ran = await ended(program, told)
    assert ran.code == 130
    assert ran.err == (
        "Interrupted. The sandbox has ended, and its tasks with it. Nothing was billed.\n"
    )
