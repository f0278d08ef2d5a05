"""File names that are harmless on any disk, whoever made them up."""

from __future__ import annotations

import re
import unicodedata
from email.message import Message
from urllib.parse import unquote

__all__ = ["own_name", "result_name", "safe_name"]

#: Bytes; with room for a number and another ending within the 143 of the tightest file system.
_LONGEST = 120
#: Names that stand for devices on Windows, whatever their ending.
_DEVICE = re.compile(
    r"(con|prn|aux|nul|clock\$|conin\$|conout\$|(com|lpt)[0-9¹²³]) *(\..*)?", re.IGNORECASE
)
#: How often percent signs are decoded: nobody honest packs a name in so many layers.
_ROUNDS = 8
#: What Windows allows in no name, and what separates folders.
_FORBIDDEN = frozenset('<>:"/\\|?*')
#: Joiners, without which some scripts and emoji fall apart; unlike marks of direction they
#: change nothing else.
_JOINERS = frozenset("\u200c\u200d")
#: Endings that a result may bring along.
_ENDINGS = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts"),
    *(".gif", ".png", ".jpg", ".jpeg", ".webp", ".avif", ".heif", ".heic"),
)


def safe_name(name: str, default: str = "video.mp4") -> str:
    """Return a harmless name made from a text that somebody else wrote.

    Percent signs are decoded until nothing changes, at most eight times; the last part of the
    path counts; letters, digits, marks, spaces, dots and dashes stay, and everything else, such
    as a percent sign that is left, becomes an underscore.

    Args:
        name: A URL's path, or a name in a header.
        default: What stands for a text of which nothing is left.
    """
    for _ in range(_ROUNDS):
        # "%2525..." would come apart one layer a round.
        decoded, name = name, unquote(re.sub("%(25)+", "%", name))
        if name == decoded:
            break
    last = unicodedata.normalize("NFC", re.split(r"[/\\]", name)[-1])
    kept = "".join(ch if _is_a_letter(ch) else "\0" for ch in last)
    return _fit(re.sub("\0+", "_", kept), default)


def own_name(name: str, default: str = "video.mp4") -> str:
    """Return a name from this disk with only those letters changed that some disk minds."""
    kept = "".join(
        ch if ch in _JOINERS or (ch.isprintable() and ch not in _FORBIDDEN) else "_" for ch in name
    )
    return _fit(kept, default)


def result_name(path: str, disposition: str | None = None) -> str:
    """Return a harmless name, with the ending of a film or picture, for what a link leads to.

    Args:
        path: The path of the link.
        disposition: The host's Content-Disposition, which counts where the link has no ending.
    """
    linked = safe_name(path)
    if _is_ending(linked):
        return linked
    said = safe_name(_filename(disposition or ""), "")
    if said:
        return said if _is_ending(said) else f"{said}.mp4"
    return f"{linked}.mp4"


def _filename(disposition: str) -> str:
    message = Message()
    message["Content-Disposition"] = re.sub(r"[\r\n]+", " ", disposition)
    try:
        return message.get_filename("")
    except (ValueError, LookupError, TypeError):  # what no two programs read alike
        return ""


def _is_ending(name: str) -> bool:
    return name.lower().endswith(_ENDINGS)


def _is_a_letter(ch: str) -> bool:
    return ch in "._- " or unicodedata.category(ch)[0] in "LMN"


def _fit(name: str, default: str) -> str:
    """Cut a name to its last bytes, for the end tells the kind; no dot file, no device."""
    fit = name.encode(errors="ignore")[-_LONGEST:].decode(errors="ignore").strip(" .-")
    return f"_{fit}" if _DEVICE.fullmatch(fit) else fit or default
