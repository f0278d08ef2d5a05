"""Where each setting comes from: an option, the environment, a file that was asked for, the
keyring, or the default; in this order.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Literal

import attrs

from ..access import origin_url
from ..client import BASE_URL, UPLOAD_URL
from ..texts import clean
from . import keyrings
from .env_file import read_env_file
from .exits import UsageError

__all__ = ["KEY", "Found", "api_key", "base_url", "lookup", "settings_of", "upload_url"]

#: The variable that holds the key, in the environment and in files.
KEY = "KIE_API_KEY"

Source = Literal["option", "environment", "file", "keyring", "default"]


@attrs.frozen
class Found:
    """The value of one setting, and where it stood."""

    #: None where nothing sets it and there is no default.
    value: str | None = attrs.field(repr=False)
    source: Source
    #: The option, the variable, the file or the keyring; empty for a default.
    place: str = ""


@attrs.frozen
class _File:
    name: str
    values: Mapping[str, str] = attrs.field(repr=False)


_file: ContextVar[_File | None] = ContextVar("_file", default=None)


@contextmanager
def settings_of(path: str | None) -> Iterator[list[str]]:
    """Read a file of settings; what it says holds until the block is left.

    As everywhere, the environment goes before such a file. Somebody who asks for a file may
    not expect it, so the words to tell him with are handed out.

    Args:
        path: The file that was asked for, or None.

    Raises:
        UsageError: The file cannot be read.
    """
    file = None if path is None else _File(clean(Path(path), 200), read_env_file(path))
    passed_over = (
        []
        if file is None
        else [
            f"{name} of the environment is used, not the one in {file.name}."
            for name, value in file.values.items()
            if value and os.environ.get(name, "") not in ("", value)
        ]
    )
    token = _file.set(file)
    try:
        yield passed_over
    finally:
        _file.reset(token)


def lookup(
    variable: str,
    *,
    option: str = "",
    given: str | None = None,
    default: str | None = None,
) -> Found:
    """Return what holds for a setting; empty values count as none.

    Args:
        variable: Its name in the environment and in files.
        option: Its name on the command line.
        given: What stands there, or None.
        default: What holds when nobody says anything.
    """
    file = _file.get()
    said = "" if file is None else file.values.get(variable, "")
    if given:
        return Found(given, "option", option)
    if value := os.environ.get(variable):
        return Found(value, "environment", variable)
    if said and file is not None:
        return Found(said, "file", file.name)
    return Found(default, "default")


def base_url(given: str | None) -> Found:
    """Return the origin of the API, which may see the key.

    Raises:
        ConfigurationError: It is no origin, or plain http to another machine.
        UsageError: The variable is set and empty: a sandbox that did not start must not turn a
            rehearsal into a purchase.
    """
    if not given and os.environ.get("TOPAZ_ASYNC_BASE_URL") == "":
        raise UsageError(
            "TOPAZ_ASYNC_BASE_URL is set and empty. Unset it for kie.ai, or name the service."
        )
    found = lookup("TOPAZ_ASYNC_BASE_URL", option="--base-url", given=given, default=BASE_URL)
    return attrs.evolve(found, value=origin_url(found.value or "", "base_url"))


def upload_url(given: str | None, base: str) -> Found:
    """Return the origin of the upload host; only the service's own API has one by default.

    Raises:
        ConfigurationError: It is no origin, or plain http to another machine.
    """
    default = UPLOAD_URL if base == BASE_URL else None
    found = lookup("TOPAZ_ASYNC_UPLOAD_URL", option="--upload-url", given=given, default=default)
    return attrs.evolve(found, value=found.value and origin_url(found.value, "upload_url"))


def api_key(base: str) -> Found:
    """Return the key for a service.

    The keyring's keys belong to one service each: a key that was stored for kie.ai never goes
    to another address. It is asked last, for it may ask the person for a password.

    Args:
        base: Origin of the service's API, as `base_url` returns it.

    Raises:
        UsageError: There is a keyring that holds the key back.
    """
    found = lookup(KEY)
    if found.value:
        return found
    try:
        stored = keyrings.stored(base)
    except keyrings.NoKeyringError:
        stored = None
    if not stored:
        return found
    return Found(stored, "keyring", keyrings.name())
