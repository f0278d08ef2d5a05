"""What recordInfo and the callbacks say of a task: the keys as captured, in their order."""

from __future__ import annotations

from typing import Any

from .answers import dump
from .books import Task


def param_of(task: Task) -> str:
    """Return the request as the service stores it: JSON whose ``input`` is JSON again."""
    stored: dict[str, Any] = {"input": dump(task.input), "model": task.model}
    if task.callback_url is not None:
        stored = {"callBackUrl": task.callback_url, **stored}
    return dump(stored)


def cost_time(task: Task) -> int | None:
    """Return the whole seconds from creation to end."""
    return None if task.completed is None else (task.completed - task.created) // 1000


def record_of(task: Task) -> dict[str, Any]:
    """Return recordInfo's ``data``: ten keys of old, then those of 2026-10."""
    success, param = task.state == "success", param_of(task)
    record: dict[str, Any] = {
        "taskId": task.task_id,
        "model": task.model,
        "state": task.state,
        "param": param,
        "resultJson": dump({"resultUrls": list(task.result_urls)}) if success else "",
        "failCode": task.fail_code,
        "failMsg": task.fail_msg,
        "costTime": cost_time(task),
        "completeTime": task.completed,
        "createTime": task.created,
        "creditsConsumed": task.credits if success else 0.0,
        "operationType": task.model,
    }
    if success:
        record["response"] = {"resultUrls": list(task.result_urls)}
    # 3 for a failure is what sibling APIs use; no capture of a failed Market task has the key.
    record["successFlag"] = {"success": 1, "fail": 3}.get(task.state, 0)
    record["paramJson"] = param
    return record


def callback_of(task: Task) -> dict[str, Any]:
    """Return the body of a Market callback, as documented for success and failure."""
    head: dict[str, Any] = {
        "taskId": task.task_id,
        "model": task.model,
        "state": task.state,
        "param": param_of(task),
    }
    if task.state == "success":
        spent = int(task.credits) if task.credits.is_integer() else task.credits
        data = head | {
            "resultJson": dump({"resultUrls": list(task.result_urls)}),
            "failCode": None,
            "failMsg": None,
            "costTime": cost_time(task),
            "completeTime": task.completed,
            "createTime": task.created,
            "updateTime": task.completed,
            "creditsConsumed": spent,
        }
        return {"code": 200, "msg": "Playground task completed successfully.", "data": data}
    data = head | {
        "failCode": task.fail_code,
        "failMsg": task.fail_msg,
        "resultJson": None,
        "costTime": cost_time(task) or 0,
        "creditsConsumed": 0,
    }
    return {"code": 501, "msg": "Playground task failed.", "data": data}


def guide_callback_of(task_id: str) -> dict[str, Any]:
    """Return the short body printed in the webhook verification guide."""
    data = {"task_id": task_id, "callbackType": "task_completed"}
    return {"taskId": task_id, "code": 200, "msg": "Success", "data": data}
