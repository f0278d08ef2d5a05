"""The sandbox as a whole: two origins on loopback, opened and closed together."""

from __future__ import annotations

import asyncio
import hmac
import logging
import os
import random
import re
import shutil
import socket
import tempfile
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from aiohttp import web

from .answers import (
    JSON,
    SERVER_EXCEPTION,
    UNAUTHORIZED,
    Answer,
    failure,
    not_found,
    rate_limited,
    unauthorized,
    upload_failure,
)
from .books import KEPT_BODY, Books
from .callbacks import Body, CallbackSettings, Courier
from .credits import IMAGE_MODEL, VIDEO_MODEL, Account
from .dashboard import page
from .delivery import Delivery, leave_untyped
from .engine import NEEDS_PYAV, Engine
from .faults import UNANSWERED, Fault, Faults
from .files import FileStore
from .hosting import dead_link, serve
from .inputs import Inputs
from .loopback import is_loopback, open_session
from .quotas import Window
from .routes import FRESH_SECONDS, Api
from .tasks import Seconds, Settings, Tasks
from .threads import Threads
from .uploads import Uploads

try:
    from .upscale import PyAVEngine
except ImportError:
    # With an engine of the caller's the sandbox runs without PyAV.
    PyAVEngine = None  # type: ignore[assignment,misc]

log = logging.getLogger(__name__)

#: Method and route by path of the API host.
API_PATHS: Final = {
    "/api/v1/jobs/createTask": ("POST", "createTask"),
    "/api/v1/jobs/recordInfo": ("GET", "recordInfo"),
    "/api/v1/chat/credit": ("GET", "credit"),
    "/api/v1/common/download-url": ("POST", "download-url"),
    "/api/v1/models": ("GET", "models"),
}
_PRICE_PATH: Final = re.compile(r"/api/v1/models/.+/price\Z")
_WITH_BODY: Final = frozenset({"createTask", "download-url"})
#: Bytes of a JSON body, and of one that carries a file as base64.
MAX_JSON: Final = 2 * 1024**2
MAX_BASE64: Final = 64 * 1024**2

#: What answers one route: its name, the request, its number in the books, its arrival.
Act = Callable[[str, web.Request, int, float], Awaitable[Answer]]


