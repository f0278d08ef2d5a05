"""The parts of the command line that need no process: stages, words, names, exit codes."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from topaz_async import Progress, TaskRecord, errors
from topaz_async.advice import next_step
from topaz_async.cli.display import duration
from topaz_async.cli.exits import (
    EXIT_CODES,
    StoppedError,
    UsageError,
    exit_code,
    joint_code,
    words,
)
from topaz_async.cli.stages import Stage, Stages
from topaz_async.cli.wishes import Wish, output_file
from topaz_async.errors import SubmitUnknownError, TopazError, ValidationError
from topaz_async.job import Job
from topaz_async.ports import Answer
from topaz_async.settings import Timeouts
from topaz_async.wire import Wire


class Story:
    """Stages on a clock of their own, with what was told of them."""

    def __init__(self, *, is_local: bool = True) -> None:
        self.now = 0.0
        self.told: list[tuple[str, str, str | None]] = []
        self.stages = Stages(is_local=is_local, on_change=self._tell, clock=lambda: self.now)

    def _tell(self, stage: Stage) -> None:
        self.told.append((stage.name, stage.text, stage.outcome if stage.ended else None))

    def state(self, *states: str) -> None:
        """Let the service say these states."""
        if len(self.stages.all) < 3:
            self.now += 1.0
            self.stages.submitted(Job("t1"))
        for state in states:
            self.now += 1.0
            self.stages.update(TaskRecord("t1", state))

    @property
    def ends(self) -> list[tuple[str, str, float]]:
        """Name, outcome and seconds of the stages that have ended."""
        return [(s.name, s.outcome, s.seconds(0)) for s in self.stages.all if s.ended is not None]


def test_a_local_clip_goes_through_four_stages() -> None:
    """Upload, submit, wait and download follow each other, each with its own seconds."""
    story = Story()
    story.now = 2.0
    story.stages.progress(Progress(50, 100))
    story.stages.progress(Progress(100, 100))
    story.state("waiting", "generating", "success")
    story.stages.progress(Progress(10, 30))
    story.now += 0.5
    story.stages.progress(Progress(30, 30))
    story.stages.leave("done")
    assert story.ends == [
        ("upload", "done", 2.0),
        ("submit", "done", 1.0),
        ("wait", "done", 3.0),
        ("download", "done", 0.5),
    ]
    assert story.stages.seconds == 6.5


def test_a_url_is_not_uploaded() -> None:
    """For a URL the first stage is the submit."""
    story = Story(is_local=False)
    story.state("success")
    assert [stage.name for stage in story.stages.all] == ["submit", "wait", "download"]


def test_an_upload_that_begins_again_is_one_stage() -> None:
    """A repeated upload counts from its first attempt, and ends once."""
    story = Story()
    story.now = 1.0
    story.stages.progress(Progress(100, 100))
    story.stages.progress(Progress(20, 100))
    story.now = 3.0
    story.stages.progress(Progress(100, 100))
    story.stages.progress(Progress(100, 100))
    assert story.ends == [("upload", "done", 3.0)]
    assert [stage.name for stage in story.stages.all] == ["upload", "submit"]


def test_a_download_of_unknown_length_ends_with_the_way() -> None:
    """Without a total the last stage ends when the whole call does, and ends well."""
    story = Story()
    story.stages.progress(Progress(1, 1))
    story.state("success")
    story.stages.progress(Progress(10, None))
    story.now += 2.0
    story.stages.leave("done")
    assert story.ends[-1] == ("download", "done", 2.0)


def test_a_failed_task_is_no_broken_wait() -> None:
    """A task that fails ends the wait as failed; what is under way at an error is broken off."""
    failed, broken = Story(), Story()
    failed.stages.progress(Progress(1, 1))
    failed.state("fail")
    failed.stages.leave("broken off")
    broken.stages.progress(Progress(1, 1))
    broken.state("waiting")
    broken.stages.leave("broken off")
    assert failed.ends[-1][:2] == ("wait", "failed")
    assert broken.ends[-1][:2] == ("wait", "broken off")


def test_what_is_refused_at_the_door_was_never_on_its_way() -> None:
    """Before the first byte nothing has begun, and nothing is told when it ends there."""
    story = Story()
    story.told.clear()
    story.stages.leave("broken off")
    assert not story.stages.have_begun
    assert story.told == []


def test_states_are_shown_without_control_codes() -> None:
    """The service's words reach the terminal as words only; percents only while it works."""
    story = Story()
    story.stages.submitted(Job("t\x1b[2J1"))
    story.stages.update(TaskRecord("t1", "\x1b[31mreviewing", progress=40.0))
    submit, wait = story.stages.all[1:]
    assert "\x1b" not in submit.text + wait.text
    assert wait.text.endswith("reviewing 40 %")


def _all_errors(kind: type[TopazError] = TopazError) -> list[type[TopazError]]:
    return [kind, *(error for sub in kind.__subclasses__() for error in _all_errors(sub))]


