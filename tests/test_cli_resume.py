"""`resume`: what a killed or interrupted command has left is finished, and paid for once."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.services import Bought, Service
from tests.test_cli import PATIENCE, Ran, surroundings, typed
from tests.test_cli_service import address
from topaz_async.sandbox import Fault

Run = Callable[..., Ran]


@pytest.fixture
def run(service: Service, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the program inside this process."""
    return lambda *words: typed(capsys, *words)


@pytest.fixture
def clips(tmp_path: Path, tiny_clip: Path) -> list[Path]:
    """Five clips of different content, in a folder."""
    paths = [tmp_path / "in" / f"clip {number} 🎬.mp4" for number in range(5)]
    paths[0].parent.mkdir()
    for path in paths:
        path.write_bytes(tiny_clip.read_bytes() + os.urandom(8))
    return paths


def begun(service: Service, *words: str, **options: Any) -> subprocess.Popen[str]:
    """Start the program beside this process."""
    return subprocess.Popen(
        [sys.executable, "-m", "topaz_async", *words],
        env=surroundings(**address(service.sandbox)),
        text=True,
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
    )


def until(seen: Callable[[], object]) -> None:
    """Wait until something is true of the service."""
    deadline = time.monotonic() + PATIENCE
    while not seen():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def billed(service: Service, clips: list[Path]) -> list[Path]:
    """Return the clips of which a task was made; none may have two."""
    tasks = [service.sandbox.books.billed_by_content(clip) for clip in clips]
    assert max(map(len, tasks)) <= 1
    return [clip for clip, found in zip(clips, tasks, strict=True) if found]


def asked_for(service: Service, clips: list[Path]) -> int:
    """Return how many tasks of these clips their program knows the id of: it has asked for it."""
    asked = {request.task_id for request in service.sandbox.books.routed("recordInfo")}
    made = [service.sandbox.books.billed_by_content(clip) for clip in clips]
    return len(asked.intersection(*[[task for each in made for task in each]]))


def results() -> dict[str, bytes]:
    """Return what lies in the folder of the results, partial files included."""
    return {path.name: path.read_bytes() for path in Path("out").iterdir()}


def expected(clips: list[Path]) -> dict[str, bytes]:
    """Return what should lie there: the sandbox's engine copies."""
    return {f"{clip.stem}-2x.mp4": clip.read_bytes() for clip in clips}


def test_killed_in_the_middle_a_batch_is_finished_and_paid_for_once(
    run: Run, service: Service, clips: list[Path]
) -> None:
    """After kill -9 `resume` brings what was paid for and sends the rest, each clip once.

    The clips that were sent may be gone by then; those that were not are needed.
    """
    service.run_seconds = 1.5
    wanted = expected(clips)
    with Bought(service) as bought:
        program = begun(service, "upscale", "in", "-o", "out", "--concurrency", "3")
        until(lambda: asked_for(service, clips) == 3)
        left_alone = run("resume")
        program.kill()
        program.communicate()
        service.run_seconds = 0.0
        assert left_alone.lines == [
            "Left alone: what another command is at just now.",
            "Nothing is left to do.",
        ]
        sent = billed(service, clips)
        assert len(sent) == 3
        planned = run("resume", "--dry-run")
        assert planned.lines[-1] == (
            "2 clips would be sent, for about 16 credits (0.08 USD), 3 paid for already. "
            "Nothing was sent."
        )
        for clip in sent:
            clip.rename(clip.with_suffix(".gone"))
        ran = run("resume")
        assert (ran.code, ran.err) == (0, "")
        assert run("resume").out == "Nothing is left to do.\n"
    assert bought.count == len(clips)
    assert results() == wanted


def test_killed_while_downloading_the_results_are_brought_again(
    run: Run, service: Service, clips: list[Path]
) -> None:
    """A download that was cut by kill -9 is begun anew; the same command again does the rest."""
    service.add(Fault("files", "stall", times=3))
    served = service.sandbox.books.count("files")
    with Bought(service) as bought:
        program = begun(service, "upscale", "in", "-o", "out", "--concurrency", "3")
        until(lambda: service.sandbox.books.count("files") - served >= 3)
        program.kill()
        program.communicate()
        service.settle()
        paid = len(billed(service, clips))
        assert (run("resume", "--paid-only").code, len(billed(service, clips))) == (0, paid)
        assert expected(billed(service, clips)).items() <= results().items()
        assert run("resume").out == "Nothing is left to do.\n"
        ran = run("upscale", "in", "-o", "out")
        assert (ran.code, ran.err) == (0, "")
    assert bought.count == len(clips)
    assert expected(clips).items() <= results().items()


def test_sigterm_says_what_goes_on_and_what_was_not_sent(
    run: Run, service: Service, clips: list[Path]
) -> None:
    """SIGTERM ends a batch like Ctrl-C: its tasks, its unsent clips, and the way on are told."""
    service.run_seconds = 60.0
    program = begun(service, "upscale", "in", "-o", "out", "--concurrency", "2")
    until(lambda: asked_for(service, clips) == 2)
    program.send_signal(signal.SIGTERM)
    _, err = program.communicate(timeout=PATIENCE)
    assert program.returncode == 130
    first, one, two, last = err.splitlines()
    assert first == (
        "Interrupted. 2 tasks go on at the service and may be billed; 3 clips were not sent."
    )
    tasks = {service.sandbox.books.billed_by_content(clip)[0] for clip in billed(service, clips)}
    assert {line.split()[-1] for line in (one, two)} == tasks
    assert last == "Bring the results and send the rest with: topaz-async resume"
    assert run("forget", "--unsent").out == "Forgotten: what 1 command had left.\n"
    assert run("resume", "--dry-run").lines[-1].startswith("0 clips would be sent")


