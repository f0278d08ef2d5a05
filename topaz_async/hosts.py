"""Which hosts results are fetched from: judged by name, and by address as a connection is made."""

from __future__ import annotations

import errno
import socket
from typing import Any

from yarl import URL

from .addresses import Reach, host_reach, reach_of
from .errors import UnsafeUrlError
from .urls import check_url, shown

__all__ = ["Hosts", "RefusedAddressError", "refused"]

#: In the same words always: the connector puts several refusals together, and keeps the kind of
#: error only when they are alike.
_WHY = "leads to an address where no result may lie"


class RefusedAddressError(OSError):
    """The address may not be connected to; an OSError, for the connector expects no other."""

    def __init__(self) -> None:
        super().__init__(errno.EACCES, _WHY)


class Hosts:
    """The rule for hosts that nobody vouches for.

    Args:
        allow_private: Whether results may come from private and loopback addresses.
    """

    def __init__(self, *, allow_private: bool) -> None:
        self._allow_private = allow_private

    def check(self, url: str) -> None:
        """Look at a URL before anything is sent to it.

        Raises:
            UnsafeUrlError: It is not https (or http to this machine, where that is allowed), or
                its host is an address that is refused.
        """
        parts = check_url(url, "The result's URL", UnsafeUrlError)
        try:
            # The host as it will be asked: "ｌocalhost" is another spelling of localhost.
            asked = URL(url).raw_host or ""
        except ValueError:
            raise UnsafeUrlError(f"The result's URL is none: {shown(url)!r}.") from None
        for host in (parts.hostname or "", asked):
            reach = host_reach(host)
            if reach is not None and not self._may_reach(reach):
                raise refused(url)

    def socket_to(self, info: tuple[Any, ...]) -> socket.socket:
        """Make the socket for an address, for a connector's `socket_factory`.

        Names are looked up once, and what is checked here is what is connected to: an answer
        that changes between two look-ups changes nothing, and a literal address, which no
        resolver ever sees, comes by as well.

        Raises:
            RefusedAddressError: The address may not be connected to.
        """
        family, kind, protocol, _, address = info
        if not self._may_reach(reach_of(address[0])):
            raise RefusedAddressError
        return socket.socket(family, kind, protocol)

    def _may_reach(self, reach: Reach) -> bool:
        return reach == "public" or (reach == "private" and self._allow_private)


def refused(url: str) -> UnsafeUrlError:
    """Return the error for a URL that leads where no result may lie."""
    return UnsafeUrlError(
        f"{shown(url)} {_WHY}.",
        billed="yes",
        hint="If your results lie on private addresses, TopazClient(allow_private_hosts=True).",
    )
