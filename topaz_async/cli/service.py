"""Which service a command talks to: the real one, one that was named, or an embedded sandbox."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import attrs

from ..client import BASE_URL, TopazClient
from ..ports import Journal
from ..settings import Budget, PollPolicy, Quotas
from ..texts import clean
from ..urls import is_loopback
from . import sources
from .exits import UsageError

if TYPE_CHECKING:
    from ..sandbox import Sandbox

__all__ = [
    "MISSING_SANDBOX",
    "NO_KEY",
    "Service",
    "embedded",
    "named",
    "named_url",
    "open_sandbox",
]

MISSING_SANDBOX = (
    "The sandbox needs PyAV, which is not installed: pip install 'topaz_async[cli,sandbox]'"
)

NO_KEY = (
    "There is no API key. Set KIE_API_KEY to the key of your kie.ai account, or store it once "
    "with `topaz-async login`."
)

_OR_REHEARSE = " Or add --sandbox to rehearse on this machine: no key, no cost."

#: A service on this machine answers at once, so its tasks are looked at more often.
_NEARBY = PollPolicy(first=0.15, longest=1.0)


@attrs.frozen(kw_only=True)
class Service:
    """Where a clip is sent, and with which key."""

    api_key: str = attrs.field(repr=False)
    base_url: str = BASE_URL
    upload_url: str | None = None
    #: The service ends with the command, tasks included; its bills are play money.
    is_embedded: bool = False

    @property
    def is_the_real_one(self) -> bool:
        """Whether this is kie.ai itself."""
        return self.base_url == BASE_URL

    @property
    def name(self) -> str:
        """What it is called: its address, unless it is the real one."""
        return "kie.ai" if self.is_the_real_one else self.base_url

    def client(
        self,
        *,
        journal: Journal | None = None,
        budget: Budget | None = None,
        quotas: Quotas | None = None,
    ) -> TopazClient:
        """Return a new client of this service."""
        nearby = is_loopback(urlsplit(self.base_url).hostname)
        return TopazClient(
            self.api_key,
            base_url=self.base_url,
            upload_url=self.upload_url,
            polling=_NEARBY if nearby else None,
            quotas=quotas,
            journal=journal,
            budget=budget,
        )


def named(base_url: str | None, upload_url: str | None, *, can_rehearse: bool = False) -> Service:
    """Return the service that options and settings name: kie.ai when they name none.

    Args:
        base_url: What was typed as its address.
        upload_url: What was typed as the address of its upload host.
        can_rehearse: Whether the command has `--sandbox`.

    Raises:
        UsageError: There is no key, or no getting at it.
        ConfigurationError: The address is none that may see a key.
    """
    base = named_url(base_url)
    key = sources.api_key(base).value
    if not key:
        raise UsageError(NO_KEY + (_OR_REHEARSE if can_rehearse else ""))
    uploads = sources.upload_url(upload_url, base).value
    return Service(api_key=key, base_url=base, upload_url=uploads)


def named_url(base_url: str | None) -> str:
    """Return the address of the service that option and settings name.

    Raises:
        ConfigurationError: It is none that may see a key.
    """
    return sources.base_url(base_url).value or BASE_URL


@asynccontextmanager
async def embedded(
    *, queue_seconds: float = 0.0, run_seconds: float = 0.0
) -> AsyncIterator[Service]:
    """Run a sandbox for as long as the block lasts."""
    async with open_sandbox(queue_seconds=queue_seconds, run_seconds=run_seconds) as sandbox:
        yield Service(
            api_key=sandbox.api_key,
            base_url=sandbox.base_url,
            upload_url=sandbox.upload_url,
            is_embedded=True,
        )


@asynccontextmanager
async def open_sandbox(
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    queue_seconds: float = 0.0,
    run_seconds: float = 0.0,
    credits: float = 1000.0,  # noqa: A002  # the service's word
) -> AsyncIterator[Sandbox]:
    """Run a sandbox for as long as the block lasts.

    Raises:
        UsageError: PyAV is missing, or the sandbox cannot run as it was asked to.
    """
    try:
        from ..sandbox import Sandbox

        sandbox = Sandbox(
            host,
            port,
            queue_seconds=queue_seconds,
            run_seconds=run_seconds,
            credits=credits,
        )
    except ImportError:
        raise UsageError(MISSING_SANDBOX) from None
    except ValueError as error:
        raise UsageError(f"The sandbox cannot run like that: {clean(error)}.") from None
    try:
        await sandbox.start()
    except (OSError, OverflowError) as error:
        reason = (getattr(error, "strerror", None) or clean(error)).rstrip(".")
        raise UsageError(f"The sandbox cannot listen on {host}:{port}: {reason}.") from None
    try:
        yield sandbox
    finally:
        await sandbox.aclose()
