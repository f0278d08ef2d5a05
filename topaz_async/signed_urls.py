"""Which part of a URL names a file, and which only lets one in for a while."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlencode

__all__ = ["named_by"]

#: Parameters that storage services add to a link for a while; another value is the same file.
#: The names are those of Amazon S3 and CloudFront, Google Cloud Storage, Azure Blob Storage,
#: Alibaba OSS, Akamai and Discord.
_PREFIXES = ("x-amz-", "x-goog-", "x-oss-", "x-ms-")
_PASSING = {
    "access_token", "auth", "auth_key", "awsaccesskeyid", "ex", "exp", "expire", "expires",
    "expiry", "googleaccessid", "hdnea", "hdnts", "hm", "hmac", "is", "key-pair-id", "nonce",
    "ossaccesskeyid", "policy", "se", "security-token", "sig", "sign", "signature", "ske",
    "skoid", "sks", "skt", "sktid", "skv", "sp", "spr", "sr", "st", "sv", "timestamp", "token",
    "ts", "verify",
}  # fmt: skip


def named_by(url: str) -> str:
    """Return a URL without what only lets one in: links to one file give one text.

    Two texts that differ may still be one file, when a host has words of its own.
    """
    base, _, query = url.partition("#")[0].partition("?")
    kept = [
        (name, value)
        for name, value in parse_qsl(query, keep_blank_values=True)
        if name.lower() not in _PASSING and not name.lower().startswith(_PREFIXES)
    ]
    return f"{base}?{urlencode(sorted(kept))}" if kept else base