def test_a_full_disk_leaves_no_half_file_and_the_result_at_the_service(
    run: Run, service: Service, tmp_path: Path, tiny_clip: Path
) -> None:
    """When a result does not fit, its task is told, and `resume` brings it to a larger disk."""
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(tiny_clip.read_bytes() + os.urandom(400_000))
    limits = (300_000, 300_000)
    program = begun(
        *(service, "upscale", "clip.mp4"),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limits),
    )
    _, err = program.communicate(timeout=PATIENCE)
    (task_id,) = service.sandbox.books.billed_by_content(clip)
    assert program.returncode == 1
    assert err.splitlines()[1:] == [
        "1 result is paid for, and downloading it again is free.",
        f"  clip.mp4  task {task_id}",
        "Bring the result with: topaz-async resume",
        f"To another place: topaz-async download {task_id} -o {Path.home()}",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]
    ran = run("resume")
    assert (ran.code, ran.err) == (0, "")
    assert (tmp_path / "clip-2x.mp4").read_bytes() == clip.read_bytes()
    assert len(billed(service, [clip])) == 1


def test_a_result_that_does_not_fit_is_brought_elsewhere(
    run: Run, service: Service, tmp_path: Path, tiny_clip: Path
) -> None:
    """The command that follows the failure works where `resume` would fail again."""
    content = tiny_clip.read_bytes() + os.urandom(400_000)
    (tmp_path / "clip.mp4").write_bytes(content)
    limits = (300_000, 300_000)
    program = begun(
        *(service, "upscale", "clip.mp4", "-o", "full/"),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limits),
    )
    _, err = program.communicate(timeout=PATIENCE)
    advice, command = err.splitlines()[-1].split(": topaz-async ")
    assert (program.returncode, advice) == (1, "To another place")
    assert command.endswith(" -o .")
    assert run(*command.split()).code == 0
    assert content in [path.read_bytes() for path in tmp_path.glob("*.mp4") if path.stem != "clip"]
    assert run("resume").out == "Nothing is left to do.\n"


def test_output_that_cannot_be_written_ends_no_task(
    service: Service, tmp_path: Path, tiny_clip: Path
) -> None:
    """A full disk behind standard output is one sentence; the clips are finished all the same."""
    with open("/dev/full", "w") as full:
        program = begun(service, "upscale", str(tiny_clip), stdout=full)
    _, err = program.communicate(timeout=PATIENCE)
    assert program.returncode == 1
    assert err == "Error: Not all could be printed: No space left on device.\n"
    assert (tmp_path / "tiny-2x.mp4").is_file()


def test_what_has_a_query_is_not_remembered(run: Run, service: Service) -> None:
    """Signed addresses are secrets: none of them is left on this disk."""
    service.add(Fault("createTask", "answer", code=402, msg="No."))
    ran = run(
        *("upscale", "https://a.example/a.mp4?s=secret-one", "https://a.example/b.mp4"),
        *("--concurrency", "1"),
    )
    assert ran.code == 5
    data = Path(os.environ["XDG_DATA_HOME"])
    contents = [path.read_bytes() for path in data.rglob("*") if path.is_file()]
    assert any(b"a.example/b.mp4" in content for content in contents)
    assert not any(b"secret-one" in content for content in contents)


def test_interrupted_while_a_clip_is_submitted_it_says_how_to_find_its_task(
    service: Service, clips: list[Path]
) -> None:
    """A task may exist that nobody knows: that needs a person, and so does its exit code."""
    service.add(Fault("createTask", "act_then_hang"))
    before = service.sandbox.books.count("createTask")
    program = begun(service, "upscale", str(clips[0]), "--reference", "order-17")
    until(lambda: service.sandbox.books.count("createTask") > before)
    program.send_signal(signal.SIGINT)
    _, err = program.communicate(timeout=PATIENCE)
    assert program.returncode == 3
    assert "bind order-17 TASK" in err
    assert "1 clip was being submitted, and nobody knows the answer." in err
    assert err.splitlines()[-1] == "Look for it in the account's task log before you send it again."
    (task_id,) = service.sandbox.books.billed_by_content(clips[0])
    assert task_id


def test_what_a_paid_only_resume_forgets_is_told(
    run: Run, service: Service, clips: list[Path]
) -> None:
    service.run_seconds = 3.0
    program = begun(service, "upscale", "in", "-o", "out", "--concurrency", "2")
    until(lambda: asked_for(service, clips) == 2)
    program.send_signal(signal.SIGTERM)
    program.communicate(timeout=PATIENCE)
    service.settle()
    assert "Forgotten: 3 clips that were not sent." in run("resume", "--paid-only").lines
