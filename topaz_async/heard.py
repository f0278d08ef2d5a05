"""A bounded memory of the tasks that callbacks have spoken of."""

from __future__ import annotations

from collections import OrderedDict

__all__ = ["Heard"]


class Heard:
    """Remembers task ids, and the nonce that came with each; the oldest are forgotten first.

    Args:
        size: How many are remembered.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._nonces: OrderedDict[str, str | None] = OrderedDict()
        self._tasks: dict[str, str] = {}

    def add(self, task_id: str, nonce: str | None = None) -> bool:
        """Remember a task; False when it is remembered already."""
        if task_id in self._nonces:
            return False
        self._nonces[task_id] = nonce
        if nonce is not None:
            self._tasks[nonce] = task_id
        if len(self._nonces) > self._size:
            forgotten, spent = self._nonces.popitem(last=False)
            if spent is not None and self._tasks.get(spent) == forgotten:
                del self._tasks[spent]
        return True

    def __contains__(self, task_id: str) -> bool:
        return task_id in self._nonces

    def __len__(self) -> int:
        return len(self._nonces)

    def with_nonces(self) -> list[tuple[str, str]]:
        """Return the tasks whose callback came with a nonce, with it, the oldest first."""
        return [(task_id, nonce) for nonce, task_id in self._tasks.items()]

    def task_of(self, nonce: str) -> str | None:
        """Return the task whose callback came with a nonce, or None."""
        return self._tasks.get(nonce)
