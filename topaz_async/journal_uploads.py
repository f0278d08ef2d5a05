"""The journal's table of uploads that need not be sent again."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime

from .ports import KeptUpload

__all__ = ["SCHEMA", "drop", "keep", "of_size"]

#: One step of the journal's schema.
SCHEMA = (
    """
    CREATE TABLE uploads (
        url TEXT PRIMARY KEY,
        content_hash TEXT NOT NULL,
        size INTEGER NOT NULL,
        host TEXT NOT NULL,
        kept_at REAL NOT NULL,
        name TEXT,
        mime_type TEXT,
        uploaded_at REAL
    )
    """,
    "CREATE INDEX uploads_by_size ON uploads (size, host)",
)

#: Seconds after which an upload is dropped: no page of the service promises more than 3 days.
_LONGEST = 3 * 86400.0


def keep(db: sqlite3.Connection, upload: KeptUpload) -> None:
    """Write an upload down, and drop those that are long gone."""
    moment = upload.kept_at.timestamp()
    db.execute("DELETE FROM uploads WHERE kept_at < ?", (moment - _LONGEST,))
    db.execute(
        "INSERT OR REPLACE INTO uploads VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            upload.url,
            upload.content_hash,
            upload.size,
            upload.host,
            moment,
            upload.name,
            upload.mime_type,
            None if upload.uploaded_at is None else upload.uploaded_at.timestamp(),
        ),
    )


def of_size(db: sqlite3.Connection, size: int, host: str) -> list[KeptUpload]:
    """Return the uploads of so many bytes to a host, newest first."""
    rows = db.execute(
        "SELECT * FROM uploads WHERE size = ? AND host = ? ORDER BY kept_at DESC", (size, host)
    )
    return [
        KeptUpload(
            content_hash=row["content_hash"],
            size=row["size"],
            host=row["host"],
            url=row["url"],
            kept_at=datetime.fromtimestamp(row["kept_at"], UTC),
            name=row["name"],
            mime_type=row["mime_type"],
            uploaded_at=(
                None
                if row["uploaded_at"] is None
                else datetime.fromtimestamp(row["uploaded_at"], UTC)
            ),
        )
        for row in rows
    ]


def drop(db: sqlite3.Connection, url: str) -> None:
    """Forget an upload."""
    db.execute("DELETE FROM uploads WHERE url = ?", (url,))
