"""Many clips on the command line: what is taken, planned, done, told and never paid twice."""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.services import Bought, Service
from tests.test_cli import Ran, typed
from topaz_async.cli.inputs import spelt_out
from topaz_async.cli.options import STANDARD_INPUT
from topaz_async.sandbox import Fault

Run = Callable[..., Ran]


@pytest.fixture
def run(service: Service, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the program, and counts the tasks that it made as `run.bought`."""
    return lambda *words: typed(capsys, *words)


@pytest.fixture
def clips(tmp_path: Path, tiny_clip: Path) -> Callable[..., list[Path]]:
    """Makes clips of different content."""

    def make(*names: str) -> list[Path]:
        paths = [tmp_path / name for name in names]
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(tiny_clip.read_bytes() + os.urandom(8))
        return paths

    return make


def events(ran: Ran) -> list[dict[str, Any]]:
    """Return what the program told in JSON."""
    return [json.loads(line) for line in ran.lines]


# -- what is taken ---------------------------------------------------------------------------


def test_folders_patterns_lists_and_addresses_are_spelt_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each clip is taken once, in order; hidden files, other files and results are left out."""
    monkeypatch.chdir(tmp_path)
    for name in (
        *("in/b.mp4", "in/a.MOV", "in/.hidden.mp4", "in/text.txt", "in/sub/deep.mp4"),
        *("in/b-4x.mp4", "in/b-2x (2).mp4", "in/c-2x.mp4", "x 🎬.mkv", "y\nz.mkv"),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    listed = io.BytesIO("x 🎬.mkv\n\nin/sub\r\nhttps://a.example/c.mp4?s=1\n".encode())
    found = spelt_out(["in/", "in/b.mp4", "*.mkv", STANDARD_INPUT, "gone.mp4"], listed)
    assert found.clips == (
        *("in/a.MOV", "in/b.mp4", "in/c-2x.mp4", "x 🎬.mkv", "y\nz.mkv"),
        *("in/sub/deep.mp4", "https://a.example/c.mp4?s=1", "gone.mp4"),
    )
    assert found.left_out == ("in/b-2x (2).mp4", "in/b-4x.mp4")
    assert found.is_many


def test_a_list_between_nuls_may_hold_line_breaks(tmp_path: Path) -> None:
    """`find -print0` names every file, whatever its name holds."""
    found = spelt_out([STANDARD_INPUT], io.BytesIO(b"a\nb.mp4\0c d.mp4\0\xff.mp4\0"))
    assert found.clips == ("a\nb.mp4", "c d.mp4", os.fsdecode(b"\xff.mp4"))


# -- what is done ----------------------------------------------------------------------------


def test_copies_of_one_clip_are_paid_once_and_typed_again_are_all_there(
    run: Run, service: Service, clips: Any, tmp_path: Path
) -> None:
    """Each copy has its file; the same command again finds them all."""
    (one,) = clips("in/a.mp4")
    (tmp_path / "in" / "b.mp4").write_bytes(one.read_bytes())
    with Bought(service) as bought:
        for told in ("1 to send", "2 there already"):
            ran = run("upscale", "in", "-o", "out")
            assert (ran.code, ran.err) == (0, "")
            assert told in ran.lines[0]
    assert bought.count == 1
    assert ["a-2x.mp4", "b-2x.mp4"] == sorted(p.name for p in (tmp_path / "out").iterdir())


def test_a_folder_is_upscaled_and_the_same_command_again_buys_nothing(
    run: Run, service: Service, clips: Any, tmp_path: Path
) -> None:
    """Typed again the command does only what is missing: results, clips, tasks that failed."""
    one, _, _ = clips("in/one.mp4", "in/two 🎬.mp4", "in/three\nlines.mp4")
    service.add(Fault("createTask", "fail", fail_code="500", fail_msg="Try again later."))
    with Bought(service) as first:
        ran = run("upscale", "in", "-o", "out")
    assert (ran.code, first.count) == (1, 3)
    assert ran.err.startswith("Error: ")
    assert "Try again later" in ran.err
    assert re_line(ran, r"2 of 3 done, 1 failed, \d+ credits, .* s")
    with Bought(service) as second:
        ran = run("upscale", "in", "-o", "out")
    assert (ran.code, ran.err, second.count) == (0, "", 1)
    assert ran.lines[0].endswith(": 1 to send, 2 there already")
    (tmp_path / "out" / "one-2x.mp4").unlink()
    clips("in/four.mp4")
    with Bought(service) as third:
        ran = run("upscale", "in", "-o", "out")
    assert (ran.code, ran.err, third.count) == (0, "", 1)
    assert ran.lines[0].endswith(": 1 to send, 1 paid for, 2 there already")
    results = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert sorted(results) == [
        *("four-2x.mp4", "one-2x.mp4", "three\nlines-2x.mp4", "two 🎬-2x.mp4")
    ]
    assert results["one-2x.mp4"] == one.read_bytes()


def re_line(ran: Ran, pattern: str) -> bool:
    """Tell whether a line of standard output is like this."""
    return any(re.fullmatch(pattern, line) for line in ran.lines)


def test_clips_of_one_name_get_results_of_their_own(
    run: Run, service: Service, clips: Any, tmp_path: Path
) -> None:
    """Two clips of one name do not overwrite each other; the same content is bought once."""
    first, second = clips("a/clip.mp4", "b/clip.mp4")
    (tmp_path / "copy.mp4").write_bytes(first.read_bytes())
    with Bought(service) as bought:
        ran = run("upscale", "a", "b", "copy.mp4", "-x", "4")
    assert (ran.code, ran.err, bought.count) == (0, "", 2)
    assert (tmp_path / "clip-4x.mp4").read_bytes() == first.read_bytes()
    assert (tmp_path / "clip-4x (2).mp4").read_bytes() == second.read_bytes()
    assert (tmp_path / "copy-4x.mp4").read_bytes() == first.read_bytes()


def test_a_dry_run_sends_nothing(run: Run, service: Service, clips: Any, tmp_path: Path) -> None:
    """What would be sent is listed with its estimated cost, and asks nobody, not for a key."""
    clips("a.mp4", "b.mp4")
    seen = service.sandbox.books.count()
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("KIE_API_KEY")
        ran = run("upscale", "a.mp4", "b.mp4", "gone.mp4", "-x", "4", "--dry-run")
        told = run("upscale", "a.mp4", "-x", "4", "--dry-run", "--json")
    assert service.sandbox.books.count() == seen
    assert ran.code == 1
    assert ran.lines[-1] == (
        "2 clips would be sent, for about 28 credits (0.14 USD), 1 not possible. Nothing was sent."
    )
    assert ran.err == "Error: gone.mp4 does not exist. Nothing was billed.\n"
    (event,) = events(told)
    assert event.pop("reference").startswith("batch:")
    assert event == {
        "event": "plan",
        "clip": "a.mp4",
        "action": "send",
        "path": str(tmp_path / "a-4x.mp4"),
        "length": 0.2,
        "bytes": (tmp_path / "a.mp4").stat().st_size,
        "credits": 14.0,
        "task_id": None,
        "error": None,
    }


def test_a_bound_on_the_cost_holds_for_all_clips_together(
    run: Run, service: Service, clips: Any
) -> None:
    """What may cost more than --max-credits is not begun: exit code 5, nothing is sent."""
    clips("a.mp4", "b.mp4")
    with Bought(service) as bought:
        ran = run("upscale", "a.mp4", "b.mp4", "--max-credits", "15")
        unknown = run("upscale", "https://a.example/c.mp4", "--max-credits", "15")
    assert (ran.code, ran.out, bought.count) == (5, "", 0)
    assert ran.err == (
        "Error: It may cost 16 credits, and --max-credits is 15. Nothing was billed. "
        "Raise --max-credits, or send less.\n"
    )
    assert unknown.code == 5
    assert "without their length" in unknown.err
    assert run("upscale", "a.mp4", "b.mp4", "--max-credits", "16").code == 0


@pytest.mark.parametrize(("code", "status"), [(402, 5), (401, 4)])
def test_what_would_be_refused_anyway_is_not_sent(
    run: Run, service: Service, clips: Any, code: int, status: int
) -> None:
    """When credits run out or the key is refused, the rest waits, and resume sends it."""
    clips("a.mp4", "b.mp4", "c.mp4")
    asked = service.sandbox.books.count("createTask")
    service.add(Fault("createTask", "answer", code=code, msg="No."))
    ran = run("upscale", "a.mp4", "b.mp4", "c.mp4", "--concurrency", "1")
    assert ran.code == status
    assert service.sandbox.books.count("createTask") - asked == 1
    assert ran.err.splitlines()[1:] == [
        "2 clips were not sent.",
        "Send them with: topaz-async resume",
    ]
    with Bought(service) as bought:
        resumed = run("resume")
    assert (resumed.code, bought.count) == (0, 3)
    assert run("resume").out == "Nothing is left to do.\n"


def test_an_unknown_submit_is_not_repeated_unasked(run: Run, service: Service, clips: Any) -> None:
    """After a lost answer the command ends with 3, now and again, until somebody consents."""
    clips("a.mp4")
    service.add(Fault("createTask", "lost_reply"))
    with Bought(service) as bought:
        ran = run("upscale", "a.mp4")
        again = run("upscale", "a.mp4")
        resumed = run("resume")
        listed = run("jobs")
    assert (ran.code, again.code, resumed.code, bought.count) == (3, 3, 3, 1)
    assert "--resubmit-unknown pays twice" in again.err
    assert "unknown" in listed.out
    assert again.err.splitlines()[-1] == ran.err.splitlines()[-1]
    with Bought(service) as bought:
        assert run("upscale", "a.mp4", "--resubmit-unknown").code == 0
    assert bought.count == 1


def test_a_task_that_was_found_is_bound_and_brought(
    run: Run, service: Service, clips: Any, tmp_path: Path
) -> None:
    """The command that follows a lost answer ends the unknown state, and buys nothing."""
    (clip, other) = clips("a.mp4", "b.mp4")
    service.add(Fault("createTask", "lost_reply"))
    where = ("--journal", "j.sqlite")
    ran = run("upscale", "a.mp4", *where)
    advice, command = ran.err.splitlines()[-1].split(": topaz-async ")
    words = command.split()
    assert (ran.code, advice) == (3, "Once its task is found")
    assert "bind REFERENCE TASK" in run("status", words[1], *where).err
    run("upscale", "b.mp4", *where)
    (wrong,) = service.sandbox.books.billed_by_content(other)
    (task_id,) = service.sandbox.books.billed_by_content(clip)
    with Bought(service) as bought:
        refused = run(*[wrong if word == "TASK" else word for word in words])
        bound = run(*[task_id if word == "TASK" else word for word in words])
        told = run(*[task_id if word == "TASK" else word for word in words], "--json")
        late = run(*[wrong if word == "TASK" else word for word in words])
        resumed = run("resume", *where)
    assert (refused.code, bound.code, late.code, resumed.code) == (2, 0, 2, 0)
    assert bound.lines == [
        f"Bound: a-2x.mp4 is task {task_id}.",
        "Bring the result with: topaz-async resume --journal j.sqlite",
    ]
    assert events(told) == [{"event": "bound", "task_id": task_id, "reference": words[1]}]
    assert task_id in late.err
    assert bought.count == 0
    assert (tmp_path / "a-2x.mp4").read_bytes() == clip.read_bytes()


def test_a_task_that_an_unclear_answer_named_is_told(
    run: Run, service: Service, clips: Any
) -> None:
    """What was not clear enough to be believed is named where it can be looked at and bound."""
    clips("a.mp4")
    task_id = 32 * "a"
    body = f'{{"code": 500, "msg": "Try again.", "data": {{"taskId": "{task_id}"}}}}'
    service.add(Fault("createTask", "answer", status=502, body=body))
    for _ in range(2):
        ran = run("upscale", "a.mp4", "--reference", "the first")
        assert ran.code == 3
        assert f"`topaz-async status {task_id}` tells whether it is yours" in ran.err
        assert f"`topaz-async bind 'the first' {task_id}` binds it" in ran.err
        assert f"found: topaz-async bind 'the first' {task_id}" in ran.err.splitlines()[1]
    assert run("bind", "the first", task_id).code == 1


def test_what_cannot_be_bound_is_wrong_usage(run: Run) -> None:
    """A reference that nobody knows, and no journal to look it up in."""
    for words, expected in (
        (("order-17", "0" * 32), "knows no submit of the reference 'order-17'"),
        (("order-17", "0" * 32, "--no-journal"), "topaz-async download TASK"),
    ):
        ran = run("bind", *words)
        assert (ran.code, ran.out) == (2, "")
        assert expected in ran.err


# -- what is told ----------------------------------------------------------------------------


def test_json_has_one_object_a_line(run: Run, clips: Any, tmp_path: Path) -> None:
    """With --json standard output holds events only, and progress is on standard error."""
    clips("a\nb.mp4")
    ran = run("upscale", "a\nb.mp4", "gone.mp4", "--json")
    assert ran.code == 1
    told = events(ran)
    assert [event["event"] for event in told] == ["submitted", "clip", "clip", "total"] or [
        event["event"] for event in told
    ] == ["clip", "submitted", "clip", "total"]
    done = next(event for event in told if event.get("status") == "ok")
    submitted = next(event for event in told if event["event"] == "submitted")
    assert submitted == {
        "event": "submitted",
        "clip": "a\nb.mp4",
        "task_id": done["task_id"],
        "reference": done["reference"],
    }
    assert 0 < done.pop("seconds") < 30
    assert done == {
        **submitted,
        "event": "clip",
        "status": "ok",
        "action": "send",
        "path": str(tmp_path / "a\nb-2x.mp4"),
        "credits": 16.0,
        "error": None,
    }
    refused = next(event for event in told if event.get("status") == "refused")
    assert refused["error"] == {
        "type": "InvalidInputError",
        "message": "gone.mp4 does not exist.",
        "code": None,
        "task_id": None,
        "billed": "no",
        "retryable": False,
        "hint": None,
    }
    assert {**told[-1], "seconds": 0.0} == {
        "event": "total",
        "clips": 2,
        "counts": {"ok": 1, "refused": 1},
        "credits": 16.0,
        "seconds": 0.0,
    }
    assert "a b.mp4: uploaded" in ran.err


def test_an_error_that_ends_a_command_is_told_in_json_too(run: Run) -> None:
    """Whoever reads JSON learns of the end there, a person in words."""
    ran = run("upscale", "*.mp4", "--json")
    assert ran.code == 2
    assert ran.err == "Error: No file matches *.mp4.\n"
    (event,) = events(ran)
    assert (event["event"], event["type"]) == ("error", "UsageError")


def test_quiet_says_nothing_but_errors(run: Run, clips: Any) -> None:
    """With -q a success is silent, and an error is not."""
    clips("a.mp4")
    ran = run("upscale", "a.mp4", "-q")
    assert (ran.code, ran.out, ran.err) == (0, "", "")
    ran = run("upscale", "a.mp4", "gone.mp4", "-q")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == "Error: gone.mp4 does not exist. Nothing was billed.\n"


def test_three_hundred_files_at_once(
    run: Run, service: Service, clips: Any, tmp_path: Path
) -> None:
    """A folder of 300 clips, all of one content, is one task and 300 results."""
    (clip,) = clips("in/0.mp4")
    for number in range(1, 300):
        (tmp_path / "in" / f"{number}.mp4").write_bytes(clip.read_bytes())
    with Bought(service) as bought:
        ran = run("upscale", "in", "-o", "out", "--max-credits", "8")
    assert (ran.code, ran.err, bought.count) == (0, "", 1)
    assert len(os.listdir(tmp_path / "out")) == 300
    assert re_line(ran, r"300 of 300 done, 16 credits, .* s")


def test_a_file_gets_each_row_on_one_line(run: Run, clips: Any) -> None:
    """Tables that are read by programs are not folded, however long a name is."""
    name = f"{'long ' * 30}name.mp4"
    clips(name)
    assert name in run("upscale", name, "--dry-run").lines[1]
    run("upscale", name)
    assert name.replace(".mp4", "-2x.mp4") in run("jobs", "--all").lines[1]


# -- tasks by their ids ----------------------------------------------------------------------


def test_the_life_of_a_task_on_the_command_line(
    run: Run, service: Service, clips: Any, tmp_path: Path
) -> None:
    """A task is listed, looked at, waited for, downloaded and forgotten by the start of its id."""
    clips("a.mp4")
    assert run("jobs").out == "Nothing is under way; --all lists what has ended.\n"
    run("upscale", "a.mp4", "--reference", "order-17")
    (job,) = events(run("jobs", "--all", "--json"))
    task_id, made = job["task_id"], job.pop("created_at")
    assert made.endswith("+00:00")
    assert job == {
        "event": "job",
        "task_id": task_id,
        "reference": "order-17",
        "submit": "made",
        "state": "success",
        "factor": "2",
        "credits": 16.0,
        "output": str(tmp_path / "a-2x.mp4"),
        "path": str(tmp_path / "a-2x.mp4"),
    }
    assert task_id in run("jobs", "--all").lines[1]
    for command in ("status", "wait"):
        told = run(command, task_id[:6], "order-17")
        assert (told.code, told.lines[:2]) == (
            0,
            [f"task      {task_id}", "state     success"],
        )
        (event,) = events(run(command, "order-17", "--json"))
        assert (event["event"], event["task_id"], event["state"]) == ("task", task_id, "success")
    for words in ((), ("-o", str(tmp_path / "a.mp4")), ("-o", "a.mp4/b.mp4"), ("-o", 300 * "x")):
        refused = run("download", task_id[:6], *words)
        assert (refused.code, refused.out) == (2, "")
        assert "billed" not in refused.err
    assert "exists already" in run("download", task_id[:6]).err
    fetched = run("download", "order-17", "-o", "other.mp4")
    assert (fetched.code, fetched.err) == (0, "")
    assert (tmp_path / "other.mp4").read_bytes() == (tmp_path / "a.mp4").read_bytes()
    assert run("status", 32 * "0").code == 1
    assert run("forget", "order-17").out == "Forgotten: other.mp4\n"
    assert run("jobs", "--all").lines == ["Nothing is under way."]


def test_what_is_paid_for_is_not_forgotten_lightly(
    run: Run, service: Service, clips: Any, tmp_path: Path
) -> None:
    """Forgetting a task whose result was not brought needs --yes: it could be bought again."""
    clips("a.mp4")
    service.add(Fault("files", "expired", times=4))
    ran = run("upscale", "a.mp4")
    (job,) = events(run("jobs", "--json"))
    assert ran.code == 1
    assert ran.err.splitlines()[-1] == (
        f"To buy it anew, first: topaz-async forget {job['task_id']} --yes"
    )
    refused = run("forget", job["task_id"])
    assert refused.code == 2
    assert "add --yes" in refused.err
    assert run("forget", job["task_id"], "--yes").code == 0
    assert run("jobs", "--all").lines == ["Nothing is under way."]


def test_credits_and_uploads(run: Run, service: Service, clips: Any) -> None:
    """The balance has its worth beside it; an upload prints the address, the same one again."""
    (clip,) = clips("a.mp4")
    assert run("credits").out.endswith(" USD)\n")
    (event,) = events(run("credits", "--json"))
    assert event == {"event": "credits", "credits": service.sandbox.books.credits}
    sent = run("upload", "a.mp4", "-q")
    assert sent.code == 0
    assert sent.out.startswith(service.sandbox.upload_url)
    (event,) = events(run("upload", "a.mp4", "--json"))
    assert event == {"event": "upload", "url": sent.out.strip(), "bytes": clip.stat().st_size}
    assert run("upload", "a.mp4", "--no-journal").out != sent.out
    assert run("upload", "a.mp4", "--journal", "other.sqlite").out != sent.out
