"""The three upload calls of the upload host."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import secrets
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import aiohttp
from aiohttp import web

from .answers import JSON, UPLOAD_JSON, Answer, json_answer, json_object, upload_failure
from .books import Books, SeenUpload
from .files import HEAD, FileStore, ending_of, mime_of
from .loopback import UnreachableError, fetch
from .threads import PIECE, Threads, append, read_at

#: Length of a form field that is not the file, in bytes.
MAX_FIELD: Final = 4096
#: Fetching a ``fileUrl`` may take so long (upload reference), and be so large.
FETCH_SECONDS: Final = 30.0
#: Recommended largest size of a ``fileUrl`` (upload quickstart).
FETCH_BYTES: Final = 100 * 1024 * 1024


class _WrongRequestError(Exception):
    """The request is refused with code 400."""


class Uploads:
    """Takes files in, in constant memory."""

    def __init__(
        self,
        *,
        books: Books,
        files: FileStore,
        session: aiohttp.ClientSession,
        disk: Threads,
        max_bytes: int,
    ) -> None:
        self._books, self._files, self._session = books, files, session
        self._disk, self._max_bytes = disk, max_bytes
        self.routes: dict[str, Callable[[web.Request], Awaitable[Answer]]] = {
            "file-stream-upload": self._stream,
            "file-base64-upload": self._base64,
            "file-url-upload": self._url,
        }

    async def take(self, route: str, request: web.Request, number: int) -> Answer:
        """Answer one upload call."""
        try:
            return await self.routes[route](request)
        except _WrongRequestError as wrong:
            return upload_failure(400, str(wrong))
        except UnreachableError as error:
            return upload_failure(500, f"Failed to download file: {error}")

    async def _stream(self, request: web.Request) -> Answer:
        if not request.content_type.startswith("multipart/"):
            raise _WrongRequestError("Missing required parameter: file")
        fields: dict[str, str] = {}
        disk, size, digest, named, mime = self._files.scratch(), 0, "", "", ""
        kept = False
        try:
            got_file = False
            reader = await request.multipart()
            while (part := await reader.next()) is not None:
                if not isinstance(part, aiohttp.BodyPartReader):
                    raise _WrongRequestError("Invalid multipart body")
                if part.name != "file":
                    fields[part.name or ""] = await _text(part)
                    continue
                if got_file:
                    raise _WrongRequestError("More than one file")
                got_file, named = True, part.filename or ""
                mime = part.headers.get("Content-Type", "").partition(";")[0]
                size, digest = await self._save(part, disk)
            if not got_file:
                raise _WrongRequestError("Missing required parameter: file")
            answer = await self._store(
                "file-stream-upload", disk, size, digest, fields, named=named, mime=mime
            )
            kept = True
            return answer
        except ValueError as error:
            raise _WrongRequestError(f"Invalid multipart body: {error}") from None
        finally:
            if not kept:
                await self._disk.run(disk.unlink, missing_ok=True)

    async def _save(self, part: aiohttp.BodyPartReader, disk: Path) -> tuple[int, str]:
        """Write the file part to disk, and return its size and SHA-256."""
        size, digest, waiting = 0, hashlib.sha256(), bytearray()

        def write(data: bytes) -> None:
            digest.update(data)
            append(disk, data)

        while piece := await part.read_chunk(PIECE):
            size += len(piece)
            if size > self._max_bytes:
                # Read on without keeping, or the sender would see a reset, not the answer.
                continue
            waiting += piece
            if len(waiting) >= PIECE:
                await self._disk.run(write, bytes(waiting))
                waiting.clear()
        await self._disk.run(write, bytes(waiting))
        self._check(size)
        return size, digest.hexdigest()

    async def _base64(self, request: web.Request) -> Answer:
        fields = await _json_fields(request, self._disk)
        text = _required(fields, "base64Data")

        def decode(disk: Path) -> tuple[int, str]:
            head, comma, tail = text.partition(",")
            data = base64.b64decode(
                tail if comma and head.startswith("data:") else text, validate=True
            )
            disk.write_bytes(data)
            return len(data), hashlib.sha256(data).hexdigest()

        disk = self._files.scratch()
        try:
            size, digest = await self._disk.run(decode, disk)
        except (binascii.Error, ValueError):
            raise _WrongRequestError("Invalid base64 data") from None
        self._check(size)
        kind = re.match(r"data:([^;,]+)[;,]", text[:64])
        mime = kind[1] if kind else ""
        return await self._store("file-base64-upload", disk, size, digest, fields, mime=mime)

    async def _url(self, request: web.Request) -> Answer:
        fields = await _json_fields(request, self._disk)
        source = _required(fields, "fileUrl")
        disk = self._files.scratch()
        limit = min(FETCH_BYTES, self._max_bytes)
        size = await fetch(
            self._session, source, disk, self._disk, limit=limit, seconds=FETCH_SECONDS
        )

        def hashed() -> str:
            with disk.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()

        digest = await self._disk.run(hashed)
        named = source.partition("?")[0]
        return await self._store("file-url-upload", disk, size, digest, fields, named=named)

    def _check(self, size: int) -> None:
        if size > self._max_bytes:
            raise _WrongRequestError(f"File size exceeds the limit of {self._max_bytes} bytes")

    async def _store(
        self,
        route: str,
        disk: Path,
        size: int,
        digest: str,
        fields: dict[str, str],
        *,
        named: str = "",
        mime: str = "",
    ) -> Answer:
        folder = _clean(_required(fields, "uploadPath"))
        name = _clean(fields.get("fileName", "")).rpartition("/")[2]
        if not name:
            # The part's own name is not kept, its ending is.
            ending = ending_of(named, mime, await self._disk.run(read_at, disk, 0, HEAD))
            name = f"{int(time.time() * 1000)}-{secrets.token_hex(5)}{ending}"
        file = self._files.add_upload(disk, folder, name, size, digest)
        url = self._files.url_of(file)
        self._books.enter_upload(SeenUpload(route, url, size, digest))
        moment = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        data = {
            "success": True,
            "fileName": name,
            "filePath": file.url_path.lstrip("/"),
            "downloadUrl": url,
            "fileSize": size,
            "mimeType": mime_of(name),
            "uploadedAt": moment,
        }
        value = {"success": True, "code": 200, "msg": "File uploaded successfully", "data": data}
        return json_answer(value, content_type=UPLOAD_JSON)


async def _text(part: aiohttp.BodyPartReader) -> str:
    data = await part.read_chunk(MAX_FIELD)
    if await part.read_chunk(1):
        raise _WrongRequestError("A form field is too long")
    return data.decode("utf-8", "replace")


async def _json_fields(request: web.Request, threads: Threads) -> dict[str, str]:
    if request.content_type != JSON:
        raise _WrongRequestError(f"Content-Type must be {JSON}")
    # Megabytes of base64 take long enough to hold the loop up.
    value = await threads.run(json_object, await request.read())
    if value is None:
        raise _WrongRequestError("Invalid JSON body")
    return {name: text for name, text in value.items() if isinstance(text, str)}


def _required(fields: dict[str, str], name: str) -> str:
    value = fields.get(name, "")
    if not value:
        raise _WrongRequestError(f"Missing required parameter: {name}")
    return value


def _clean(path: str) -> str:
    parts = re.split(r"[/\\]+", path.replace("\0", ""))
    return "/".join(part for part in parts if part not in ("", ".", ".."))
