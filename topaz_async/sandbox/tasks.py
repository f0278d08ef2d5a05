"""The life of a task: made, queued, upscaled in a worker thread, ended."""

from __future__ import annotations

import asyncio
import logging
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import attrs

from .answers import NO_CREDITS, SERVER_EXCEPTION
from .books import Books, Task
from .credits import IMAGE_MODEL, Account, least_price, price
from .engine import Engine, Kind, MediaError, WorkCancelledError
from .faults import Fault
from .files import FileStore
from .inputs import Input, Inputs
from .loopback import UnreachableError
from .threads import Threads

log = logging.getLogger(__name__)

#: ``failCode`` and ``failMsg`` by cause, in words that were seen in captures: the first ones only
#: at the first look and without times, the second ones seconds later, with times.
UNREADABLE: Final = ("422", "generate playground failed, task id is blank")
UPLOAD_FAILED: Final = ("500", "Upload failed: Server internal error.")
INTERNAL: Final = ("500", "Internal Error")
#: The cause noted in the books when a fault of the script ended a task.
SCRIPTED: Final = "a fault of the script"

#: Seconds, or what gives the seconds for the n-th task.
Seconds = float | Callable[[int], float]


class RefusedError(Exception):
    """No task was made; carries the API's code and words."""

    def __init__(self, code: int, msg: str) -> None:
        super().__init__(code, msg)
        self.code, self.msg = code, msg


class _OutOfCreditsError(Exception):
    pass


@attrs.frozen
class Order:
    """A createTask request that passed the checks of its fields."""

    model: str
    input: Mapping[str, Any]
    source: str
    factor: int
    callback_url: str | None


@attrs.define
class Settings:
    """How the tasks of one sandbox run."""

    workers: int
    queue_seconds: Seconds
    run_seconds: Seconds
    #: Seconds a result's link lives; None for ever.
    link_seconds: float | None
    #: Refuse an unreadable input at creation instead of failing its task.
    refuse_unreadable: bool


