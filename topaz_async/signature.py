"""Verify the HMAC and the age of a callback, in constant time.

The service signs the task id and the time, not the body: a signature that fits proves that the
service spoke of this task about then, and nothing else.

Source:
    docs.kie.ai/common-api/webhook-verification, read 2026-11-22.  It gives no window; other
    clients use 300 s.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Sequence

from .errors import SignatureError, StaleCallbackError

__all__ = ["SIGNATURE_HEADER", "TIMESTAMP_HEADER", "WINDOW", "check_headers", "sign", "verify"]

#: Names of the two headers, in lower case.
TIMESTAMP_HEADER = "x-webhook-timestamp"
SIGNATURE_HEADER = "x-webhook-signature"

#: Seconds that a callback may be old, or ahead of this machine's clock.
WINDOW = 300.0

#: Whole seconds since 1970.
_DIGITS = re.compile(r"[0-9]{1,15}", re.ASCII)
#: Standard Base64 of 32 bytes, with padding; no other spelling of the same bytes.
_BASE64 = re.compile(r"[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=", re.ASCII)

_STALE = "The callback's signature is not of about now."


def sign(secret: str, task_id: str, timestamp: str) -> str:
    """Return the signature that the service would send."""
    return _signature(secret.encode(), f"{task_id}.{timestamp}".encode()).decode()


def check_headers(
    timestamp: str | None, signature: str | None, *, now: float, window: float = WINDOW
) -> None:
    """Return if the two headers can be those of a signature of about now; raise otherwise.

    It costs next to nothing, and is asked before anything is done with a body. What it finds
    out is no secret: the sender wrote the time himself.

    Raises:
        SignatureError: A header is missing, empty or ill-formed.
        StaleCallbackError: The timestamp is not of about now.
    """
    if not _is_near(_stamp(timestamp, signature)[0], now, window):
        raise StaleCallbackError(_STALE)


def verify(
    secrets: Sequence[str],
    *,
    task_id: str,
    timestamp: str | None,
    signature: str | None,
    now: float,
    window: float = WINDOW,
) -> None:
    """Return if one of the secrets signed this task id at a time near `now`; raise otherwise.

    Every secret is tried, whichever fits, so the time taken tells nothing about them.

    Args:
        secrets: The webhook keys that are in force, more than one while they are exchanged.
        task_id: The id that the body names.
        timestamp: The header `X-Webhook-Timestamp` as it came; None when it is missing.
        signature: The header `X-Webhook-Signature` as it came; None when it is missing.
        now: Seconds since 1970.
        window: Seconds that the timestamp may lie before or behind `now`.

    Raises:
        SignatureError: A part is missing, empty or ill-formed, or no secret fits.
        StaleCallbackError: The signature is true, but not of about now.
    """
    timestamp, signature = _stamp(timestamp, signature)
    try:
        text = f"{task_id}.{timestamp}".encode()
    except UnicodeEncodeError:  # half a letter: nobody can have signed it
        text = b""
    if not task_id or not text:
        raise SignatureError("The callback names no task that can be signed.")
    given, fits = signature.encode(), False
    for secret in secrets:
        # An empty secret would let everybody sign.
        fits |= bool(secret) and hmac.compare_digest(_signature(secret.encode(), text), given)
    if not fits:
        raise SignatureError("The callback's signature is wrong.")
    if not _is_near(timestamp, now, window):
        raise StaleCallbackError(_STALE)


def _stamp(timestamp: str | None, signature: str | None) -> tuple[str, str]:
    """Return both headers if they have the form of a signature's."""
    if not timestamp or not signature:
        raise SignatureError("The callback is not signed.")
    if not _DIGITS.fullmatch(timestamp) or not _BASE64.fullmatch(signature):
        raise SignatureError("The callback's signature or timestamp is ill-formed.")
    return timestamp, signature


def _is_near(timestamp: str, now: float, window: float) -> bool:
    return abs(now - int(timestamp)) <= window  # False for a clock that is no number


def _signature(secret: bytes, text: bytes) -> bytes:
    return base64.b64encode(hmac.digest(secret, text, hashlib.sha256))
