"""The calls of the jobs API: what is checked, in which order, and what is answered."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from aiohttp import web

from .answers import (
    FIELD_REQUIRED,
    NO_INPUT,
    NO_RECORD,
    SERVER_EXCEPTION,
    UNKNOWN_MODEL,
    WRONG_URL,
    Answer,
    failure,
    json_object,
    success,
)
from .books import Books
from .credits import IMAGE_MODEL, VIDEO_MODEL
from .faults import Fault, Faults
from .files import FileStore
from .records import record_of
from .tasks import Order, RefusedError, Tasks

#: Field of the input's URL, and whether ``upscale_factor`` may be left out.
MODELS: Final = {VIDEO_MODEL: ("video_url", True), IMAGE_MODEL: ("image_url", False)}
FACTORS: Final = {"1": 1, "2": 2, "4": 4}
DEFAULT_FACTOR: Final = "2"
#: Seconds a link from download-url lives.
FRESH_SECONDS: Final = 20 * 60.0

PRICES: Final = {
    VIDEO_MODEL: "Topaz Video Upscale is priced at 8.0 credits ($0.04) per second for 1x and 2x, "
    "and 14.0 credits ($0.07) per second for 4x.",
    IMAGE_MODEL: "Topaz Image Upscale is priced at 10.0 credits ($0.05) per image up to 2K, "
    "and 20.0 credits ($0.1) for 4K.",
}


class Api:
    """Answers the routes of the API host."""

    def __init__(
        self,
        *,
        books: Books,
        faults: Faults,
        tasks: Tasks,
        files: FileStore,
        fresh_seconds: float,
    ) -> None:
        self._books, self._faults, self._tasks, self._files = books, faults, tasks, files
        self._fresh_seconds = fresh_seconds
        self.routes: dict[str, Callable[[web.Request, int], Awaitable[Answer]]] = {
            "createTask": self._create_task,
            "recordInfo": self._record_info,
            "credit": self._credit,
            "download-url": self._download_url,
            "models": self._models,
            "price": self._price,
        }

    async def answer(self, route: str, request: web.Request, number: int) -> Answer:
        """Answer one call whose key was accepted."""
        return await self.routes[route](request, number)

    async def _create_task(self, request: web.Request, number: int) -> Answer:
        text = await _body_text(request)
        try:
            order = order_of(text)
            doom = self._faults.draw("createTask", f"{request.path} {text}", "content")
            fails = doom if doom is not None and doom.action.startswith("fail") else None
            task = await self._tasks.submit(order, fails)
        except RefusedError as refusal:
            return failure(refusal.code, refusal.msg)
        self._books.note(number, task_id=task.task_id)
        if doom is not None:
            self._books.note(number, fault=doom)
        if doom is not None and doom.action == "missing_task_id":
            return success({})
        ids = {"taskId": task.task_id, "recordId": task.task_id}
        return success(ids, task_id=task.task_id)

    async def _record_info(self, request: web.Request, number: int) -> Answer:
        task_id = request.query.get("taskId", "")
        if not task_id:
            return failure(400, "taskId is required")
        self._books.note(number, task_id=task_id)
        task = self._books.tasks.get(task_id)
        fault = self._faults.draw(
            "recordInfo",
            request.path_qs,
            "content",
            success=task is not None and task.state == "success",
        )
        if fault is not None:
            self._books.note(number, fault=fault)
        if task is None or (fault is not None and fault.action == "null_record"):
            return failure(422, NO_RECORD)
        record = record_of(task)
        return success(record if fault is None else garbled(record, fault), task_id=task_id)

    async def _credit(self, _: web.Request, __: int) -> Answer:
        return success(self._books.credits)

    async def _download_url(self, request: web.Request, _: int) -> Answer:
        value = json_object(await _body_text(request))
        file = self._files.find(None if value is None else value.get("url"))
        if file is None or not file.result:
            return failure(422, WRONG_URL)
        dies = asyncio.get_running_loop().time() + self._fresh_seconds
        return success(self._files.url_of(self._files.add_link(file, dies)))

    async def _models(self, _: web.Request, __: int) -> Answer:
        models = [
            {
                "model": model,
                "slug": model.replace("/", "-"),
                "title": model.rpartition("/")[2].replace("-", " ").title(),
                "provider": "Topaz",
                "taskType": [f"{field.partition('_')[0]}-upscale"],
                "description": None,
                "pricingDesc": PRICES[model],
            }
            for model, (field, _) in MODELS.items()
        ]
        return success({"total": len(models), "models": models})

    async def _price(self, request: web.Request, _: int) -> Answer:
        model = request.path.removeprefix("/api/v1/models/").removesuffix("/price")
        if model not in PRICES:
            return failure(404, "Model not found")
        return success({"pricingDesc": PRICES[model]})


def order_of(text: str) -> Order:
    """Read a createTask body, checking as the service does.

    Raises:
        RefusedError: With the code and words that were seen for each mistake.
    """
    value = json_object(text)
    if value is None:
        raise RefusedError(500, SERVER_EXCEPTION)
    model = value.get("model")
    if not isinstance(model, str) or model not in MODELS:
        raise RefusedError(422, UNKNOWN_MODEL)
    given = value.get("input")
    if given is None:
        raise RefusedError(422, NO_INPUT)
    if not isinstance(given, dict):
        raise RefusedError(500, SERVER_EXCEPTION)
    field, has_default = MODELS[model]
    source = given.get(field)
    if not isinstance(source, str) or not source:
        raise RefusedError(500, FIELD_REQUIRED)
    factor = given.get("upscale_factor")
    if factor is None:
        # The video model's factor is optional; defaults of required fields are not filled in.
        if not has_default:
            raise RefusedError(500, FIELD_REQUIRED)
        factor = DEFAULT_FACTOR
    if not isinstance(factor, str) or factor not in FACTORS:
        raise RefusedError(500, "upscale_factor is not within the range of allowed options")
    callback = value.get("callBackUrl")
    kept = {field: source, "upscale_factor": factor}
    return Order(
        model=model,
        input=kept,
        source=source,
        factor=FACTORS[factor],
        callback_url=callback if isinstance(callback, str) and callback else None,
    )


def garbled(record: dict[str, Any], fault: Fault) -> dict[str, Any] | None:
    """Return a record as a fault tells it."""
    match fault.action:
        case "null_data":
            return None
        case "state":
            return {**record, "state": fault.state}
        case "result_empty":
            return _without(record, "response") | {"resultJson": ""}
        case "result_broken":
            return _without(record, "response") | {"resultJson": '{"resultUrls":["http'}
        case "result_object":
            return _without(record, "response") | {"resultJson": record["response"]}
        case "result_no_url":
            return record | {"resultJson": '{"resultUrls":[]}', "response": {"resultUrls": []}}
        case "result_url":
            urls = [fault.location or "http://127.0.0.2:9/elsewhere.mp4"]
            text = json.dumps({"resultUrls": urls}, separators=(",", ":"))
            return record | {"resultJson": text, "response": {"resultUrls": urls}}
    return record


def _without(record: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name != key}


async def _body_text(request: web.Request) -> str:
    return (await request.read()).decode("utf-8", "replace")