def _default_engine(workers: int) -> Engine:
    if PyAVEngine is None:
        raise ImportError(NEEDS_PYAV)
    return PyAVEngine(threads=max(1, (os.cpu_count() or 1) // workers))


class Sandbox:
    """The service on loopback; upscales for real, bills play money, keeps books.

    ``async with Sandbox() as sandbox:`` opens it; leaving stops all tasks, closes all sockets and
    threads and removes all files, within about two seconds.

    Args:
        host: A loopback address or ``localhost``; anything else is refused.
        port: Port of the API; 0 picks a free one. Uploads and files always get a second port.
        api_key: The Bearer key that is accepted.
        queue_seconds: Least time a task stays ``waiting``, or a function of its number (from 1).
        run_seconds: Least time a task stays ``generating``, likewise; it holds no worker.
        workers: Tasks that are upscaled at once.
        submit_quota: createTask calls admitted in any ``submit_window`` seconds; None for no limit.
        submit_window: Seconds.
        poll_quota: recordInfo calls admitted in any ``poll_window`` seconds; None for no limit.
        poll_window: Seconds.
        arrival_jitter: Each request is held up by 0 to so many seconds before it counts as arrived.
        credits: Credits on the account.
        webhook_key: Key that signs callbacks; None sends them unsigned.
        max_upload_bytes: Largest upload.
        max_input_bytes: Largest video of a task (newest page of the service: 50 MB).
        max_image_bytes: Largest image of a task (10 MB on all pages).
        link_seconds: Life of a result's link; None for ever.
        fresh_seconds: Life of a link from download-url.
        faults: What is to go wrong, see `Fault`.
        engine: What upscales; None for PyAV.
        seed: Makes jitter and fault probabilities repeatable.
        retry_after: ``Retry-After`` of the quota's 429 answers; None sends none, as far as known.
        refuse_unreadable: Refuse an unreachable or unreadable input at creation (code 500, seen
            with models billed by duration) instead of failing its task.
        callback_body: ``market`` or ``guide``, the two documented bodies.
        callback_timeout: Seconds for one attempt of a callback.
        callback_pause: Seconds between two attempts.

    Raises:
        ValueError: ``host`` is not loopback, or a number is out of range.
        ImportError: PyAV is missing and no ``engine`` was given; says what to install.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        api_key: str = "sandbox-key",
        queue_seconds: Seconds = 0.0,
        run_seconds: Seconds = 0.0,
        workers: int = 2,
        submit_quota: int | None = 20,
        submit_window: float = 10.0,
        poll_quota: int | None = 10,
        poll_window: float = 1.0,
        arrival_jitter: float = 0.0,
        credits: float = 1000.0,  # noqa: A002  # the service's word
        webhook_key: str | None = None,
        max_upload_bytes: int = 1024**3,
        max_input_bytes: int = 50 * 1024**2,
        max_image_bytes: int = 10 * 1024**2,
        link_seconds: float | None = None,
        fresh_seconds: float = FRESH_SECONDS,
        faults: Iterable[Fault] = (),
        engine: Engine | None = None,
        seed: int | None = None,
        retry_after: float | str | None = None,
        refuse_unreadable: bool = False,
        callback_body: Body = "market",
        callback_timeout: float = 15.0,
        callback_pause: float = 1.0,
    ) -> None:
        if not is_loopback(host):
            raise ValueError(f"the sandbox binds loopback addresses only, not {host!r}")
        if workers < 1:
            raise ValueError("workers must be 1 or more")
        self._host, self._port, self.api_key = host, port, api_key
        self._jitter, self._retry_after = arrival_jitter, retry_after
        self._chance = random.Random(seed)  # noqa: S311  # jitter, no secret
        self._account = Account(credits)
        #: What arrived and what was paid; tests assert on it.
        self.books = Books(self._account)
        #: The rules in force.
        self.faults = Faults(faults, self._chance)
        self._windows = {
            "createTask": Window(submit_quota, submit_window),
            "recordInfo": Window(poll_quota, poll_window),
        }
        self._settings = Settings(
            workers=workers,
            queue_seconds=queue_seconds,
            run_seconds=run_seconds,
            link_seconds=link_seconds,
            refuse_unreadable=refuse_unreadable,
        )
        self._callbacks = CallbackSettings(
            webhook_key, callback_body, callback_timeout, callback_pause
        )
        self._max_upload_bytes = max_upload_bytes
        self._max_input_bytes = {VIDEO_MODEL: max_input_bytes, IMAGE_MODEL: max_image_bytes}
        self._fresh_seconds = fresh_seconds
        self._engine = _default_engine(workers) if engine is None else engine
        self._exit = AsyncExitStack()
        self._exchanges: set[asyncio.Task[Any]] = set()
        self._opened = False
        #: Origins; set when the sandbox is open.
        self.base_url = self.upload_url = ""

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    def add_fault(self, fault: Fault) -> Fault:
        """Put a rule behind those in force, and return it."""
        self.faults.add(fault)
        return fault

    async def start(self) -> None:
        """Open the sandbox; a sandbox is opened once."""
        if self._opened:
            raise RuntimeError("a sandbox is opened once; make another")
        self._opened = True
        try:
            await self._open()
        except BaseException:
            await self.aclose()
            raise

    async def aclose(self) -> None:
        """Close the sandbox; closing twice is fine."""
        await self._exit.aclose()

    async def _open(self) -> None:
        stack = self._exit
        disk = Threads(4, "disk")
        stack.push_async_callback(disk.aclose, 1.0)
        folder = Path(await disk.run(tempfile.mkdtemp, prefix="topaz-sandbox-"))
        stack.push_async_callback(disk.run, shutil.rmtree, folder, ignore_errors=True)
        session, calling = open_session(), open_session(keep=True)
        stack.push_async_callback(session.close)
        stack.push_async_callback(calling.close)

        api, files = self._bind(self._port), self._bind(0)
        stack.callback(api.close)
        stack.callback(files.close)
        self.base_url, self.upload_url = self._origin(api), self._origin(files)

        self._files = FileStore(folder, self.upload_url)
        courier = Courier(self._callbacks, books=self.books, faults=self.faults, session=calling)
        stack.push_async_callback(courier.aclose)
        inputs = Inputs(
            engine=self._engine,
            files=self._files,
            session=session,
            disk=disk,
            max_bytes=self._max_input_bytes,
        )
        self._tasks = Tasks(
            self._settings,
            books=self.books,
            account=self._account,
            engine=self._engine,
            inputs=inputs,
            files=self._files,
            on_end=courier.task_ended,
        )
        stack.push_async_callback(self._tasks.aclose)
        self._api = Api(
            books=self.books,
            faults=self.faults,
            tasks=self._tasks,
            files=self._files,
            fresh_seconds=self._fresh_seconds,
        )
        self._uploads = Uploads(
            books=self.books,
            files=self._files,
            session=session,
            disk=disk,
            max_bytes=self._max_upload_bytes,
        )
        # Another name for a place that listens, so that a key sent there shows in the books.
        elsewhere = f"http://localhost:{files.getsockname()[1]}/elsewhere"
        self._delivery = Delivery(disk, elsewhere)
        # Last in, first out: nothing new comes in while the rest is closed.
        stack.push_async_callback(self._end_exchanges)
        await self._listen(api, self._at_api, MAX_JSON)
        await self._listen(
            files, self._at_files, max(MAX_JSON, min(self._max_upload_bytes, MAX_BASE64))
        )

    def _bind(self, port: int) -> socket.socket:
        host = "127.0.0.1" if self._host.endswith("localhost") else self._host
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((host, port))
        except BaseException:
            sock.close()
            raise
        return sock

    def _origin(self, sock: socket.socket) -> str:
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{sock.getsockname()[1]}"

    async def _listen(
        self,
        sock: socket.socket,
        handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
        max_body: int,
    ) -> None:
        app = web.Application(client_max_size=max_body)
        app.router.add_route("*", "/{path:.*}", handler)
        app.on_response_prepare.append(leave_untyped)
        # Keep-alive longer than any pause between polls, as the service's proxy keeps it.
        runner = web.AppRunner(app, access_log=None, keepalive_timeout=75.0, shutdown_timeout=0.1)
        self._exit.push_async_callback(runner.cleanup)
        await runner.setup()
        await web.SockSite(runner, sock, backlog=2048).start()

    async def _end_exchanges(self) -> None:
        # The server forgets an exchange whose client has gone, though it may still be going on.
        for exchange in (exchanges := list(self._exchanges)):
            exchange.cancel()
        await asyncio.gather(*exchanges, return_exceptions=True)

    async def _at_api(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/" and request.method in ("GET", "HEAD"):
            return page(self.books, self.base_url, self.upload_url)
        method, route = API_PATHS.get(request.path, ("GET", "unknown"))
        if _PRICE_PATH.match(request.path):
            route = "price"
        if route == "unknown":
            return await self._exchange(request, route, self._no_route)
        if request.method != method:
            return await self._exchange(request, "unknown", self._no_method)
        return await self._exchange(request, route, self._act)

    async def _at_files(self, request: web.Request) -> web.StreamResponse:
        route = request.path.removeprefix("/api/")
        if request.path.startswith("/api/") and route in self._uploads.routes:
            return await self._exchange(request, route, self._take)
        if request.path == "/elsewhere":
            return await self._exchange(request, "elsewhere", self._no_route)
        if request.method in ("GET", "HEAD"):
            return await self._exchange(request, "files", self._serve)
        return await self._exchange(request, "unknown", self._no_route)

    async def _exchange(self, request: web.Request, route: str, act: Act) -> web.StreamResponse:
        """Take one request through arrival, faults, action and answer."""
        this = asyncio.current_task()
        if this is not None:
            self._exchanges.add(this)
            this.add_done_callback(self._exchanges.discard)
        if self._jitter:
            await asyncio.sleep(self._chance.uniform(0, self._jitter))
        headers = {name.lower(): value for name, value in request.headers.items()}
        now = asyncio.get_running_loop().time()
        number = self.books.note_arrival(route, request.method, request.path_qs, now, headers)
        try:
            text = ""
            if route in _WITH_BODY:
                text = (await request.read()).decode("utf-8", "replace")
                self.books.note(number, body=text[:KEPT_BODY])
            fault = self.faults.draw(route, f"{request.path_qs} {text}", "before", "after")
            if fault is not None:
                self.books.note(number, fault=fault)
            if fault is not None and fault.phase == "before":
                answer = self._delivery.altered(Answer(), fault)
            else:
                answer = await self._acted(act, route, request, number, now)
                if fault is not None:
                    answer = self._delivery.altered(answer, fault)
            if fault is None or fault.action not in UNANSWERED:
                self.books.note(number, status=answer.status, code=answer.code)
            return await self._delivery.send(request, answer, fault)
        except (ConnectionError, web.RequestPayloadError):
            # The peer has gone; there is nobody to tell.
            return web.Response()

    async def _acted(
        self, act: Act, route: str, request: web.Request, number: int, now: float
    ) -> Answer:
        """Let ``act`` answer; a crash is told in the service's own words."""
        try:
            return await act(route, request, number, now)
        except (ConnectionError, web.RequestPayloadError, web.HTTPException):
            raise
        except Exception:  # whatever it is, a client gets no page of aiohttp's for it
            log.exception("%s %s crashed", request.method, route)
            told = upload_failure if route in self._uploads.routes else failure
            return told(500, SERVER_EXCEPTION)

    async def _act(self, route: str, request: web.Request, number: int, now: float) -> Answer:
        if not self._key_fits(request):
            return unauthorized()
        if route in _WITH_BODY and request.content_type != JSON:
            message = f"Content type '{request.content_type}' not supported"
            return not_found(
                request.path, status=415, error="Unsupported Media Type", message=message
            )
        window = self._windows.get(route)
        if window is not None and not window.admit(now):
            self.books.refused_429[route] += 1
            return rate_limited(self._retry_after)
        return await self._api.answer(route, request, number)

    async def _take(self, route: str, request: web.Request, number: int, now: float) -> Answer:
        if request.method != "POST":
            return upload_failure(405, "Method not allowed")
        if not self._key_fits(request):
            return upload_failure(401, UNAUTHORIZED)
        return await self._uploads.take(route, request, number)

    async def _serve(self, route: str, request: web.Request, number: int, now: float) -> Answer:
        fault = self.faults.draw(route, request.path_qs, "content")
        if fault is not None:
            self.books.note(number, fault=fault)
            return dead_link(fault.status or 404)
        file = self._files.at(request.path)
        if file is None or (file.dies is not None and now >= file.dies):
            return dead_link()
        return serve(file, request.headers)

    async def _no_route(self, route: str, request: web.Request, number: int, now: float) -> Answer:
        return not_found(request.path)

    async def _no_method(self, route: str, request: web.Request, number: int, now: float) -> Answer:
        message = f"Request method '{request.method}' not supported"
        return not_found(request.path, status=405, error="Method Not Allowed", message=message)

    def _key_fits(self, request: web.Request) -> bool:
        given = request.headers.get("Authorization", "").encode("utf-8", "replace")
        return hmac.compare_digest(given, f"Bearer {self.api_key}".encode())
