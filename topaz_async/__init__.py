"""Asyncio-first SDK for Topaz video upscaling on the kie.ai jobs API.

    async with TopazClient() as topaz:
        result = await topaz.upscale("clip.mp4", factor=4, output="clip-4x.mp4")

Everything public is a name of this package; nothing else is public.  Names load on first use,
so importing the package costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .client import (
        TopazClient as TopazClient,
    )
    from .errors import (
        ApiError as ApiError,
    )
    from .errors import (
        AuthenticationError as AuthenticationError,
    )
    from .errors import (
        Billed as Billed,
    )
    from .errors import (
        BudgetError as BudgetError,
    )
    from .errors import (
        CallbackError as CallbackError,
    )
    from .errors import (
        ClientClosedError as ClientClosedError,
    )
    from .errors import (
        ConfigurationError as ConfigurationError,
    )
    from .errors import (
        ConnectError as ConnectError,
    )
    from .errors import (
        DownloadError as DownloadError,
    )
    from .errors import (
        EdgeBlockedError as EdgeBlockedError,
    )
    from .errors import (
        FeatureDisabledError as FeatureDisabledError,
    )
    from .errors import (
        FileError as FileError,
    )
    from .errors import (
        GenerationError as GenerationError,
    )
    from .errors import (
        InsufficientCreditsError as InsufficientCreditsError,
    )
    from .errors import (
        IntegrityError as IntegrityError,
    )
    from .errors import (
        InvalidInputError as InvalidInputError,
    )
    from .errors import (
        JournalError as JournalError,
    )
    from .errors import (
        KeyQuotaError as KeyQuotaError,
    )
    from .errors import (
        LinkExpiredError as LinkExpiredError,
    )
    from .errors import (
        MaintenanceError as MaintenanceError,
    )
    from .errors import (
        MalformedCallbackError as MalformedCallbackError,
    )
    from .errors import (
        NotFoundError as NotFoundError,
    )
    from .errors import (
        RateLimitError as RateLimitError,
    )
    from .errors import (
        ReferenceConflictError as ReferenceConflictError,
    )
    from .errors import (
        RequestTimeoutError as RequestTimeoutError,
    )
    from .errors import (
        ResponseError as ResponseError,
    )
    from .errors import (
        ResultError as ResultError,
    )
    from .errors import (
        ServerError as ServerError,
    )
    from .errors import (
        SignatureError as SignatureError,
    )
    from .errors import (
        StaleCallbackError as StaleCallbackError,
    )
    from .errors import (
        SubmitUnknownError as SubmitUnknownError,
    )
    from .errors import (
        TaskFailedError as TaskFailedError,
    )
    from .errors import (
        TaskNotFoundError as TaskNotFoundError,
    )
    from .errors import (
        TooLargeError as TooLargeError,
    )
    from .errors import (
        TopazError as TopazError,
    )
    from .errors import (
        TransportError as TransportError,
    )
    from .errors import (
        UnsafeUrlError as UnsafeUrlError,
    )
    from .errors import (
        UploadError as UploadError,
    )
    from .errors import (
        ValidationError as ValidationError,
    )
    from .errors import (
        WaitTimeoutError as WaitTimeoutError,
    )
    from .job import (
        Job as Job,
    )
    from .models import (
        ImageUpscaleInput as ImageUpscaleInput,
    )
    from .models import (
        TaskInput as TaskInput,
    )
    from .models import (
        TaskRecord as TaskRecord,
    )
    from .models import (
        TaskState as TaskState,
    )
    from .models import (
        UploadedFile as UploadedFile,
    )
    from .models import (
        UpscaleFactor as UpscaleFactor,
    )
    from .models import (
        UpscaleInput as UpscaleInput,
    )
    from .models import (
        UpscaleResult as UpscaleResult,
    )
    from .settings import (
        PollPolicy as PollPolicy,
    )
    from .settings import (
        Quotas as Quotas,
    )
    from .settings import (
        RetryPolicy as RetryPolicy,
    )
    from .settings import (
        Timeouts as Timeouts,
    )

__all__ = [
    "ApiError",
    "AuthenticationError",
    "Billed",
    "BudgetError",
    "CallbackError",
    "ClientClosedError",
    "ConfigurationError",
    "ConnectError",
    "DownloadError",
    "EdgeBlockedError",
    "FeatureDisabledError",
    "FileError",
    "GenerationError",
    "ImageUpscaleInput",
    "InsufficientCreditsError",
    "IntegrityError",
    "InvalidInputError",
    "Job",
    "JournalError",
    "KeyQuotaError",
    "LinkExpiredError",
    "MaintenanceError",
    "MalformedCallbackError",
    "NotFoundError",
    "PollPolicy",
    "Quotas",
    "RateLimitError",
    "ReferenceConflictError",
    "RequestTimeoutError",
    "ResponseError",
    "ResultError",
    "RetryPolicy",
    "ServerError",
    "SignatureError",
    "StaleCallbackError",
    "SubmitUnknownError",
    "TaskFailedError",
    "TaskInput",
    "TaskNotFoundError",
    "TaskRecord",
    "TaskState",
    "Timeouts",
    "TooLargeError",
    "TopazClient",
    "TopazError",
    "TransportError",
    "UnsafeUrlError",
    "UploadError",
    "UploadedFile",
    "UpscaleFactor",
    "UpscaleInput",
    "UpscaleResult",
    "ValidationError",
    "WaitTimeoutError",
]

#: Where each public name lives.
_HOMES = {
    "TopazClient": "client",
    "Job": "job",
    "ImageUpscaleInput": "models",
    "TaskInput": "models",
    "TaskRecord": "models",
    "TaskState": "models",
    "UploadedFile": "models",
    "UpscaleFactor": "models",
    "UpscaleInput": "models",
    "UpscaleResult": "models",
    "PollPolicy": "settings",
    "Quotas": "settings",
    "RetryPolicy": "settings",
    "Timeouts": "settings",
}


def __getattr__(name: str) -> Any:
    """Load a public name on its first use (PEP 562); errors need no entry of their own."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOMES.get(name, 'errors')}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
