"""Store a key in the system's keyring once the service has taken it, and remove it again."""

from __future__ import annotations

import getpass
import sys

from rich.console import Console

from ..client import BASE_URL
from ..errors import AuthenticationError, TopazError
from . import keyrings, sources
from .display import say
from .exits import StoppedError, UsageError
from .running import run_question
from .service import Service

__all__ = ["login", "logout", "masked"]

#: Of a key at least this long its last letters may be shown, to tell it from another one.
_LONG = 16


def masked(key: str) -> str:
    """Return what may be shown of a key."""
    return f"…{key[-4:]}" if len(key) >= _LONG and key[-4:].isprintable() else "(hidden)"


def login(base_url: str | None, console: Console) -> None:
    """Ask for a key, check it with a question that costs nothing, and store it.

    Args:
        base_url: Another service than kie.ai, or None.
        console: Where everything is shown.

    Raises:
        UsageError: No key was typed, or no keyring can be used.
        StoppedError: Ctrl-C.
        TopazError: The service did not take the key, or was not reached; nothing was stored.
    """
    base = sources.base_url(base_url).value or BASE_URL
    keyring = keyrings.name()  # whoever has none need not look for his key
    key = _typed(base)
    service = Service(api_key=key, base_url=base)

    async def balance() -> float:
        async with service.client() as topaz:
            return await topaz.credits()

    try:
        credits = run_question(balance)  # noqa: A001  # the service's word
    except AuthenticationError as error:
        error.hint = "The key was not stored: type it again, or make a new one in your account."
        raise
    except TopazError as error:
        error.add_note("The key was not stored.")
        raise
    keyrings.store(base, key)
    say(console, f"The key {masked(key)} is in the {keyring}; its account has {credits:g} credits.")
    other = sources.lookup(sources.KEY)
    if other.value and other.value != key:
        say(console, f"It is not used as long as {other.place} holds another one.")


def logout(base_url: str | None, console: Console) -> None:
    """Remove the stored key.

    Args:
        base_url: Another service than kie.ai, or None.
        console: Where everything is shown.

    Raises:
        UsageError: No keyring can be used.
    """
    base = sources.base_url(base_url).value or BASE_URL
    if keyrings.remove(base):
        say(console, f"The key of {base} is no longer in the {keyrings.name()}.")
    else:
        say(console, f"The {keyrings.name()} holds no key of {base}.")


def _typed(base: str) -> str:
    """Return the key that is typed, unseen, or that comes through a pipe."""
    try:
        if sys.stdin is not None and sys.stdin.isatty():
            key = getpass.getpass(f"Key of {base} (it is not shown): ")
        else:
            key = sys.stdin.readline() if sys.stdin is not None else ""
    except EOFError:
        key = ""
    except KeyboardInterrupt:
        print(file=sys.stderr)  # the terminal's line holds the question still
        raise StoppedError("Interrupted; nothing was stored.") from None
    except (OSError, ValueError) as error:  # a closed stream, letters of another encoding
        raise UsageError(f"The key cannot be read: {type(error).__name__}.") from None
    key = key.strip()
    if not key:
        raise UsageError("No key was typed; nothing was stored.")
    return key
