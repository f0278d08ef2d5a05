"""Direct I/O: whole pages go to the disk past the system's cache, where that is possible.

A film that is written through the cache is copied there, and copied out again by other threads,
in bursts that take the processor from the loop; and it drives out what the machine had in its
cache.  Past the cache neither happens, and a last fsync has nothing left to do.
"""

from __future__ import annotations

import errno
import mmap
import os
import sys

__all__ = ["PAGE", "is_refusal", "pages", "set_direct"]

if sys.platform == "linux":
    import fcntl

#: Bytes: lengths, offsets and places in memory must be multiples of it.  No disk in use asks for
#: more; one that did would refuse, and get its bytes through the cache.
PAGE = 4096


def pages(size: int) -> memoryview:
    """Return memory of its own, of so many bytes, that begins with a page.

    Of small pages: to find huge ones can hold up the whole process for ten milliseconds.
    """
    if hasattr(mmap, "MAP_ANONYMOUS"):
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        return memoryview(mmap.mmap(-1, size, flags=flags))
    return memoryview(mmap.mmap(-1, size))


def set_direct(handle: int, on: bool) -> bool:
    """Say how an open file is written from now on; return whether it is past the cache."""
    if sys.platform != "linux":
        return False
    flags = fcntl.fcntl(handle, fcntl.F_GETFL)
    wanted = flags | os.O_DIRECT if on else flags & ~os.O_DIRECT
    try:
        if wanted != flags:
            fcntl.fcntl(handle, fcntl.F_SETFL, wanted)
    except OSError:  # a file system that cannot
        return False
    return on


def is_refusal(error: OSError) -> bool:
    """Tell whether a write failed only because it was to go past the cache."""
    return error.errno == errno.EINVAL
