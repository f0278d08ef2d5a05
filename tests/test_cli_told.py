"""What the command line says of costs, tasks and names when something goes wrong."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.services import Bought, Service
from tests.test_cli import Ran, python, typed
from tests.test_cli_many import events
from topaz_async.cli.batches import Batches
from topaz_async.cli.entries import entries_of
from topaz_async.cli.exits import StoppedError, UsageError, error_as_json
from topaz_async.cli.planning import Planned
from topaz_async.cli.resuming import Left, left_behind
from topaz_async.cli.wishes import Wish
from topaz_async.errors import BudgetError, ReferenceConflictError
from topaz_async.journal import SqliteJournal
from topaz_async.ports import Intent
from topaz_async.report import status_of
from topaz_async.rings import RingWriter, rings_beside
from topaz_async.sandbox import Fault

Run = Callable[..., Ran]


@pytest.fixture
def run(service: Service, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the program inside this process."""
    return lambda *words: typed(capsys, *words)


@pytest.fixture
def clips(tmp_path: Path, tiny_clip: Path) -> Callable[..., list[Path]]:
    """Makes clips of different content."""

    def make(*names: str) -> list[Path]:
        paths = [tmp_path / name for name in names]
        for path in paths:
            path.write_bytes(tiny_clip.read_bytes() + os.urandom(8))
        return paths

    return make


def test_json_never_says_of_the_unforeseen_that_nothing_was_billed() -> None:
    """Only an error before anything was sent tells `billed` as no; each has a message."""
    told = {
        type(error).__name__: (
            error_as_json(error)["billed"],
            bool(error_as_json(error)["message"]),
        )
        for error in (UsageError("No."), StoppedError("No."), KeyboardInterrupt(), RuntimeError())
    }
    assert told == {
        "UsageError": ("no", True),
        "StoppedError": ("no", True),
        "KeyboardInterrupt": ("unknown", True),
        "RuntimeError": ("unknown", True),
    }


def test_hints_in_json_are_for_terminals_too() -> None:
    """A program that passes a hint on to a person does not speak of the library's arguments."""
    told = error_as_json(
        BudgetError("Too much.", hint="Raise the Budget, or wait until it is wanted.")
    )
    assert told["hint"] == "Raise --max-credits."


def test_a_reference_of_other_work_is_refused_without_its_task(
    run: Run, service: Service, clips: Any
) -> None:
    """A conflict buys nothing, takes over no task, and is seen by a dry run already."""
    clips("a.mp4", "b.mp4")
    run("upscale", "a.mp4", "--reference", "R")
    rehearsed = run("upscale", "b.mp4", "--reference", "R", "--dry-run")
    with Bought(service) as bought:
        ran = run("upscale", "b.mp4", "--reference", "R", "--json")
    (event, _) = events(ran)
    assert (rehearsed.code, ran.code, bought.count) == (2, 2, 0)
    assert (event["status"], event["task_id"]) == ("refused", None)
    assert ran.err == rehearsed.err
    assert "stands for other work already. Nothing was billed." in ran.err
    assert "goes on" not in ran.err


def test_the_way_out_of_a_conflict_is_told_in_the_terminals_words() -> None:
    """The library's advice speaks of arguments and of its journal."""
    raised = ReferenceConflictError(
        "No.",
        hint="Use one reference for one video, or pass the fingerprint= that tells it from other "
        "work; client.journal.forget(reference) frees it, and the next submit buys anew.",
    )
    assert error_as_json(raised)["hint"] == (
        "Use one reference for one video; `topaz-async forget REFERENCE` frees it, and the next "
        "submit buys anew."
    )


def test_a_conflict_that_only_the_client_sees_is_refused_as_well() -> None:
    """A task that a conflict names is not that of the clip."""
    assert status_of(ReferenceConflictError("No.", task_id="t"), "t") == "refused"


