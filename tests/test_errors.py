"""The error tree, the table of codes, and the texts that errors are made of."""

from __future__ import annotations

import copy
import pickle
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings, strategies as st

from topaz_async import errors
from topaz_async.errors import (
    CODES,
    ApiError,
    BudgetError,
    CallbackError,
    ClientClosedError,
    ConfigurationError,
    DownloadError,
    FileError,
    JournalError,
    RateLimitError,
    ServerError,
    SubmitUnknownError,
    TaskFailedError,
    TopazError,
    TransportError,
    WaitTimeoutError,
    clean,
    rule_for,
)
from topaz_async.models import TaskRecord
from topaz_async.texts import quoted, sentence

KINDS = sorted(
    (kind for name in errors.__all__ if isinstance(kind := getattr(errors, name), type)
     and issubclass(kind, TopazError)),
    key=lambda kind: kind.__name__,
)  # fmt: skip
RECORD = TaskRecord("t1", "fail", fail_code="500", raw={"state": "fail"})
EXTRAS = {
    "code": 429,
    "task_id": "t1",
    "reference": "order-17",
    "retryable": True,
    "billed": "unknown",
    "hint": "Wait, then try again.",
}
OWN = {
    "retry_after": 2.5,
    "fingerprint": "f" * 64,
    "sent_at": datetime(2026, 11, 22, tzinfo=UTC),
    "words": "Server exception",
    "fail_code": "500",
    "fail_message": "internal error",
    "record": RECORD,
}


def full(kind: type[TopazError]) -> TopazError:
    """Return an error of a kind with all that it can carry."""
    error = kind("Something happened", **EXTRAS)
    for name, value in OWN.items():
        setattr(error, name, value)
    return error


def everything(error: TopazError) -> tuple[object, ...]:
    return type(error), error.args, str(error), repr(error), vars(error)


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_survives_pickling_and_copying(kind: type[TopazError]) -> None:
    """Class, message and every attribute come back, by every protocol and kind of copy."""
    error = full(kind)
    twins = [
        copy.copy(error),
        copy.deepcopy(error),
        error.about(),
        *(pickle.loads(pickle.dumps(error, p)) for p in range(pickle.HIGHEST_PROTOCOL + 1)),
    ]
    assert [everything(error)] * len(twins) == [everything(twin) for twin in twins]


def test_about_returns_a_copy_that_knows_more() -> None:
    """What is added stands in the copy alone; what is not named stays."""
    error = RateLimitError("Too many", code=429, billed="no", reference="r")
    error.retry_after = 7.0
    twin = error.about(task_id="t1", billed="yes")
    assert (twin.task_id, twin.reference, twin.billed, twin.retry_after) == ("t1", "r", "yes", 7.0)
    assert (error.task_id, error.billed) == (None, "no")


def test_a_copy_shares_no_notes() -> None:
    """Two waiters that are handed one failure do not read each other's notes."""
    error = TopazError("It failed.")
    error.add_note("common")
    twin = error.about()
    twin.add_note("own")
    assert (error.__notes__, twin.__notes__) == (["common"], ["common", "own"])


@pytest.mark.parametrize(
    ("child", "parent"),
    [
        ("AuthenticationError", ApiError),
        ("BudgetError", TopazError),
        ("ClientClosedError", TopazError),
        ("ConnectError", TransportError),
        ("EdgeBlockedError", ApiError),
        ("FeatureDisabledError", ApiError),
        ("GenerationError", ApiError),
        ("InsufficientCreditsError", ApiError),
        ("IntegrityError", FileError),
        ("InvalidInputError", TopazError),
        ("KeyQuotaError", ApiError),
        ("LinkExpiredError", FileError),
        ("MaintenanceError", ApiError),
        ("MalformedCallbackError", CallbackError),
        ("NotFoundError", ApiError),
        ("RateLimitError", ApiError),
        ("ReferenceConflictError", JournalError),
        ("RequestTimeoutError", TransportError),
        ("ResponseError", TransportError),
        ("ResultError", TopazError),
        ("ServerError", ApiError),
        ("SignatureError", CallbackError),
        ("StaleCallbackError", CallbackError),
        ("SubmitUnknownError", TopazError),
        ("TaskFailedError", TopazError),
        ("TaskNotFoundError", TopazError),
        ("TooLargeError", FileError),
        ("UnsafeUrlError", DownloadError),
        ("UploadError", FileError),
        ("ValidationError", ApiError),
        ("WaitTimeoutError", TimeoutError),
    ],
)
def test_the_tree(child: str, parent: type[Exception]) -> None:
    """Each error is caught by the word for its family."""
    assert issubclass(getattr(errors, child), parent)


def test_nothing_but_the_tree_stands_beside_it() -> None:
    """Every public error is a `TopazError`."""
    assert all(issubclass(kind, TopazError) for kind in KINDS)
    assert len(KINDS) == 39


