"""Count arrivals in a sliding window, exactly."""

from __future__ import annotations

from collections import deque


class Window:
    """Admits at most ``limit`` requests in any window of ``seconds``.

    RefusedError requests take no place: the service drops them, it does not queue them.
    """

    def __init__(self, limit: int | None, seconds: float) -> None:
        self._limit, self._seconds = limit, seconds
        self._admitted: deque[float] = deque()

    def admit(self, now: float) -> bool:
        """Take a place at the moment ``now`` (seconds on the loop's clock), if there is one."""
        if self._limit is None:
            return True
        while self._admitted and self._admitted[0] + self._seconds <= now:
            self._admitted.popleft()
        if len(self._admitted) >= self._limit:
            return False
        self._admitted.append(now)
        return True
