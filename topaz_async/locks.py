"""Locks on open files, which the system lets go of even after `kill -9`."""

from __future__ import annotations

import sys

if sys.platform == "win32":
    import msvcrt

    def lock(handle: int, *, shared: bool = False) -> bool:
        """Lock an open file and return whether that was possible; never waits."""
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def lock(handle: int, *, shared: bool = False) -> bool:
        """Lock an open file and return whether that was possible; never waits.

        Raises:
            OSError: The file system knows no locks.
        """
        try:
            fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


__all__ = ["lock"]
