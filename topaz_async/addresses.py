"""Which addresses on the internet a result may come from."""

from __future__ import annotations

import ipaddress
import re
from typing import Literal

__all__ = ["Reach", "host_reach", "reach_of"]

#: "public" is on the internet, "private" on this machine or its networks; "never" is no place
#: for a file: link-local (where clouds keep their secrets), multicast, unspecified, reserved.
Reach = Literal["public", "private", "never"]

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _networks(*texts: str) -> tuple[_Network, ...]:
    return tuple(ipaddress.ip_network(text) for text in texts)


#: Source: IANA's registries of special-purpose addresses, read 2026-11-22.  Benchmark addresses
#: (198.18.0.0/15) stand among the private ones: programs that tunnel a whole machine use them.
_PRIVATE = _networks(
    "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16",
    "198.18.0.0/15", "::1/128", "fc00::/7",
)  # fmt: skip
_NEVER = _networks(
    "0.0.0.0/8", "169.254.0.0/16", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24",
    "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
    # Teredo and its neighbours, documentation, 6to4: none of them leads to a host of today.
    "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20",
)  # fmt: skip
#: All that is given out in IPv6.
_UNICAST = ipaddress.IPv6Network("2000::/3")
#: IPv6 addresses that hold an IPv4 address in their last 32 bits, and lead there.
_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")

#: Hosts whose last part is a number are addresses for every program, whatever the rest is.
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9a-fA-F]*")


def reach_of(address: str) -> Reach:
    """Tell how far an address reaches, as a socket would be told it; "never" for any other text.

    Addresses within addresses (IPv4-mapped, NAT64) are judged by the inner one.
    """
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return "never"
    if found in _MAPPED or found in _NAT64:
        found = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
    if any(found in network for network in _PRIVATE):
        return "private"
    if any(found in network for network in _NEVER) or (
        found.version == 6 and found not in _UNICAST
    ):
        return "never"
    return "public"


def host_reach(host: str) -> Reach | None:
    """Tell how far a host reaches as far as its name says; None when only a look-up can tell.

    Names of this machine and literal addresses say it.  Addresses in disguise (octal, hex, with
    parts left out) are "never": no two programs read them alike.
    """
    name = host.lower().rstrip(".").strip("[]")
    if name == "localhost" or name.endswith(".localhost"):
        return "private"
    if ":" in name or _NUMBER.fullmatch(name.rpartition(".")[2]):
        return reach_of(name)
    return None
