"""The kie.ai service on loopback, which really upscales: for tests, demos and first steps."""

from .app import Sandbox
from .books import Books, SeenRequest, SeenUpload, SentCallback, Task
from .callbacks import sign
from .engine import CopyEngine, Engine, MediaError, MediaInfo, WorkCancelledError
from .faults import ACTIONS, Action, Fault, Faults

__all__ = [
    "ACTIONS",
    "Action",
    "Books",
    "CopyEngine",
    "Engine",
    "Fault",
    "Faults",
    "MediaError",
    "MediaInfo",
    "Sandbox",
    "SeenRequest",
    "SeenUpload",
    "SentCallback",
    "Task",
    "WorkCancelledError",
    "sign",
]
