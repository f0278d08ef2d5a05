"""What a caller asks for, made ready to be submitted."""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import attrs
import pytest
from hypothesis import given, settings, strategies as st

from topaz_async.errors import ConfigurationError, InvalidInputError, TopazError
from topaz_async.media import content_hash as hash_of
from topaz_async.models import (
    ImageUpscaleInput,
    TaskInput,
    UploadedFile,
    UpscaleFactor,
    UpscaleInput,
)
from topaz_async.orders import NONCE, Order, described, is_url, make_order
from topaz_async.ports import Intent

LIMIT = 10 * 1024 * 1024
URL = "https://files.example/holiday.mp4?Signature=s3cret#t=1"


def order(video: Any, **options: Any) -> Order:
    return make_order(video, **{"max_bytes": LIMIT, **options})


@attrs.frozen
class CrispInput(TaskInput):
    """A further model of the same interface, without a factor."""

    model: ClassVar[str] = "recraft/crisp-upscale"
    image: str
    mode: str | None = None


@attrs.frozen
class Nameless(TaskInput):
    """An input whose author forgot the model."""


def test_an_order_for_a_url() -> None:
    """The input is sent as it stands; the journal gets it without its signature."""
    made = order(URL, factor=4, reference="order-17", seconds=12)
    assert made == Order(
        input=UpscaleInput(URL, 4),
        factor=UpscaleFactor.X4,
        title="holiday",
        content=made.content,
        intent=Intent(
            reference="order-17",
            fingerprint=made.intent.fingerprint,
            model="topaz/video-upscale",
            factor="4",
            input={"video_url": "https://files.example/holiday.mp4", "factor": "4"},
            seconds=12.0,
        ),
    )
    assert "s3cret" not in repr(made)
    assert not made.may_have_bought


def test_an_order_for_a_file(clip: Path) -> None:
    """Size, length and hash are known; the input waits for the upload's link."""
    made = order(clip, factor="4")
    content = clip.read_bytes()
    assert made.intent == Intent(
        reference=None,
        fingerprint=made.intent.fingerprint,
        model="topaz/video-upscale",
        factor="4",
        input={"factor": "4"},
        seconds=pytest.approx(1.0, abs=0.05),
        size=len(content),
        content_hash=hashlib.sha256(content).hexdigest(),
    )
    assert (made.input, made.title) == (None, "clip")
    made.uploaded_to("https://up.example/x.mp4?s=1")
    assert made.input == UpscaleInput("https://up.example/x.mp4?s=1", 4)
    assert made.intent.input == {"video_url": "https://up.example/x.mp4", "factor": "4"}


def test_seconds_of_the_caller_count_more_than_the_header(clip: Path) -> None:
    """Whoever says how long it is knows better."""
    assert order(clip, seconds=9).intent.seconds == 9.0


@pytest.mark.parametrize(
    ("task_input", "model", "factor", "title"),
    [
        (UpscaleInput(URL, 1), "topaz/video-upscale", "1", "holiday"),
        (ImageUpscaleInput("https://a.example/p.png", 4), "topaz/image-upscale", "4", "p"),
        (CrispInput("https://a.example/p.png"), "recraft/crisp-upscale", "2", "p"),
        (CrispInput("https://[bad"), "recraft/crisp-upscale", "2", "video"),
        (CrispInput("no url"), "recraft/crisp-upscale", "2", "video"),
    ],
)
def test_an_order_for_an_input(task_input: TaskInput, model: str, factor: str, title: str) -> None:
    """Any model's input is taken as it is, its own factor included."""
    made = order(task_input)
    assert made.input is task_input
    assert (made.intent.model, made.intent.factor, made.title) == (model, factor, title)