def test_resume_is_named_only_where_it_helps(
    run: Run, clips: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A result that was brought already is wanted elsewhere by a command of its own."""
    clips("a.mp4")
    run("upscale", "a.mp4")
    (job,) = events(run("jobs", "--all", "--json"))
    monkeypatch.setenv("KIE_API_KEY", "wrong")
    ran = run("upscale", "a.mp4", "-o", "other.mp4")
    assert ran.code == 4
    assert ran.err.splitlines()[-1] == f"topaz-async download {job['task_id']} -o other.mp4"
    assert "topaz-async resume" not in ran.err


@pytest.mark.parametrize("command", ["status", "wait", "download"])
@pytest.mark.parametrize("name", ["clip.mp4", "8", "3303e50d"])
def test_a_name_that_is_no_task_is_a_typing_error(run: Run, command: str, name: str) -> None:
    """What is neither known nor like a task id is not asked about."""
    ran = run(command, name)
    assert ran.code == 2
    assert "topaz-async jobs" in ran.err
    assert "billed" not in ran.err


def test_one_bad_task_does_not_hide_the_others(run: Run, clips: Any) -> None:
    """`status` and `wait` tell of each task, and end with a code for all."""
    clips("a.mp4")
    run("upscale", "a.mp4", "--reference", "good")
    for command in ("status", "wait"):
        ran = run(command, "0" * 32, "good", "f" * 32, "--json")
        assert ran.code == 1
        assert sorted(event["event"] for event in events(ran)) == ["error", "error", "task"]
        assert len(ran.err.splitlines()) == 2


def test_json_has_an_object_where_little_is_left(run: Run, service: Service, clips: Any) -> None:
    """Nothing to resume is a total of none, and what is forgotten unsent is counted."""
    (total,) = events(run("resume", "--json"))
    assert (total["event"], total["clips"], total["counts"]) == ("total", 0, {})
    clips("a.mp4", "b.mp4")
    service.add(Fault("createTask", "answer", code=402, msg="No."))
    run("upscale", "a.mp4", "b.mp4", "--concurrency", "1")
    assert events(run("forget", "--unsent", "--json")) == [{"event": "unsent", "commands": 1}]


def test_the_cost_of_what_still_runs_is_not_known(run: Run, service: Service, clips: Any) -> None:
    """The service says 0 while a task runs; that is no cost."""
    clips("a.mp4")
    service.run_seconds = 60.0
    clip = events(run("upscale", "a.mp4", "--timeout", "0.4", "--json"))[-2]
    service.settle()
    assert (clip["status"], clip["credits"]) == ("pending", None)


@pytest.mark.parametrize("command", ["jobs", "resume"])
def test_a_journal_that_is_none_is_wrong_usage(run: Run, tmp_path: Path, command: str) -> None:
    """Every command says of a broken journal what upscale says of it."""
    (tmp_path / "text").write_text("no journal at all" * 100)
    ran = run(command, "--journal", "text")
    assert ran.code == 2
    assert "Name another place with --journal, or add --no-journal." in ran.err


def test_a_password_in_an_address_is_shown_nowhere(run: Run) -> None:
    """Names and JSON hold neither user nor password of an address."""
    address = "https://user:secret@a.example/x.mp4?s=secret"
    for options in ((), ("--dry-run",), ("--json",), ("--reference", "R", "--dry-run", "--json")):
        ran = run("upscale", address, "gone.mp4", *options)
        assert "a.example/x.mp4" in ran.out + ran.err
        assert "secret" not in ran.out + ran.err


@pytest.mark.parametrize("command", ["credits", "upload a.mp4", "status 1", "download 1"])
def test_a_sandbox_is_offered_only_where_there_is_one(
    run: Run, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """A missing key is no reason to name an option that the command lacks."""
    monkeypatch.delenv("KIE_API_KEY")
    ran = run(*command.split())
    assert ran.code == 2
    assert "KIE_API_KEY" in ran.err
    assert "--sandbox" not in ran.err


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("credits", "Interrupted.\n"),
        (
            "download 00000000000000000000000000000000",
            "Interrupted. What was submitted goes on; `topaz-async jobs` lists it.\n",
        ),
    ],
)
def test_an_interrupted_question_speaks_of_no_task(
    run: Run, monkeypatch: pytest.MonkeyPatch, command: str, expected: str
) -> None:
    """Only a command that waits for tasks says that they go on."""

    def interrupted(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("topaz_async.cli.commands_service.run_story", interrupted)
    monkeypatch.setattr("topaz_async.cli.commands_tasks.run_story", interrupted)
    ran = run(*command.split())
    assert (ran.code, ran.err) == (130, expected)


def test_a_state_that_does_not_exist_is_wrong_usage(run: Run) -> None:
    """A word that is no state is not taken for an empty list."""
    assert run("jobs", "--state", "nonsense").code == 2
    assert run("jobs", "--state", "fail").out == "Nothing is fail.\n"


def test_a_failed_task_of_two_equal_clips_is_bought_once(
    run: Run, service: Service, clips: Any, tmp_path: Path
) -> None:
    """Clips of one content share a failure too; typed again, one new task serves both."""
    (clip,) = clips("a.mp4")
    (tmp_path / "b.mp4").write_bytes(clip.read_bytes())
    service.add(Fault("createTask", "fail", fail_code="500", fail_msg="Try again later."))
    with Bought(service) as bought:
        ran = run("upscale", "a.mp4", "b.mp4", "--concurrency", "1")
    assert (ran.code, bought.count) == (1, 1)
    with Bought(service) as bought:
        ran = run("upscale", "a.mp4", "b.mp4")
    assert (ran.code, ran.err, bought.count) == (0, "", 1)


async def test_ctrl_c_before_anything_has_begun_is_one_sentence() -> None:
    """While the program still loads, nothing was sent; a late Ctrl-C ends with its code too."""
    ran = await python(
        "import sys, topaz_async.cli as cli\n"
        "class Finder:\n"
        "    def find_spec(self, name, *rest):\n"
        "        if name == 'topaz_async.cli.app':\n"
        "            raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Finder())\n"
        "sys.exit(cli.main(['jobs']))"
    )
    assert (ran.code, ran.err) == (130, "Interrupted. Nothing was sent.\n")
    late = await python(
        "import os, signal, sys, topaz_async.cli as cli\n"
        "sys.argv = ['topaz-async', '--version']\n"
        "code = cli.main()\n"
        "os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.exit(code)"
    )
    assert (late.code, late.err) == (0, "")


def test_a_callback_that_has_come_tells_an_unknown_submit(
    run: Run, service: Service, clips: Any, tmp_path: Path
) -> None:
    """Typed again, the command brings the task that `listen` has heard of, and buys none."""
    (clip,) = clips("a.mp4")
    words = ("upscale", "a.mp4", "--journal", "j.sqlite", "--callback-url", "http://127.0.0.1:9/c")
    service.add(Fault("createTask", "lost_reply"))
    assert run(*words).code == 3
    (task_id,) = service.sandbox.books.billed_by_content(clip)
    (entry,) = asyncio.run(entries_of(tmp_path / "j.sqlite"))
    path = rings_beside(tmp_path / "j.sqlite")
    assert path is not None
    RingWriter(path).ring(task_id, entry.intent.nonce)
    with Bought(service) as bought:
        ran = run(*words)
    assert (ran.code, bought.count) == (0, 0)
    assert (tmp_path / "a-2x.mp4").is_file()


def test_one_consent_buys_equal_clips_once(
    run: Run, service: Service, clips: Any, tmp_path: Path
) -> None:
    """A folder of copies whose answer was lost: who consents to pay again pays once more."""
    (clip,) = clips("a.mp4")
    for name in "bcd":
        (tmp_path / f"{name}.mp4").write_bytes(clip.read_bytes())
    service.add(Fault("createTask", "lost_reply", times=2))
    with Bought(service) as bought:
        assert 0 != run("upscale", "a.mp4", "--yes").code
    assert 1 == bought.count
    names = [f"{name}.mp4" for name in "abcd"]
    with Bought(service) as bought:
        ran = run("upscale", *names, "--resubmit-unknown", "--yes", "--concurrency", "1")
    assert (1, True) == (bought.count, ran.code != 0)


def test_a_clip_that_changed_since_it_was_looked_at_is_not_sent(
    run: Run, service: Service, clips: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be bought under the name of its old bytes, and then again under its own."""
    (clip,) = clips("a.mp4")
    old = clip.read_bytes()

    def agreed(*args: object, **options: object) -> None:
        clip.write_bytes(old + b"saved meanwhile")

    monkeypatch.setattr("topaz_async.cli.agreeing.agree", agreed)  # the person takes a while
    with Bought(service) as bought:
        ran = run("upscale", "a.mp4")
    assert (0, True) == (bought.count, "changed since it was looked at" in ran.err)
    assert "Nothing was billed." in ran.err
    monkeypatch.undo()


def test_a_reference_is_not_forgotten_with_a_paid_task_of_another_attempt(
    run: Run, tmp_path: Path
) -> None:
    """What is open under it counts, whichever attempt was named, and whichever was the last."""
    path = tmp_path / "j.sqlite"

    async def attempts() -> None:
        journal = SqliteJournal(path)
        for reference in ("paid", "lost"):
            wanted = Intent(reference=reference, fingerprint="f", model="topaz/video-upscale")
            first = (await journal.claim(wanted)).entry.id
            if reference == "paid":
                await journal.bind(first, "task-that-failed")
                await journal.note("task-that-failed", state="fail")
                again = (await journal.claim(wanted, resubmit_failed=True)).entry.id
                await journal.bind(again, "task-that-runs")
            else:
                await journal.lose(first, None, "reset")
                again = (await journal.claim(wanted, resubmit_unknown=True)).entry.id
                await journal.refuse(again, 402, "no credits")
        await journal.aclose()

    asyncio.run(attempts())
    for name in ("task-that-failed", "paid", "lost"):
        ran = run("forget", name, "--journal", str(path))
        assert (2, True) == (ran.code, "--yes" in ran.err)
    assert 4 == len(run("jobs", "--all", "--json", "--journal", str(path)).lines)
    assert 0 == run("forget", "paid", "lost", "--yes", "--journal", str(path)).code


def test_one_name_pays_once_however_many_clips_are_typed_and_however_spelt(
    run: Run, service: Service, clips: Any
) -> None:
    """A shell may find one clip more, or a path may be typed in another way."""
    a, _, _ = clips("a.mp4", "b.mp4", "c.mp4")
    ways = (("a.mp4",), ("a.mp4", "b.mp4"), ("./a.mp4", str(a)), ("b.mp4", "c.mp4"), ("c.mp4",))
    counts = []
    for number, words in enumerate(ways):
        with Bought(service) as bought:
            ran = run("upscale", *words, "--reference", "order-17", "-o", f"out-{number}/")
        counts.append(bought.count)
        assert 0 == ran.code
    assert [1, 1, 0, 1, 0] == counts


def test_addresses_that_differ_in_their_query_are_different_work(
    run: Run, service: Service
) -> None:
    """Under one name too; a new signature makes no other clip of one."""
    links = [f"https://a.example/get?id={number}" for number in (1, 6)]
    for signature in ("x", "y"):
        with Bought(service) as bought:
            signed = [f"{link}&X-Amz-Signature={signature}" for link in links]
            run("upscale", *signed, "--reference", "ord", "--dry-run")
            run("upscale", *signed, "--reference", "ord", "-o", "q/")
        if signature == "x":
            assert 2 == bought.count
    references = {task["reference"] for task in events(run("jobs", "--all", "--json"))}
    assert 2 == len(references)
    assert not any("Signature" in reference for reference in references)


def test_a_clip_that_had_failed_before_is_still_left(
    run: Run, service: Service, tmp_path: Path, tiny_clip: Path
) -> None:
    """A later command was to try it again, and broke off before it did."""
    path = tmp_path / "j.sqlite"

    async def fail() -> None:
        journal = SqliteJournal(path)
        wanted = Intent(reference="r", fingerprint="f", model="topaz/video-upscale")
        await journal.bind((await journal.claim(wanted)).entry.id, "failed")
        await journal.note("failed", state="fail")
        await journal.aclose()

    asyncio.run(fail())
    batches = Batches(path)
    wish = Wish(clip=str(tiny_clip), factor="2", output=tmp_path / "out.mp4", reference="r")
    batch = batches.remember([Planned(wish=wish, action="send")], "https://api.kie.ai")
    assert batch is not None
    batches.release()
    for begun, count in ((time.time() + 5, 1), (time.time() - 5, 0)):
        os.utime(batch, (begun, begun))
        left = asyncio.run(
            left_behind(
                path,
                service="https://api.kie.ai",
                timeout=9.0,
                overwrite=False,
                max_bytes=1 << 24,
            )
        )
        assert count == len(left.plan)


def test_a_task_without_a_reference_cannot_be_forgotten(run: Run, tmp_path: Path) -> None:
    """It says so, and blames no other task without one."""
    path = tmp_path / "j.sqlite"

    async def two() -> None:
        journal = SqliteJournal(path)
        for name in ("open", "ended"):
            wanted = Intent(reference=None, fingerprint=name, model="topaz/video-upscale")
            await journal.bind((await journal.claim(wanted)).entry.id, name)
        await journal.note("ended", state="fail")
        await journal.aclose()

    asyncio.run(two())
    ran = run("forget", "ended", "--journal", str(path))
    assert (2, True) == (ran.code, "Task ended has no reference to forget it by" in ran.err)
    assert 2 == len(run("jobs", "--all", "--json", "--journal", str(path)).lines)


def test_what_a_rehearsal_has_left_is_not_sent_to_the_real_service(
    tmp_path: Path, tiny_clip: Path
) -> None:
    """Nor is what was left for the real one sent to a sandbox, and taken for done."""
    path = tmp_path / "j.sqlite"
    batches = Batches(path)
    places = ("http://127.0.0.1:8400", "https://api.kie.ai")
    for number, place in enumerate(places):
        clip = tmp_path / f"{number}.mp4"
        clip.write_bytes(tiny_clip.read_bytes())
        output = tmp_path / f"out-{number}.mp4"
        wish = Wish(clip=str(clip), factor="2", output=output, reference=f"r{number}")
        assert batches.remember([Planned(wish=wish, action="send")], place)
    batches.release()

    def left_at(place: str) -> Left:
        story = left_behind(path, service=place, timeout=9.0, overwrite=False, max_bytes=1 << 24)
        return asyncio.run(story)

    for number, place in enumerate(places):
        left = left_at(place)
        assert [f"{number}.mp4"] == [Path(planned.wish.clip).name for planned in left.plan]
        left.settle(keep=left.plan)
        assert not left_at(place).plan


def test_what_a_rehearsal_has_the_name_of_is_not_forgotten(tmp_path: Path, tiny_clip: Path) -> None:
    """The real one was not sent: that is said, and it stays left."""
    path = tmp_path / "j.sqlite"
    wish = Wish(clip=str(tiny_clip), factor="2", output=tmp_path / "out.mp4", reference="r")
    batches = Batches(path)
    assert batches.remember([Planned(wish=wish, action="send")], "https://api.kie.ai")
    batches.release()

    async def rehearse() -> None:
        journal = SqliteJournal(path)
        wanted = Intent(
            reference="r", fingerprint="f", model="topaz/video-upscale", service="http://127.0.0.1"
        )
        await journal.bind((await journal.claim(wanted)).entry.id, "rehearsal")
        await journal.aclose()

    asyncio.run(rehearse())
    for _ in range(2):
        left = asyncio.run(
            left_behind(
                path,
                service="https://api.kie.ai",
                timeout=9.0,
                overwrite=False,
                max_bytes=1 << 24,
            )
        )
        assert [("refuse", "ReferenceConflictError")] == [
            (planned.action, type(planned.error).__name__) for planned in left.plan
        ]
        left.settle(keep=left.plan)


def test_a_file_of_another_kind_is_no_command(tmp_path: Path) -> None:
    batches = Batches(tmp_path / "j.sqlite")
    wish = Wish(clip="a.mp4", factor="2", output=Path("o.mp4"), reference="r")
    path = batches.remember([Planned(wish=wish, action="send")], "https://api.kie.ai")
    batches.release()
    assert path is not None
    path.write_text(path.read_text().replace('"https://api.kie.ai"', "5"))
    assert [] == batches.all()


def test_a_command_that_has_just_ended_hides_no_other(tmp_path: Path) -> None:
    """Its file may vanish while the others are looked for."""
    batches = Batches(tmp_path / "j.sqlite")
    wish = Wish(
        clip="a.mp4", factor="2", output=Path("o.mp4"), reference="r", resubmit_unknown=True
    )
    path = batches.remember([Planned(wish=wish, action="send")], "https://api.example")
    batches.release()
    assert path is not None
    (path.parent / "gone.json").symlink_to(tmp_path / "nowhere")
    (batch,) = batches.all()
    ((kept, _),) = batch.rows
    assert not kept.resubmit_unknown, "consent is for one command"


def test_what_resume_does_not_know_is_not_left_to_it(run: Run, service: Service) -> None:
    """A clip whose signed address was not written down has to be named again."""
    service.add(Fault("createTask", "answer", code=402, msg="No."))
    urls = ("https://a.example/a.mp4", "https://a.example/b.mp4?s=secret")
    ran = run("upscale", *urls, "--concurrency", "1")
    assert 5 == ran.code
    assert "Name it again to send it." in ran.err
    assert "secret=" not in ran.err
