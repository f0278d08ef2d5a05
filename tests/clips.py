"""Small test clips, and the plain client with which the sandbox's own tests send them."""

from __future__ import annotations

import io
import json
import tempfile
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import aiohttp
import attrs

from topaz_async.sandbox import MediaInfo, Sandbox, Task
from topaz_async.sandbox.media import make_clip, probe

__all__ = ["Plain", "clip", "image", "make_clip", "probe", "probe_bytes", "tiny"]


@cache
def clip(
    ending: str = ".mp4",
    *,
    seconds: float = 1.0,
    width: int = 64,
    height: int = 36,
    rate: int | Fraction = 10,
    audio: bool | str = True,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    rotation: int = 0,
    skip_every: int = 0,
) -> bytes:
    """Return the bytes of a clip; each kind is made once a run."""
    with tempfile.TemporaryDirectory() as folder:
        path = make_clip(
            Path(folder) / f"clip{ending}",
            seconds=seconds,
            width=width,
            height=height,
            rate=rate,
            audio=audio,
            codec=codec,
            pixels=pixels,
            rotation=rotation,
            skip_every=skip_every,
        )
        return path.read_bytes()


def tiny() -> bytes:
    """Return the smallest clip: 64x36 pixels, five frames, no sound."""
    return clip(seconds=0.5, audio=False)


@cache
def image(ending: str = ".png", width: int = 40, height: int = 30) -> bytes:
    """Return the bytes of a picture."""
    codec, pixels = {".png": ("png", "rgb24"), ".jpg": ("mjpeg", "yuvj420p")}[ending]
    with tempfile.TemporaryDirectory() as folder:
        path = make_clip(
            Path(folder) / f"picture{ending}",
            seconds=1,
            rate=1,
            width=width,
            height=height,
            audio=False,
            codec=codec,
            pixels=pixels,
        )
        return path.read_bytes()


def probe_bytes(data: bytes) -> MediaInfo:
    """Say what the bytes of a media file hold."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        return probe(file.name)


@attrs.define
class Plain:
    """A client that knows nothing: it sends what it is told and returns the JSON."""

    sandbox: Sandbox
    session: aiohttp.ClientSession
    key: str = "sandbox-key"

    @property
    def headers(self) -> dict[str, str]:
        """The key's header."""
        return {"Authorization": f"Bearer {self.key}"}

    async def get(self, path: str, **query: str) -> dict[str, Any]:
        """GET a path of the API."""
        url = self.sandbox.base_url + path
        async with self.session.get(url, params=query, headers=self.headers) as answer:
            return json.loads(await answer.read())

    async def post(self, path: str, body: Any) -> dict[str, Any]:
        """POST JSON to a path of the API."""
        url = self.sandbox.base_url + path
        async with self.session.post(url, json=body, headers=self.headers) as answer:
            return json.loads(await answer.read())

    async def create(self, url: str, factor: str = "2", **more: Any) -> dict[str, Any]:
        """Call createTask for a video."""
        body = {"model": "topaz/video-upscale", **more}
        body["input"] = {"video_url": url, "upscale_factor": factor}
        return await self.post("/api/v1/jobs/createTask", body)

    async def record(self, task_id: str) -> dict[str, Any]:
        """Call recordInfo."""
        return await self.get("/api/v1/jobs/recordInfo", taskId=task_id)

    async def stream_upload(
        self, data: bytes, name: str = "clip.mp4", folder: str = "videos"
    ) -> dict[str, Any]:
        """Upload as multipart."""
        form = aiohttp.FormData()
        form.add_field("uploadPath", folder)
        form.add_field("fileName", name)
        form.add_field("file", io.BytesIO(data), filename="original.mp4")
        url = f"{self.sandbox.upload_url}/api/file-stream-upload"
        async with self.session.post(url, data=form, headers=self.headers) as answer:
            return json.loads(await answer.read())

    async def uploaded(self, data: bytes, name: str = "clip.mp4") -> str:
        """Upload as multipart and return the URL."""
        return (await self.stream_upload(data, name))["data"]["downloadUrl"]

    async def made(self, url: str, factor: str = "2", **more: Any) -> str:
        """Call createTask and return the task's id."""
        return (await self.create(url, factor, **more))["data"]["taskId"]

    async def ended(self, task_id: str, timeout: float = 10.0) -> Task:
        """Wait, without polling, until a task has ended."""
        books = self.sandbox.books
        await books.until(lambda books: books.tasks[task_id].ended, timeout=timeout)
        return books.tasks[task_id]

    async def upscaled(self, data: bytes, factor: str = "2", name: str = "clip.mp4") -> Task:
        """Upload, createTask, wait."""
        return await self.ended(await self.made(await self.uploaded(data, name), factor))

    async def fetched(self, url: str) -> bytes:
        """Download a file, without the key."""
        async with self.session.get(url) as answer:
            assert answer.status == 200
            return await answer.read()
