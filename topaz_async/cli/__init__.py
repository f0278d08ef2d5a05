"""The command line `topaz-async`: this module starts it, and says so when an extra is missing."""

from __future__ import annotations

import contextlib
import io
import signal
import sys
from collections.abc import Sequence

__all__ = ["main"]

#: Distribution package to import name, of everything the extra `cli` installs.
_CLI_PACKAGES = ("cyclopts", "platformdirs", "rich")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Nothing heavy is imported by this module: `--version` is answered without the extra, and
    whoever lacks the extra gets a sentence instead of a stack trace.

    Args:
        argv: The arguments after the program's name; None takes those of the process.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        # File names and the service's words hold letters that not every terminal can show.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        code = _print_version() if arguments == ["--version"] else _run(arguments)
        if sys.stdout is not None:  # `>&-`
            sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read the output has gone (`| head`); Python's own farewell would complain.
        sys.stdout = None
        code = 1
    except KeyboardInterrupt:  # between two steps of ours
        code = _interrupted("Interrupted.")
    if argv is None:
        # All is said and done: a late Ctrl-C must not turn the program's end into a trace.
        with contextlib.suppress(ValueError):  # not the main thread
            signal.signal(signal.SIGINT, signal.SIG_IGN)
    return code


def _interrupted(words: str) -> int:
    print(words, file=sys.stderr)
    return 130


def _print_version() -> int:
    from importlib.metadata import PackageNotFoundError, version

    try:
        print(version("topaz-async"))
    except PackageNotFoundError:  # a source tree that was never installed
        print("unknown")
    return 0


def _run(arguments: list[str]) -> int:
    try:
        from .app import run
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _CLI_PACKAGES:
            raise
        print(
            f"topaz-async needs {error.name}, which is not installed: "
            "pip install 'topaz_async[cli]'",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        return _interrupted("Interrupted. Nothing was sent.")
    return run(arguments)
