"""Call the caller back when a task has ended, signed as the service signs."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import time
from collections.abc import Mapping
from typing import Any, Final, Literal

import aiohttp
import attrs
from yarl import URL

from .answers import dump
from .books import Books, SentCallback, Task
from .faults import Fault, Faults
from .loopback import loopback_url
from .records import callback_of, guide_callback_of

#: Retries after a first attempt without success; stated for the dedicated APIs of the service.
RETRIES: Final = 3

Body = Literal["market", "guide"]


def sign(key: str, task_id: str, timestamp: str) -> str:
    """Return the signature header: base64 of HMAC-SHA256 over ``task_id.timestamp``."""
    text = f"{task_id}.{timestamp}".encode()
    return base64.b64encode(hmac.new(key.encode(), text, hashlib.sha256).digest()).decode()


@attrs.frozen
class CallbackSettings:
    """How callbacks are sent."""

    #: Key of the signature; None sends none.
    key: str | None
    #: ``market`` as the Market pages document it, ``guide`` as the verification guide prints it.
    body: Body
    #: Seconds for one attempt.
    timeout: float
    #: Seconds between two attempts.
    pause: float


class Courier:
    """Sends callbacks in the background."""

    def __init__(
        self,
        settings: CallbackSettings,
        *,
        books: Books,
        faults: Faults,
        session: aiohttp.ClientSession,
    ) -> None:
        self._settings, self._books, self._faults = settings, books, faults
        self._session = session
        self._under_way: set[asyncio.Task[None]] = set()

    def task_ended(self, task: Task) -> None:
        """Start the callback of ``task``, if it asked for one."""
        if task.callback_url is None:
            return
        sending = asyncio.create_task(self._send(task, task.callback_url))
        self._under_way.add(sending)
        sending.add_done_callback(self._under_way.discard)

    async def aclose(self) -> None:
        """Stop sending."""
        under_way = list(self._under_way)
        for sending in under_way:
            sending.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)

    async def _send(self, task: Task, url: str) -> None:
        target = loopback_url(url)
        if target is None:
            note = "not sent: only URLs of this machine are called"
            self._books.enter_callback(SentCallback(task.task_id, url, 0, None, note=note))
            return
        fault = self._faults.draw("callback", f"{url} {task.task_id}", "callback")
        action = None if fault is None else fault.action
        if action == "lost":
            note = "not sent: a fault of the script"
            lost = SentCallback(task.task_id, url, 0, None, note=note, fault=fault)
            self._books.enter_callback(lost)
            return
        if fault is not None and action == "late":
            await asyncio.sleep(1.0 if fault.seconds is None else fault.seconds)
        copies = fault.copies if fault is not None and action == "duplicate" else 1
        body = dump(self._body(task, fault)).encode()
        for _ in range(copies):
            await self._deliver(task, url, target, body, fault)

    async def _deliver(
        self, task: Task, url: str, target: URL, body: bytes, fault: Fault | None
    ) -> None:
        for attempt in range(1, RETRIES + 2):
            # Signed anew each time, so that a retry is not stale.
            headers = self._headers(task.task_id, fault)
            status, note = await self._attempt(target, body, headers)
            self._books.enter_callback(
                SentCallback(
                    task.task_id, url, attempt, status, body.decode(), headers, note, fault
                )
            )
            if status is not None and 200 <= status < 300:
                return
            if attempt <= RETRIES:
                await asyncio.sleep(self._settings.pause)

    async def _attempt(
        self, url: URL, body: bytes, headers: Mapping[str, str]
    ) -> tuple[int | None, str | None]:
        timeout = aiohttp.ClientTimeout(total=self._settings.timeout)
        try:
            async with self._session.post(
                url, data=body, headers=headers, timeout=timeout, allow_redirects=False
            ) as answer:
                return answer.status, None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return None, type(error).__name__

    def _body(self, task: Task, fault: Fault | None) -> dict[str, Any]:
        action = None if fault is None else fault.action
        if action == "guide_body" or (action is None and self._settings.body == "guide"):
            return guide_callback_of(task.task_id)
        body = callback_of(task)
        if fault is not None and action == "forged":
            url = fault.location or "http://127.0.0.2:9/forged.mp4"
            body["data"] |= {"state": "success", "resultJson": dump({"resultUrls": [url]})}
        if action == "two_ids":
            body = {"taskId": "0" * 32, **body}
        return body

    def _headers(self, task_id: str, fault: Fault | None) -> dict[str, str]:
        headers = {"Content-Type": "application/json"}
        action = None if fault is None else fault.action
        key = self._settings.key
        if key is None or action == "unsigned":
            return headers
        if action == "forged":
            key = f"not-{key}"
        now = time.time()
        if fault is not None and action == "stale":
            now -= 3600.0 if fault.seconds is None else fault.seconds
        timestamp = str(int(now))
        headers["X-Webhook-Timestamp"] = timestamp
        headers["X-Webhook-Signature"] = sign(key, task_id, timestamp)
        return headers
