"""File locks that tell whether the owner of an intent still lives.

An owner is one journal object in one process.  It holds an operating-system lock on a file of
its own for as long as it lives; the system lets go of it even after `kill -9`, so neither
process ids (which come back) nor clocks (which jump) are needed.
"""

from __future__ import annotations

import functools
import os
import uuid
import weakref
from contextlib import suppress

from .errors import JournalError
from .locks import lock

__all__ = ["Owner"]

_SUFFIX = ".lock"

#: How often a new token is tried while others look at the file that was just made.
_TRIES = 100


class Owner:
    """One living owner of intents, and its eye on the others.

    Nothing is touched before the first call.  A forked child holds no part of its parent's
    lock: there the object is a new owner, without a token until it takes one.  Not to be called
    from two threads at once.

    Args:
        beside: The journal's file; the lock files of its owners lie in a folder beside it.  None
            for a journal that no other process can see.
    """

    def __init__(self, beside: str | None) -> None:
        #: May be made absolute before the first call.
        self.beside = beside
        self._token: str | None = None
        self._handle: int | None = None
        self._finalizer: weakref.finalize[..., Owner] | None = None

    def take(self) -> str:
        """Begin to live, unless that has happened already; return the token that says who.

        Raises:
            JournalError: The lock file cannot be made or locked.
        """
        if self._token is None:
            _living.add(self)
            self._token = uuid.uuid4().hex if self._folder is None else self._lock_file()
        return self._token

    def lives(self, token: str) -> bool:
        """Tell whether an owner lives, and clear its lock file away when it does not.

        Tokens are never used twice, so a file found dead can be removed by its name.
        """
        if token == self._token:
            return True
        return self._folder is not None and _is_held(self._path(token))

    def sweep(self) -> None:
        """Clear away the lock files of all owners that are dead."""
        with suppress(OSError):
            for name in os.listdir(self._folder) if self._folder is not None else ():
                if name.endswith(_SUFFIX):
                    self.lives(name.removesuffix(_SUFFIX))

    def release(self) -> None:
        """Stop living: what this owner left open has a dead owner from now on."""
        self._token = self._handle = None
        if self._finalizer is not None:
            self._finalizer()
            self._finalizer = None

    @functools.cached_property
    def _folder(self) -> str | None:
        # One folder for all who come to the same file, whichever link they came by.
        return None if self.beside is None else os.path.realpath(self.beside) + "-owners"

    def _path(self, token: str) -> str:
        return os.path.join(self._folder or "", token + _SUFFIX)

    def _lock_file(self) -> str:
        assert self._folder is not None
        for _ in range(_TRIES):
            token = uuid.uuid4().hex
            path = self._path(token)
            try:
                os.makedirs(self._folder, mode=0o700, exist_ok=True)
                # Kept at once, so that a fork in another thread finds it to close.
                self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
                # Somebody may have taken the file for a dead owner's before it was locked; it
                # is then locked by them for a moment, or gone.
                if lock(self._handle) and _is_at(self._handle, path):
                    self._finalizer = weakref.finalize(self, _let_go, self._handle, path)
                    return token
            except FileNotFoundError:
                # The last owner before us removed the folder just now.
                continue
            except OSError as error:
                self._close()
                raise JournalError(
                    f"The journal's lock file {path} cannot be made: {error.strerror or error}.",
                ) from None
            self._close()
            with suppress(OSError):
                os.unlink(path)
        raise JournalError(f"No lock file in {self._folder} could be kept.", retryable=True)

    def _close(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def _born_by_fork(self) -> None:
        # Closing keeps the parent's lock: it belongs to the open file, which the parent holds.
        if self._finalizer is not None:
            self._finalizer.detach()
            self._finalizer = None
        self._close()
        self._token = None


_living: weakref.WeakSet[Owner] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for owner in list(_living):
        owner._born_by_fork()
    _living.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def _is_held(path: str) -> bool:
    try:
        handle = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    except OSError:
        # Nobody can tell from here: "alive" makes others wait, "dead" would invent an end.
        return True
    try:
        # Shared, so that two who look at a dead owner do not take each other for it.
        if not lock(handle, shared=True):
            return True
        with suppress(OSError):
            os.unlink(path)  # under the lock: nobody can come to life in this file any more
    finally:
        os.close(handle)
    with suppress(OSError):
        os.unlink(path)  # Windows removes no open file
    return False


def _is_at(handle: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


def _let_go(handle: int, path: str) -> None:
    with suppress(OSError):
        os.unlink(path)
    with suppress(OSError):
        os.close(handle)
    with suppress(OSError):
        os.unlink(path)  # Windows removes no open file
    with suppress(OSError):
        os.rmdir(os.path.dirname(path))