def test_a_wait_timeout_is_caught_as_the_builtin() -> None:
    """`except TimeoutError` is enough, and what is caught knows the task."""
    with pytest.raises(TimeoutError) as caught:
        raise WaitTimeoutError("It took too long.", task_id="t1")
    assert (caught.value.task_id, caught.value.record) == ("t1", None)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (TopazError(), "Nothing was billed."),
        (TopazError("It broke"), "It broke. Nothing was billed."),
        (TopazError("It broke."), "It broke. Nothing was billed."),
        (TopazError("It broke.."), "It broke. Nothing was billed."),
        (TopazError("Did it break?"), "Did it break? Nothing was billed."),
        (TopazError("Please wait…"), "Please wait… Nothing was billed."),
        (
            ServerError("It broke", billed="unknown", hint="Try later"),
            "It broke. The task may have been billed. Try later.",
        ),
        (
            WaitTimeoutError("Late", billed="yes", hint="Wait again."),
            "Late. The task exists and may be billed. Wait again.",
        ),
        (ConfigurationError("No key", hint="Set one"), "No key. Set one."),
        (
            ClientClosedError("Closed", billed="yes"),
            "Closed. The task exists and may be billed.",
        ),
        (CallbackError("Forged"), "Forged."),
        (BudgetError("Too dear"), "Too dear. Nothing was billed."),
    ],
)
def test_an_error_reads_aloud(error: TopazError, said: str) -> None:
    """What happened, whether it cost money, what to do next: each a sentence, ended once."""
    assert said == str(error)


def test_repr_is_short() -> None:
    """The repr names class, message, code and cost."""
    error = SubmitUnknownError("Lost", code=502, billed="unknown")
    assert repr(error) == "SubmitUnknownError('Lost.', code=502, billed='unknown')"


@given(st.text(), st.text())
@settings(deadline=None, database=None)
def test_no_text_makes_an_error_unprintable(message: str, hint: str) -> None:
    """Whatever the service said, an error prints on one line and round trips."""
    error = TaskFailedError(message * 9, hint=hint)
    assert str(error).isprintable()
    assert len(str(error)) < 2000
    assert everything(error) == everything(pickle.loads(pickle.dumps(error)))


@given(st.text(), st.integers(1, 50))
@settings(deadline=None, database=None)
def test_clean_text_is_printable_and_bounded(text: str, limit: int) -> None:
    """`clean` returns text without controls, at most so long, and does nothing twice."""
    cleaned = clean(text, limit)
    assert cleaned.isprintable()
    assert len(cleaned) <= limit
    assert cleaned == cleaned.strip()
    assert cleaned == clean(cleaned, limit)


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("", ""),
        (" clip.mp4 ", "clip.mp4"),
        ("two  spaces", "two  spaces"),
        ("\x1b[31mred\x1b[0m\r\n", "[31mred [0m"),
        ("a\u202eb\u2028c\ufeffd\ud800e\xa0f", "a b c d e f"),
        ("naïve Ünïcode 日本 🎬", "naïve Ünïcode 日本 🎬"),
        ("x" * 500, "x" * 500),
        ("x" * 501, "x" * 499 + "…"),
        ("x" * 1_000_000, "x" * 499 + "…"),
        (None, "None"),
    ],
)
def test_clean_takes_out_what_terminals_obey(text: object, cleaned: str) -> None:
    """Controls, marks that turn text around and lone surrogates become one space."""
    assert cleaned == clean(text)


@given(st.text())
@settings(deadline=None, database=None)
def test_a_sentence_ends_once(text: str) -> None:
    """`sentence` adds the stop that is missing and takes the one too many."""
    said = sentence(text)
    assert not said or said[-1] in ".!?…。！？"
    assert not said.endswith("..")
    assert said == sentence(said)


class Mute:
    """A value that cannot be shown."""

    def __repr__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("2\n", "'2\\n'"),
        ("x" * 100, "'" + "x" * 38 + "…"),
        (10**5000, "a int that cannot be shown"),
        (Mute(), "a Mute that cannot be shown"),
    ],
    ids=["text", "long text", "long number", "mute"],
)
def test_any_value_can_be_quoted(value: object, shown: str) -> None:
    """A wrong argument is named in the error, whatever it is."""
    assert shown == quoted(value)


def test_the_table_of_codes() -> None:
    """Code to class, cost for createTask, repeatable for createTask, passing for questions."""
    assert {
        code: (rule.error.__name__, rule.billed, rule.repeatable, rule.transient)
        for code, rule in CODES.items()
    } == {
        400: ("ValidationError", "no", False, False),
        401: ("AuthenticationError", "no", False, False),
        402: ("InsufficientCreditsError", "no", False, False),
        403: ("AuthenticationError", "no", False, False),
        404: ("NotFoundError", "no", False, False),
        405: ("ValidationError", "no", False, False),
        408: ("ServerError", "unknown", False, True),
        413: ("ValidationError", "no", False, False),
        415: ("ValidationError", "no", False, False),
        422: ("ValidationError", "no", False, False),
        429: ("RateLimitError", "no", True, True),
        433: ("KeyQuotaError", "no", False, False),
        455: ("MaintenanceError", "no", True, True),
        500: ("ServerError", "unknown", False, True),
        501: ("GenerationError", "unknown", False, True),
        505: ("FeatureDisabledError", "no", False, False),
    }


@given(st.integers())
@settings(deadline=None, database=None)
def test_a_code_in_no_table_says_nothing_about_money(code: int) -> None:
    """An undocumented code is never a refusal, and never repeated for createTask."""
    rule = rule_for(code)
    if code not in CODES:
        assert (rule.billed, rule.repeatable) == ("unknown", False)
        assert (ServerError if 500 <= code <= 599 else ApiError) is rule.error
    assert rule.hint