def test_a_fingerprint_tells_work_apart(clip: Path, tiny_clip: Path, tmp_path: Path) -> None:
    """Model, options and content make it; name, signature and reference do not."""
    same = tmp_path / "other-name.mp4"
    same.write_bytes(clip.read_bytes())
    works = [
        (order(clip), [order(same), order(str(clip), reference="r", seconds=3)]),
        (order(tiny_clip), []),
        (order(clip, factor=4), [order(same, factor=4)]),
        (order(URL), [order(URL.replace("s3cret", "other")), order(UpscaleInput(URL))]),
        (order(URL, factor=4), []),
        (order("https://files.example/second.mp4"), []),
        (order(ImageUpscaleInput("https://files.example/holiday.mp4")), []),
        (order(CrispInput("https://files.example/holiday.mp4")), []),
        (order(CrispInput("https://files.example/holiday.mp4", "soft")), []),
        (order(URL, fingerprint="mine"), [order(clip, fingerprint="mine")]),
    ]
    assert len({made.intent.fingerprint for made, _ in works}) == len(works)
    for made, twins in works:
        assert {made.intent.fingerprint} >= {twin.intent.fingerprint for twin in twins}


@pytest.mark.parametrize(
    "url", ["https://b.example/kie", "https://b.example/kie?job=42&x=%20", "http://127.0.0.1:9/k"]
)
def test_a_callback_url_gets_a_nonce(url: str) -> None:
    """An opaque word in its query, kept in the intent, another one each time."""
    made, other = (order(URL, callback_url=url) for _ in range(2))
    assert made.callback_url is not None
    assert made.callback_url.startswith(url)
    query = parse_qs(urlsplit(made.callback_url).query)
    assert query.pop(NONCE) == [made.intent.nonce]
    assert query == parse_qs(urlsplit(url).query)
    assert made.intent.nonce != other.intent.nonce
    assert made.intent.fingerprint == other.intent.fingerprint


def test_without_a_callback_url_there_is_no_nonce() -> None:
    """Nothing is made up."""
    assert (order(URL).callback_url, order(URL).intent.nonce) == (None, None)


