"""The command line as a whole: its commands, and how errors become words and exit codes.

A command's module loads when the command is typed, and its story when it is called: no command
needs what the others load.
"""

from __future__ import annotations

import logging
import sys

from cyclopts import App, CycloptsError, Group, Parameter, UnusedCliTokensError
from rich.console import Console

from ..errors import ClientClosedError
from ..texts import clean
from . import pages
from .display import collecting_losses, make_console, say_json
from .exits import StoppedError, UsageError, complain, error_as_json, report
from .options import STANDARD_INPUT
from .sources import lookup, settings_of

__all__ = ["app", "run"]


#: The commands in the order of the first page: what is typed, the function that it calls, as
#: "module:function" of this package, and its line.  The function's docstring is its help page.
COMMANDS = (
    ("upscale", "commands_upscale:upscale", "Upscale clips: files, folders, web addresses."),
    ("resume", "commands_upscale:resume", "Finish what earlier commands have left."),
    ("jobs", "commands_tasks:jobs", "List the tasks that were bought from this machine."),
    ("status", "commands_tasks:status", "Ask the service about tasks."),
    ("wait", "commands_tasks:wait", "Wait until tasks have ended."),
    ("download", "commands_tasks:download", "Download the result of a task."),
    ("bind", "commands_tasks:bind", "Say which task an unknown submit has made."),
    ("forget", "commands_tasks:forget", "Drop tasks from the journal of this machine."),
    ("credits", "commands_service:credits", "Show the balance of the account."),
    ("upload", "commands_service:upload", "Send a file to the service, and print its address."),
    ("listen", "commands_service:listen", "Receive the service's callbacks."),
    ("demo", "commands_service:demo", "See it work on this machine: no key, no cost."),
    ("sandbox", "commands_service:sandbox", "Run the service on this machine."),
    ("compare", "commands_tools:compare", "Lay two videos over each other on a page."),
    ("doctor", "commands_tools:doctor", "Look for what may keep an upscale from working."),
    ("config", "commands_tools:config", "Show what is set, and where it comes from."),
    ("login", "commands_tools:login", "Store the key in the system's keyring."),
    ("logout", "commands_tools:logout", "Remove the key that login has stored."),
    ("completion", "commands_tools:completion", "Print the script for your shell's Tab key."),
)

#: Those after whose end tasks may go on.
_OF_TASKS = frozenset({"upscale", "resume", "wait", "download"})

#: Those whose pages explain the exit codes.
_WITH_CODES = frozenset({"upscale", "resume", "wait"})

app = App(
    name="topaz-async",
    usage=pages.TOP,
    help_format="plaintext",
    help_formatter=pages.Page(),
    help_epilogue=pages.CODES,
    group_commands=Group("Commands", sort_key=0),
    group_arguments=Group("What", sort_key=0),
    group_parameters=Group("Options", sort_key=1),
    default_parameter=Parameter(negative=(), show_default=False, show_env_var=False),
    result_action="return_value",
    suppress_keyboard_interrupt=False,
)
app["--help"].group = app["--version"].group = Group("Options", sort_key=1)

for _place, (_name, _path, _line) in enumerate(COMMANDS):
    _path = f"{__package__}.{_path}"
    app.command(
        _path,
        name=_name,
        help=_line,
        sort_key=_place,
        usage="",
        help_formatter=pages.Page(_path),
        help_epilogue=pages.CODES if _name in _WITH_CODES else "",
    )


def run(arguments: list[str]) -> int:
    """Run a command line and return its exit code; errors become words on standard error."""
    options, rest = _before_delimiter(arguments)
    options = [STANDARD_INPUT if option == "-" else option for option in options]
    try:
        options, env_file = _without_env_file(options)
        with settings_of(env_file) as passed_over:
            return _run(options, rest, passed_over)
    except UsageError as error:
        return _failed(error, options, debug="--debug" in options)


def _run(options: list[str], rest: list[str], passed_over: list[str]) -> int:
    debug = lookup("TOPAZ_ASYNC_DEBUG").value not in (None, "0")
    if "--debug" in options:
        debug, options = True, [option for option in options if option != "--debug"]
    errors = make_console(stderr=True)
    notes = _Notes(debug=debug)
    log = logging.getLogger("topaz_async")
    level = log.level
    log.addHandler(notes)
    if debug:
        log.setLevel(logging.DEBUG)
    else:  # what a second Ctrl-C tears apart is of interest to nobody at a terminal
        logging.getLogger("asyncio").addHandler(logging.NullHandler())
    try:
        for words in passed_over:
            log.warning("%s", words)
        with collecting_losses() as losses:
            code = app(
                [*options, *rest],
                console=make_console(),
                exit_on_error=False,
                print_error=False,
                help_on_error=False,
            )
        if losses:
            complain(errors, f"Not all could be printed: {losses[0].strerror}.")
            return code or 1
        return code or 0
    except CycloptsError as error:
        return _misused(error, errors, options)
    except (Exception, KeyboardInterrupt) as error:
        return _failed(error, options, debug=debug)
    finally:
        log.removeHandler(notes)
        log.setLevel(level)


def _failed(error: BaseException, options: list[str], *, debug: bool) -> int:
    command = next((name for name in options if name in app), None)
    if isinstance(error, (ClientClosedError, KeyboardInterrupt)) and command not in _OF_TASKS:
        stopped = StoppedError("Interrupted.")
        stopped.__cause__ = error
        error = stopped
    if "--json" in options:
        say_json(make_console(), {"event": "error", **error_as_json(error)})
    return report(error, make_console(stderr=True), debug=debug)


def _before_delimiter(arguments: list[str]) -> tuple[list[str], list[str]]:
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    return arguments[:cut], arguments[cut:]


def _without_env_file(options: list[str]) -> tuple[list[str], str | None]:
    """Take out the option that every command knows."""
    kept: list[str] = []
    found = None
    words = iter(options)
    for word in words:
        name, sign, value = word.partition("=")
        if name != "--env-file":
            kept.append(word)
            continue
        found = value if sign else next(words, "")
        if not found:
            raise UsageError("--env-file needs the name of a file.")
    return kept, found


def _misused(error: CycloptsError, console: Console, options: list[str]) -> int:
    if isinstance(error, UnusedCliTokensError):
        what = (
            f"{clean(' '.join(error.unused_tokens or ()), 200)!r} is more than the command takes."
        )
    else:
        what = clean(error, 400)
    command = next((f"{name} " for name in options if name in app), "")
    complain(console, f"{what}\nSee: topaz-async {command}--help")
    return 2


#: Warnings about tasks that a command lists itself when it ends.
_TOLD_ELSEWHERE = frozenset({"Task %s was made after its caller had left%s."})


class _Notes(logging.Handler):
    """Shows the library's warnings as single lines, above whatever is being drawn."""

    def __init__(self, *, debug: bool) -> None:
        super().__init__(logging.DEBUG if debug else logging.WARNING)
        self._debug = debug

    def emit(self, record: logging.LogRecord) -> None:
        if record.msg in _TOLD_ELSEWHERE and not self._debug:
            return
        # Not through a console: what is being drawn takes in sys.stderr, and rich goes around it.
        print(f"Note: {clean(record.getMessage(), 2000)}", file=sys.stderr)
        if self._debug and record.exc_info:
            print(logging.Formatter().formatException(record.exc_info), file=sys.stderr)
