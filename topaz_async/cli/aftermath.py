"""What is left when a clip did not get through: what goes on, and how to get at it."""

from __future__ import annotations

from ..errors import (
    ClientClosedError,
    LinkExpiredError,
    TaskFailedError,
    TaskNotFoundError,
    TopazError,
    WaitTimeoutError,
)
from .exits import StoppedError
from .service import Service
from .wishes import Wish

__all__ = ["aftermath"]

#: After these there is nothing left to wait for.
_ENDED = (TaskFailedError, TaskNotFoundError, LinkExpiredError)

_SANDBOX_GONE = "The sandbox has ended, and its task with it."


def aftermath(error: TopazError, service: Service, wish: Wish, *, stopped: bool) -> Exception:
    """Return the error as a person at a terminal needs it.

    Args:
        error: What `TopazClient.upscale` raised.
        service: Where the clip was sent.
        wish: What was to be done.
        stopped: Whether the person wanted an end.
    """
    interrupted = stopped and isinstance(error, ClientClosedError)
    if service.is_embedded:
        return _in_play(error, interrupted=interrupted)
    told: Exception = StoppedError(_interrupted(error)) if interrupted else error.about()
    if isinstance(told, WaitTimeoutError):
        told.hint = "It goes on at the service."
    if error.task_id and not isinstance(error, _ENDED):
        told.add_note(_how_to_get(error.task_id, service, wish))
    return told


def _in_play(error: TopazError, *, interrupted: bool) -> Exception:
    """What happened in the sandbox cost nothing, and nothing of it goes on."""
    if interrupted:
        return StoppedError(f"Interrupted. {_SANDBOX_GONE} Nothing was billed.")
    told = error.about(billed="no")
    if isinstance(told, WaitTimeoutError):
        told.hint = _SANDBOX_GONE
    return told


def _interrupted(error: TopazError) -> str:
    if error.task_id:
        return f"Interrupted. Task {error.task_id} goes on at the service and may be billed."
    if error.billed == "no":
        return "Interrupted before anything was submitted. Nothing was billed."
    return (
        "Interrupted while the task was being submitted: it may exist and be billed. "
        "Look into the account's task log before you submit again."
    )


def _how_to_get(task_id: str, service: Service, wish: Wish) -> str:
    where = "" if service.is_the_real_one else f"base_url={service.base_url!r}"
    return (
        "To get its result later, in `python -m asyncio`:\n"
        "    from topaz_async import TopazClient\n"
        f"    async with TopazClient({where}) as topaz:\n"
        f"        await topaz.download(topaz.job({task_id!r}), {str(wish.output)!r})"
    )