@pytest.mark.parametrize(
    ("video", "options", "words"),
    [
        (42, {}, "not int"),
        (None, {}, "not NoneType"),
        (b"clip.mp4", {}, r"not bytes\. Nothing was billed\. First upload\(\) it, then pass"),
        pytest.param(io.BytesIO(), {}, r"not BytesIO\..* First upload\(\) it", id="BytesIO"),
        (UploadedFile(URL), {}, r"not UploadedFile\..* Pass its url"),
        ("", {}, "path of the video is empty"),
        (".", {}, "is a folder"),
        ("missing.mp4", {}, "does not exist"),
        ("a\0b", {}, "no file name"),
        ("data:video/mp4;base64," + "A" * 5000, {}, "cannot be read: File name too long"),
        ("http://a.example/c.mp4", {}, "plain http"),
        (" https://a.example/c.mp4", {}, "white space"),
        ("file:///etc/passwd", {}, "must begin with https"),
        ("https://u:p@a.example/c.mp4", {}, "user name or password"),
        (Nameless(), {}, "Nameless names no model"),
        (TaskInput(), {}, "TaskInput names no model"),
        (UpscaleInput(URL, 4), {"factor": 1}, "factor 4, the argument says 1; which one is it"),
        (URL, {"factor": 3}, "knows 1, 2 and 4"),
        (URL, {"factor": True}, "knows 1, 2 and 4"),
        (URL, {"reference": ""}, "A reference is a text of 1 to 500 characters"),
        (URL, {"reference": " "}, "A reference is"),
        (URL, {"reference": "x" * 501}, "A reference is"),
        (URL, {"reference": 17}, "A reference is"),
        (URL, {"reference": "a\ud800"}, "A reference is"),
        (URL, {"fingerprint": ""}, "A fingerprint is"),
        (URL, {"callback_url": ""}, "callback_url is empty"),
        (URL, {"callback_url": "http://b.example/"}, "callback_url is plain http"),
        (URL, {"callback_url": 5}, "callback_url must be a URL in text"),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_what_cannot_be_upscaled_is_refused(video: object, options: dict, words: str) -> None:
    """`InvalidInputError`, in words, and nothing was billed."""
    with pytest.raises(InvalidInputError, match=words) as caught:
        order(video, **options)
    assert caught.value.billed == "no"


@pytest.mark.parametrize("seconds", [0, -1, "5", True, float("nan")])
def test_a_length_is_seconds_above_0(seconds: object) -> None:
    """Anything else is an option set wrongly."""
    with pytest.raises(ConfigurationError, match=r"^seconds "):
        order(URL, seconds=seconds)


def test_a_file_that_goes_away_is_refused(tmp_path: Path) -> None:
    """Between the first look and the last byte it may; no OSError comes out."""
    with pytest.raises(InvalidInputError, match=r"gone\.mp4 cannot be read: No such file"):
        hash_of(tmp_path / "gone.mp4")


class BytesPath:
    """A path as bytes, as `os.DirEntry` gives them."""

    def __init__(self, path: Path) -> None:
        self._path = os.fsencode(path)

    def __fspath__(self) -> bytes:
        return self._path


def test_any_kind_of_path_will_do(clip: Path) -> None:
    """Text, `Path`, and what only knows its bytes."""
    wanted = order(clip)
    assert [wanted.intent, wanted.intent] == [
        order(str(clip)).intent,
        order(BytesPath(clip)).intent,
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://a.example", True),
        ("FILE:///x", True),
        ("s3+http://x", True),
        (" https://a.example", True),
        ("C:\\clips\\a.mp4", False),
        ("clips/a.mp4", False),
        ("https:/a.example", False),
        ("1https://a", False),
    ],
)
def test_what_is_meant_as_a_url(text: str, expected: bool) -> None:
    """Any scheme makes a URL: a wrong one must not be taken for a file's name."""
    assert is_url(text) is expected


def test_an_input_as_journals_keep_it() -> None:
    """Texts only, URLs without their query, nothing that is None."""
    values = {"video_url": URL, "factor": UpscaleFactor.X4, "seed": 7, "mode": None}
    kept = {"video_url": "https://files.example/holiday.mp4", "factor": "4", "seed": "7"}
    assert described(values) == kept
    assert described(kept) == kept


@pytest.mark.parametrize(
    ("sent", "task_id", "expected"), [(True, None, True), (True, "t", True), (False, None, False)]
)
def test_what_an_order_may_have_bought(sent: bool, task_id: str | None, expected: bool) -> None:
    """Once its request may have left, until it is refused."""
    made = order(URL)
    made.sent, made.task_id = sent, task_id
    assert made.may_have_bought is expected


@given(st.text(), st.text(), st.text())
@settings(deadline=None, database=None)
def test_any_texts_make_an_order_or_an_error_of_ours(
    video: str, reference: str, callback: str
) -> None:
    """Nothing else is raised, whatever stands in a list of videos."""
    for url in (video, f"https://{video}", f"https://a.example/{video}"):
        try:
            order(url, reference=reference, callback_url=f"https://b.example/{callback}")
        except TopazError as error:
            said = str(error)
            assert said.isprintable()  # most texts are errors, and some are not


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("https://h.example/dl?id=1", "https://h.example/dl?id=2", False),
        ("https://h.example/dl?id=1&b=2", "https://h.example/dl?b=2&id=1", True),
        ("https://h.example/a.mp4?X-Amz-Signature=1", "https://h.example/a.mp4", True),
        (
            "https://h.example/a.mp4?Expires=1&Signature=2",
            "https://h.example/a.mp4?Expires=3",
            True,
        ),
        ("https://h.example/a.mp4?ex=1&is=2&hm=3", "https://h.example/a.mp4?ex=4&is=5&hm=6", True),
        ("https://h.example/a.mp4#t=1", "https://h.example/a.mp4", True),
        ("https://h.example/a.mp4?v=1", "https://h.example/a.mp4", False),
    ],
)
def test_work_without_a_name_is_named_by_what_its_link_leads_to(
    one: str, other: str, same: bool
) -> None:
    """Signatures and expiries come and go; any other word of a query may be another file."""
    names = []
    for url in (one, other):
        made = order(url)
        made.name_by_content()
        names.append((made.content, made.intent.reference))
    assert same == (names[0] == names[1])
    assert order(one).intent.fingerprint == order(other).intent.fingerprint