class Tasks:
    """Makes tasks and sees each to its end."""

    def __init__(
        self,
        settings: Settings,
        *,
        books: Books,
        account: Account,
        engine: Engine,
        inputs: Inputs,
        files: FileStore,
        on_end: Callable[[Task], None],
    ) -> None:
        self._settings, self._books, self._account = settings, books, account
        self._engine, self._inputs, self._files = engine, inputs, files
        self._on_end = on_end
        self._pool = Threads(settings.workers, "worker")
        self._slots = asyncio.Semaphore(settings.workers)
        self._closing = threading.Event()
        self._lives: set[asyncio.Task[None]] = set()

    async def submit(self, order: Order, doom: Fault | None) -> Task:
        """Make a task and start it.

        Args:
            order: What is wanted.
            doom: A fault that decides how the task ends.

        Raises:
            RefusedError: The credits do not suffice, or the input is unreadable and that is to be
                told now. Nothing was bought.
        """
        given: Input | None = None
        unreadable: str | None = None
        try:
            given = await self._look_ahead(order)
        except MediaError as error:
            unreadable = str(error)
        upload = self._inputs.upload(order.source)
        held = 0.0 if given is None else price(order.model, order.factor, given.info)
        # Nothing is awaited between this check and the entry in the books.
        if max(held, least_price(order.model, order.factor)) > self._account.left:
            if given is not None:
                await self._inputs.release(given)
            raise RefusedError(402, NO_CREDITS)
        self._account.hold(held)
        task = Task(
            task_id=secrets.token_hex(16),
            number=len(self._books.tasks) + 1,
            model=order.model,
            input=order.input,
            source=order.source,
            factor=order.factor,
            callback_url=order.callback_url,
            created=_now(),
            credits=held,
            digest=None if upload is None else upload.digest,
        )
        self._books.enter_task(task)
        if doom is not None and doom.action == "fail_at_once":
            self._end(self._failed(task, _words(doom), SCRIPTED, timed=False))
        elif doom is None and unreadable is not None:
            self._end(self._failed(task, UNREADABLE, unreadable, timed=False))
        else:
            life = asyncio.create_task(self._live(task, given, doom))
            self._lives.add(life)
            life.add_done_callback(self._lives.discard)
        return task

    async def aclose(self) -> None:
        """Stop all tasks where they are, within about two seconds."""
        self._closing.set()
        lives = list(self._lives)
        for life in lives:
            life.cancel()
        await asyncio.gather(*lives, return_exceptions=True)
        await self._pool.aclose(2.0)

    async def _look_ahead(self, order: Order) -> Input | None:
        """Read the input before the task is made, where that is cheap or asked for.

        Raises:
            MediaError: An upload is nothing that can be upscaled.
            RefusedError: The same of any input, where it is to be refused.
        """
        early = self._settings.refuse_unreadable
        if not early and self._inputs.upload(order.source) is None:
            return None
        try:
            return await self._inputs.bring(order.source, order.model)
        except (MediaError, UnreachableError):
            if early:
                raise RefusedError(500, SERVER_EXCEPTION) from None
            raise

    async def _live(self, task: Task, given: Input | None, doom: Fault | None) -> None:
        clock = asyncio.get_running_loop().time
        words: tuple[str | None, str | None]
        try:
            await asyncio.sleep(_seconds(self._settings.queue_seconds, task.number))
            async with self._slots:
                started = clock()
                self._change(task, state="generating")
                made = None if doom is not None else await self._work(task.task_id, given)
            # The rest of the time it holds no worker: the service runs a hundred and more at once.
            least = _seconds(self._settings.run_seconds, task.number)
            await asyncio.sleep(max(0.0, started + least - clock()))
            task = self._books.tasks[task.task_id]
            if doom is not None or made is None:
                words, cause = _words(doom), SCRIPTED
            else:
                self._end(self._succeeded(task, *made))
                return
        except WorkCancelledError:
            return
        except (MediaError, UnreachableError) as error:
            words, cause = UPLOAD_FAILED, str(error)
        except _OutOfCreditsError as error:
            words, cause = ("402", NO_CREDITS), str(error)
        except Exception as error:
            # A crash of the engine fails one task; the sandbox goes on.
            log.exception("task %s crashed", task.task_id)
            words, cause = INTERNAL, repr(error)
        self._end(self._failed(self._books.tasks[task.task_id], words, cause))

    async def _work(self, task_id: str, given: Input | None) -> tuple[Path, int]:
        """Upscale a task's input, and return the result's path and size in bytes."""
        task = self._books.tasks[task_id]
        if given is None:
            given = await self._inputs.bring(task.source, task.model)
        try:
            if not task.credits:
                cost = price(task.model, task.factor, given.info)
                if not self._account.hold(cost):
                    raise _OutOfCreditsError("the credits do not suffice for the input's length")
                task = self._change(task, credits=cost)
            made = self._files.scratch(given.info.ending)
            size = await self._pool.run(
                self._upscale,
                given.path,
                made,
                factor=task.factor,
                kind="image" if task.model == IMAGE_MODEL else "video",
            )
            return made, size
        finally:
            await self._inputs.release(given)

    def _upscale(self, source: Path, target: Path, *, factor: int, kind: Kind) -> int:
        """Run the engine, in a worker thread, and return the size of what it made."""
        self._engine.upscale(
            source, target, factor=factor, kind=kind, cancelled=self._closing.is_set
        )
        return target.stat().st_size

    def _succeeded(self, task: Task, made: Path, size: int) -> Task:
        now, life = _now(), self._settings.link_seconds
        dies = None if life is None else asyncio.get_running_loop().time() + life
        file = self._files.add_result(made, f"{task.task_id}_{now}{made.suffix}", size, dies)
        urls = (self._files.url_of(file),)
        return attrs.evolve(task, state="success", completed=now, result_urls=urls)

    def _failed(
        self,
        task: Task,
        words: tuple[str | None, str | None],
        cause: str,
        *,
        timed: bool = True,
    ) -> Task:
        self._account.give_back(task.credits)
        return attrs.evolve(
            task,
            state="fail",
            fail_code=words[0],
            fail_msg=words[1],
            credits=0.0,
            cause=cause,
            completed=_now() if timed else None,
        )

    def _change(self, task: Task, **changes: Any) -> Task:
        task = attrs.evolve(task, **changes)
        self._books.enter_task(task)
        return task

    def _end(self, task: Task) -> None:
        self._books.enter_task(task)
        self._on_end(task)


def _words(doom: Fault | None) -> tuple[str | None, str | None]:
    return INTERNAL if doom is None else (doom.fail_code, doom.fail_msg)


def _now() -> int:
    return int(time.time() * 1000)


def _seconds(setting: Seconds, number: int) -> float:
    return setting(number) if callable(setting) else setting
