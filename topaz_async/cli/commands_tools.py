"""What may be typed around an upscale: compare, doctor, config, login, logout, completion."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from .app import app
from .display import make_console
from .options import ADVANCED, HERE, Where, amount

__all__ = ["compare", "completion", "config", "doctor", "login", "logout"]

_Url = Annotated[str | None, Parameter(group=ADVANCED, metavar="URL")]


def compare(
    before: Path,
    after: Path,
    /,
    *,
    output: Annotated[str, Parameter(name=["--output", "-o"], metavar="PAGE")] = "compare.html",
    overwrite: bool = False,
    max_mb: Annotated[float, Parameter(group=ADVANCED, metavar="MB", validator=amount)] = 50.0,
) -> None:
    """Lay two videos over each other on a page, with a slider.

      topaz-async compare clip.mp4 clip-4x.mp4
      topaz-async compare clip.mp4 clip-4x.mp4 -o before-after.html

    The page is one file that needs no network: the videos are inside it. A video
    of more than 50 MB, or of a kind that browsers do not play, is shown by its
    first picture.

    Args:
        before: The video as it was.
        after: The video as it is now.
        output: The page to write, or a folder; compare.html by default.
        overwrite: Replace a page that is there already.
        max_mb: The largest video that is put in, in MB of 1048576 bytes; 50 by default.
    """
    from .compare import compare as story

    most = int(max_mb * 1024 * 1024)
    story(before, after, output, make_console(), overwrite=overwrite, max_bytes=most)


def doctor(*, json: bool = False, where: Where = HERE) -> int:
    """Look for what may keep an upscale from working.

      topaz-async doctor
      topaz-async doctor --json

    Each line says ok, warn or fail, and what to do about it. Both hosts of the
    service are asked for a sign of life, the account for its balance; nothing is
    bought. The exit code is 1 if a line says fail.

    Args:
        json: One JSON object a line.
    """
    from .doctor import doctor as story

    return story(make_console(), where, json=json)


def config(*, json: bool = False, where: Where = HERE) -> None:
    """Show what is set, and where each setting comes from.

      topaz-async config
      topaz-async config --json --env-file .env

    An option goes before the environment, the environment before a file that
    --env-file names, and that before the keyring. The key itself is not shown.

    Args:
        json: One JSON object a line.
    """
    from .config import config as story

    story(make_console(), where, json=json)


def login(*, base_url: _Url = None) -> None:
    """Store the key of your account in the system's keyring.

      topaz-async login
      topaz-async login < key.txt

    Asks for the key without showing it, checks it by asking for the balance,
    which costs nothing, and stores it. "topaz-async logout" removes it.

    Args:
        base_url: Another service than kie.ai (TOPAZ_ASYNC_BASE_URL).
    """
    from .login import login as story

    story(base_url, make_console())


def logout(*, base_url: _Url = None) -> None:
    """Remove the key that login has stored.

      topaz-async logout

    The key stays valid; only the keyring forgets it.

    Args:
        base_url: Another service than kie.ai (TOPAZ_ASYNC_BASE_URL).
    """
    from .login import logout as story

    story(base_url, make_console())


def completion(shell: Literal["bash", "zsh", "fish"], /) -> None:
    """Print the script by which a shell completes what is typed.

      topaz-async completion bash >> ~/.bashrc
      topaz-async completion zsh > ~/.zfunc/_topaz-async
      topaz-async completion fish > ~/.config/fish/completions/topaz-async.fish

    A new shell knows it. For zsh, ~/.zfunc has to be in fpath before compinit.

    Args:
        shell: bash, zsh or fish.
    """
    print(app.generate_completion(shell=shell), end="")
