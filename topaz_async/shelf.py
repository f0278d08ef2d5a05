"""Uploads that need not be sent again: which bytes lie at the upload host already, and where."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from .errors import JournalError
from .models import UploadedFile
from .ports import Journal, KeptUpload
from .urls import without_query

__all__ = ["Shelf"]

_log = logging.getLogger("topaz_async")

#: How many uploads are remembered without a journal.
_MOST = 1000


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Shelf:
    """Remembers the uploads of one client: in its journal, or for its own life without one.

    Nothing of it is needed: when the journal fails, files are just sent again.

    Args:
        journal: None keeps nothing beyond the client.
        host: Origin of the upload host.
        life: Seconds for which an upload is used again; 0 for none.
        now: What time it is, aware UTC.
    """

    def __init__(
        self,
        journal: Journal | None,
        *,
        host: str,
        life: float,
        now: Callable[[], datetime] = _utc_now,
    ) -> None:
        self._journal = journal
        self._host = host
        self._life = timedelta(seconds=life)
        self._now = now
        #: By URL, oldest first; used without a journal.
        self._kept: dict[str, KeptUpload] = {}

    @property
    def is_used(self) -> bool:
        """Whether anything is to be used again at all."""
        return self._life > timedelta(0)

    async def of_size(self, size: int) -> dict[str, UploadedFile]:
        """Return the uploads of so many bytes that may be used again, by content hash."""
        if not self.is_used:
            return {}
        kept = [upload for upload in self._kept.values() if upload.size == size]
        if self._journal is not None:
            try:
                kept = (await self._journal.uploads(size, self._host))[::-1]
            except JournalError as error:
                _log.warning("The journal could not be read: %s", error.message)
        now = self._now()
        # A moment to come means that a clock was set: nobody knows how old the upload is.
        young = [k for k in kept if timedelta(0) <= now - k.kept_at < self._life]
        return {
            k.content_hash: UploadedFile(k.url, k.name, k.size, k.mime_type, k.uploaded_at)
            for k in young
        }

    def keep(self, file: UploadedFile, *, size: int, content_hash: str) -> None:
        """Remember an upload."""
        if not self.is_used or without_query(file.url) != file.url:
            return  # a signed link is a secret of its own, and dies when it likes
        upload = KeptUpload(
            content_hash=content_hash,
            size=size,
            host=self._host,
            url=file.url,
            kept_at=self._now(),
            name=file.name,
            mime_type=file.mime_type,
            uploaded_at=file.uploaded_at,
        )
        if self._journal is not None:
            self._journal.keep_upload_soon(upload)
            return
        self._kept[upload.url] = upload
        while len(self._kept) > _MOST:
            del self._kept[next(iter(self._kept))]

    def forget(self, url: str) -> None:
        """Do not use an upload again: the service could do nothing with it."""
        if not self.is_used:
            return
        if self._journal is not None:
            self._journal.forget_upload_soon(url)
        self._kept.pop(url, None)
