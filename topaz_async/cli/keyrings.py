"""Keep a service's key in the system's keyring."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from ..texts import clean
from .exits import UsageError

if TYPE_CHECKING:
    from keyring.backend import KeyringBackend

__all__ = ["NoKeyringError", "name", "remove", "store", "stored"]

T = TypeVar("T")

#: What our entries are called in the keyring; the name in each is the service's address.
_SERVICE = "topaz-async"

_INSTEAD = "Put the key into KIE_API_KEY instead, or into a file that --env-file names."


class NoKeyringError(UsageError):
    """This machine has no keyring that can be used, or the extra is not installed."""


def stored(base_url: str) -> str | None:
    """Return the key that is kept for a service, or None.

    Raises:
        NoKeyringError: There is no keyring here.
        UsageError: The keyring holds it back.
    """
    return _asked(lambda keyring: keyring.get_password(_SERVICE, base_url))


def store(base_url: str, key: str) -> None:
    """Keep a key for a service, in the place of an earlier one.

    Raises:
        NoKeyringError: There is no keyring here.
        UsageError: The keyring does not take it.
    """

    _asked(lambda keyring: keyring.set_password(_SERVICE, base_url, key))


def remove(base_url: str) -> bool:
    """Drop the key of a service; False when none is kept.

    Raises:
        NoKeyringError: There is no keyring here.
        UsageError: The keyring does not let it go.
    """

    def drop(keyring: KeyringBackend) -> bool:
        if keyring.get_password(_SERVICE, base_url) is None:
            return False
        keyring.delete_password(_SERVICE, base_url)
        return True

    return _asked(drop)


def name() -> str:
    """Return what the system's keyring is called."""
    return _asked(lambda keyring: clean(keyring.name, 60))


def _asked(question: Callable[[KeyringBackend], T]) -> T:
    try:
        import keyring
        from keyring import errors
        from keyring.backends import fail, null
    except ImportError:
        raise NoKeyringError(
            "The system's keyring needs keyring, which is not installed: "
            "pip install 'topaz_async[cli,keyring]'"
        ) from None
    try:
        backend = keyring.get_keyring()
        if isinstance(backend, fail.Keyring | null.Keyring):  # the one refuses, the other forgets
            raise errors.NoKeyringError
        return question(backend)
    except errors.NoKeyringError:
        raise NoKeyringError(f"This machine has no keyring that can be used. {_INSTEAD}") from None
    except errors.KeyringLocked:
        raise UsageError(f"The keyring is locked. Unlock it. {_INSTEAD}") from None
    except Exception as error:  # backends let through what their system raises
        ours = isinstance(error, errors.KeyringError) and clean(error, 200).rstrip(".")
        words = ours or type(error).__name__
        raise UsageError(f"The keyring cannot be used: {words}. {_INSTEAD}") from None
