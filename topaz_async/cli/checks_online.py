"""The checks of the doctor that ask the service; nothing they ask for costs anything."""

from __future__ import annotations

import asyncio
import os
import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import urlsplit

import aiohttp
import attrs

from ..client import TopazClient
from ..errors import AuthenticationError, ConfigurationError, TopazError
from ..ports import Answer
from ..sessions import Contact, make_session, proxies
from ..settings import RetryPolicy, Timeouts
from ..texts import clean
from .checks import Check

__all__ = ["Sign", "check_account", "check_clock", "check_edge", "check_host", "sign_of_life"]

#: Seconds for which a host may be silent.
_PATIENCE: Final = 10.0
#: Of a page that refuses this machine, bytes that are read.
_MAX_PAGE: Final = 65536
#: What the page of a content network says when it turns somebody away.
_EDGE_PAGE: Final = re.compile(rb"error code: 10\d\d|cloudflare", re.IGNORECASE)
#: A Date header is cut to whole seconds, and the way here takes its time too.
_SKEW: Final = timedelta(seconds=30)
#: Callbacks older or younger than this are refused.
_WORST_SKEW: Final = timedelta(seconds=300)


@attrs.frozen
class Sign:
    """What a host has answered to a request without a key."""

    url: str
    answer: Answer | None
    #: Why there is none.
    reason: str = ""
    #: Half the time that the exchange took.
    way: timedelta = timedelta(0)

    @property
    def is_blocked(self) -> bool:
        """Whether the network in front of the host has refused this machine.

        The host itself may answer 403 as well: its first page is for nobody.
        """
        if self.answer is None or self.answer.status not in (403, 429, 503):
            return False
        return _EDGE_PAGE.search(self.answer.body) is not None

    @property
    def skew(self) -> timedelta | None:
        """By how much this machine's clock is ahead of the host's."""
        if self.answer is None:
            return None
        try:
            theirs = parsedate_to_datetime(self.answer.headers["date"])
        except (KeyError, ValueError):
            return None
        if theirs.tzinfo is None:
            theirs = theirs.replace(tzinfo=UTC)
        return self.answer.received_at - self.way - theirs


async def sign_of_life(url: str) -> Sign:
    """Ask a host for its first page, without a key and without going where it may point."""
    loop = asyncio.get_running_loop()
    contact, began = Contact(), loop.time()
    try:
        proxy = proxies(None)(url)
        async with (
            asyncio.timeout(_PATIENCE),
            make_session(
                fresh=True, limit=1, connect_timeout=_PATIENCE, ssl=True, local_addr=None
            ) as session,
            session.get(
                f"{url}/",
                allow_redirects=False,
                proxy=proxy,
                trace_request_ctx=contact,
                middlewares=(contact.once,),
            ) as response,
        ):
            way = (loop.time() - began) / 2
            received = datetime.now(UTC)
            body = await response.content.read(_MAX_PAGE)
            headers = {name.lower(): value for name, value in response.headers.items()}
            answer = Answer(
                status=response.status, headers=headers, body=body, received_at=received
            )
            return Sign(url, answer, way=timedelta(seconds=way))
    except TimeoutError:
        return Sign(url, None, f"no answer within {_PATIENCE:g} s")
    except ConfigurationError as error:
        return Sign(url, None, error.message.rstrip("."))
    except (aiohttp.ClientError, OSError) as error:
        return Sign(url, None, _reason(error))


def _reason(error: Exception) -> str:
    """Return the system's words; aiohttp's own can name a proxy with its password."""
    cause = error.__cause__ or error
    cause = getattr(cause, "certificate_error", None) or getattr(cause, "os_error", None) or cause
    number = getattr(cause, "errno", None) or 0
    if number > 0:  # asyncio puts words of its own into strerror
        return os.strerror(number)
    found = getattr(cause, "strerror", None) or getattr(cause, "verify_message", None)
    return clean(found or f"{type(cause).__name__} {getattr(cause, 'status', '')}", 200)


def check_host(name: str, sign: Sign) -> Check:
    """Say whether a host can be reached."""
    if sign.answer is None:
        todo = "Check the network, its firewall, and the proxy."
        return Check(name, "fail", f"{sign.url} is not reached: {sign.reason}", todo)
    status = sign.answer.status
    if 300 <= status < 400:
        found = (
            f"{sign.url} points elsewhere: {clean(sign.answer.headers.get('location', ''), 100)}"
        )
        return Check(
            name, "warn", found, "Somebody on the way wants a login, or the address is wrong."
        )
    if status >= 500:
        return Check(name, "warn", f"{sign.url} answers HTTP {status}", "Try again later.")
    return Check(name, "ok", f"{sign.url} answers")


def check_edge(*signs: Sign) -> Check:
    """Say whether the network in front of the service lets this machine through."""
    for sign in signs:
        if sign.answer is not None and sign.is_blocked:
            ray = clean(sign.answer.headers.get("cf-ray", ""), 40)
            found = f"{urlsplit(sign.url).netloc} refuses this machine (HTTP {sign.answer.status}"
            return Check(
                "edge",
                "fail",
                f"{found}{', ray ' + ray if ray else ''}); it is not about the key",
                "Go through another network or proxy, or ask the service's support.",
            )
    if all(sign.answer is None for sign in signs):
        return Check("edge", "warn", "not known: no host was reached")
    return Check("edge", "ok", "no block")


def check_clock(*signs: Sign) -> Check:
    """Compare this machine's clock with the hosts'."""
    skew = next((sign.skew for sign in signs if sign.skew is not None), None)
    if skew is None:
        return Check("clock", "warn", "not known: no host told the time")
    seconds = skew.total_seconds()
    if abs(skew) <= _SKEW:
        return Check("clock", "ok", f"right to {max(1, round(abs(seconds)))} s")
    found = f"{abs(seconds):.0f} s {'ahead of' if seconds > 0 else 'behind'} the service's"
    if abs(skew) < _WORST_SKEW:
        return Check("clock", "warn", found, "Set the clock, best by NTP.")
    found += ": signed callbacks are refused"
    return Check("clock", "fail", found, "Set the clock, best by NTP.")


async def check_account(key: str, base_url: str) -> Check:
    """Ask for the balance, which shows whether the key is taken."""
    topaz = TopazClient(
        key,
        base_url=base_url,
        timeouts=Timeouts(connect=_PATIENCE, poll=_PATIENCE),
        retry=RetryPolicy(attempts=2),
    )
    try:
        async with topaz:
            balance = await topaz.credits()
    except AuthenticationError as error:
        return Check(
            "account", "fail", error.message.rstrip("."), "Check the key, or make a new one."
        )
    except TopazError as error:
        return Check("account", "fail", error.message.rstrip("."), error.hint or "")
    if balance <= 0:
        return Check("account", "warn", f"the key is taken; {balance:g} credits", "Top up.")
    return Check("account", "ok", f"the key is taken; {balance:g} credits")
