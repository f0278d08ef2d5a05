"""A keyring in a file, for programs that are run by tests; it can be locked, or fail."""

from __future__ import annotations

import json
import os
from pathlib import Path

from keyring.backend import KeyringBackend
from keyring.errors import KeyringLocked


class FileKeyring(KeyringBackend):
    """Keeps everything, unprotected, in the file that FILE_KEYRING names."""

    name = "file keyring"
    priority = 1  # type: ignore[assignment]

    def _entries(self) -> dict[str, str]:
        mood = os.environ.get("FILE_KEYRING_MOOD")
        if mood == "locked":
            raise KeyringLocked("locked")
        if mood == "broken":
            raise RuntimeError("the daemon said: secret words")
        place = Path(os.environ["FILE_KEYRING"])
        return json.loads(place.read_text()) if place.exists() else {}

    def _write(self, entries: dict[str, str]) -> None:
        Path(os.environ["FILE_KEYRING"]).write_text(json.dumps(entries))

    def get_password(self, service: str, username: str) -> str | None:
        return self._entries().get(f"{service} {username}")

    def set_password(self, service: str, username: str, password: str) -> None:
        self._write({**self._entries(), f"{service} {username}": password})

    def delete_password(self, service: str, username: str) -> None:
        entries = self._entries()
        del entries[f"{service} {username}"]
        self._write(entries)