def test_every_error_has_a_documented_exit_code() -> None:
    """No error ends with a code that the help page does not explain; success is none of them."""
    codes = {exit_code(kind("words")) for kind in _all_errors()}
    assert codes | {0} == set(EXIT_CODES)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.ConfigurationError, 2),
        (errors.InvalidInputError, 2),
        (errors.SubmitUnknownError, 3),
        (errors.AuthenticationError, 4),
        (errors.EdgeBlockedError, 1),
        (errors.InsufficientCreditsError, 5),
        (errors.WaitTimeoutError, 6),
        (errors.RequestTimeoutError, 1),
        (errors.TaskFailedError, 1),
        (errors.BudgetError, 5),
        (errors.ClientClosedError, 130),
        (UsageError, 2),
        (StoppedError, 130),
        (KeyboardInterrupt, 130),
        (RuntimeError, 1),
    ],
)
def test_exit_codes(error: Callable[[str], BaseException], code: int) -> None:
    """Each kind of failure has the exit code of the documentation."""
    assert exit_code(error("words")) == code


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ([None, None], 0),
        ([], 0),
        ([None, 1], 1),
        ([2, 2], 2),
        ([None, 2], 1),  # something may have been billed
        ([6, None, 6], 6),
        ([5, None], 5),
        ([5, 6], 1),
        ([1, 3, None], 3),  # a task that nobody knows of comes first
    ],
)
def test_many_clips_have_one_exit_code(codes: list[int | None], expected: int) -> None:
    """A code that says more than "some failed" is kept as long as it is true of all."""
    assert joint_code(codes) == expected


def test_an_unforeseen_error_is_a_sentence() -> None:
    """Even a bug prints no trace: its kind, its words, and how to see more."""
    text = words(RuntimeError("boom\x1b[0m"))
    assert text.startswith("Unforeseen RuntimeError: boom")
    assert "--debug" in text
    assert "\x1b" not in text


def test_a_full_disk_is_told_as_the_system_tells_it() -> None:
    """An error of the system is its words and the file, not a bug."""
    assert words(OSError(28, "No space left on device", "out.mp4")) == (
        "out.mp4: No space left on device."
    )


@pytest.mark.parametrize(
    ("clip", "output", "expected"),
    [
        ("in/clip.mp4", None, "clip-4x.mp4"),
        ("in/clip.mov", "out/", "out/clip-4x.mp4"),
        ("in/clip.mov", "big.mkv", "big.mkv"),
        ("my clip 🎬.mkv", None, "my clip 🎬-4x.mp4"),
        ("https://example.com/a%20b/c.mp4?token=secret", None, "c-4x.mp4"),
        ("https://example.com/..%2f..%2fetc", None, "etc-4x.mp4"),
        ("https://example.com", None, "video-4x.mp4"),
    ],
)
def test_the_name_of_the_result(clip: str, output: str | None, expected: str) -> None:
    """A result is named after its clip and factor, in the folder that was named or the current."""
    assert output_file(clip, "4", output) == Path(expected)


def test_an_existing_folder_needs_no_slash(tmp_path: Path) -> None:
    """A folder that exists is written into, however it is spelt."""
    assert output_file("clip.mp4", "2", str(tmp_path)) == tmp_path / "clip-2x.mp4"


def test_a_url_is_shown_without_its_query() -> None:
    """What is printed of a URL holds no signature."""
    wish = Wish(clip="https://a.example/c.mp4?sig=secret", factor="2", output=Path("o.mp4"))
    assert wish.name == "https://a.example/c.mp4"


@pytest.mark.parametrize("reference", ["r", None])
@pytest.mark.parametrize("task_id", ["task-1", None])
def test_what_nobody_knows_is_told_in_the_terminals_words(
    reference: str | None, task_id: str | None
) -> None:
    """No advice names a function of the library."""
    told = words(SubmitUnknownError("It broke.", hint=next_step(task_id, reference)))
    assert "topaz-async" in told
    assert not re.search(r"\w\(|resubmit_unknown=|wait_for_result", told)


def test_a_question_that_was_refused_is_told_in_the_terminals_words() -> None:
    """It is asked again, and nothing is bought again."""
    wire = Wire(base_url="http://a", upload_url="http://a", timeouts=Timeouts())
    body = b'{"code":422,"msg":"no"}'
    answer = Answer(status=200, headers={}, body=body, received_at=datetime.now(UTC))
    with pytest.raises(ValidationError) as caught:
        wire.record(answer, "task-1")
    told = words(caught.value)
    assert "The question failed, not the task: ask again, and do not upscale it again." in told


def test_durations_in_words() -> None:
    """Seconds are shown with a tenth below a minute, and as minutes from there on."""
    said = [duration(seconds) for seconds in (0.04, 1.25, 59.94, 59.96, 125.4, 3600)]
    assert said == ["0.0 s", "1.2 s", "59.9 s", "1 min 00 s", "2 min 05 s", "60 min 00 s"]
