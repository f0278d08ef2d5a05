"""A callback's signature: what fits, what never does, and vectors computed elsewhere."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess

import pytest
from hypothesis import given, settings, strategies as st

from topaz_async import SignatureError, StaleCallbackError
from topaz_async.signature import check_headers, sign, verify

#: The vector of the wire reference.
KEY, TASK, TIME = "example-hmac-key", "task_topaz_example_001", "1760000000"
SIGNATURE = "fmE7iUMvmhAQp/M2now1WA22HMwkz28Mpt+2fPKbsa0="
NOW = 1760000000.0

#: The recipe of the service's verification guide, for Node.
NODE = """
const crypto = require('crypto');
const [taskId, timestampSeconds, webhookHmacKey] = JSON.parse(process.argv[1]);
const dataToSign = `${taskId}.${timestampSeconds}`;
console.log(crypto.createHmac('sha256', webhookHmacKey).update(dataToSign).digest('base64'));
"""


def check(**changes: object) -> None:
    """Verify the vector with some of its parts changed."""
    parts = {"task_id": TASK, "timestamp": TIME, "signature": SIGNATURE, "now": NOW, **changes}
    secrets = parts.pop("secrets", [KEY])
    verify(secrets, **parts)  # type: ignore[arg-type]


def test_the_vector_of_the_wire_reference_fits() -> None:
    """Key, id and time give the published signature."""
    assert SIGNATURE == sign(KEY, TASK, TIME)
    check()


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_the_vendors_own_recipe_gives_the_same() -> None:
    """What the guide's Node code signs, in any script and with any key, fits here."""
    for task_id, key in [(TASK, KEY), ("日本-é", "ключ 🔑"), ("0" * 32, "a")]:
        words = json.dumps([task_id, TIME, key])
        node = subprocess.run(
            ["node", "-e", NODE, words], capture_output=True, text=True, check=True, timeout=30
        )
        check(task_id=task_id, secrets=[key], signature=node.stdout.strip())


@pytest.mark.parametrize(
    "changes",
    [
        {"task_id": ""},
        {"task_id": "task_topaz_example_002"},
        {"task_id": TASK + "\ud800"},
        {"timestamp": None},
        {"timestamp": ""},
        {"timestamp": "1760000001"},
        {"timestamp": " 1760000000"},
        {"timestamp": "1760000000\n"},
        {"timestamp": "+1760000000"},
        {"timestamp": "1760000000.0"},
        {"timestamp": "１７６０００００００"},
        {"timestamp": "٣"},
        {"timestamp": "1" * 5000},
        {"signature": None},
        {"signature": ""},
        {"signature": SIGNATURE[:-1]},
        {"signature": SIGNATURE + "="},
        {"signature": SIGNATURE + "\n"},
        {"signature": " " + SIGNATURE},
        {"signature": SIGNATURE.replace("+", "-").replace("/", "_")},
        {"signature": SIGNATURE.replace("f", "ｆ")},
        {"signature": SIGNATURE[:-2] + "1="},
        {"signature": SIGNATURE.lower()},
        {"signature": base64.b64decode(SIGNATURE).hex()},
        {"signature": sign("", TASK, TIME), "secrets": [""]},
        {"secrets": []},
        {"secrets": ["another key"]},
        {"secrets": [KEY + "\n"]},
    ],
    ids=repr,
)
def test_whatever_is_not_the_signature_is_refused(changes: dict[str, object]) -> None:
    """Missing, empty, ill-formed, foreign digits, another spelling of the same bytes."""
    with pytest.raises(SignatureError):
        check(**changes)


@pytest.mark.parametrize(
    "timestamp",
    [f" {TIME}", f"{TIME}\n", f"+{TIME}", f"{TIME}.0", "１７６０００００００", f"{TIME[:-1]}_0"],
)
def test_an_odd_timestamp_is_refused_even_when_it_is_signed(timestamp: str) -> None:
    """Only plain digits: what is signed must be read in one way."""
    with pytest.raises(SignatureError):
        check(timestamp=timestamp, signature=sign(KEY, TASK, timestamp))


def test_every_secret_in_force_is_tried() -> None:
    """While keys are exchanged the old one and the new one fit, in any place."""
    for secrets in ([KEY, "new"], ["new", KEY], ["new", "", KEY]):
        check(secrets=secrets)


@pytest.mark.parametrize(("off", "fits"), [(300, True), (300.5, False), (86400, False)])
@pytest.mark.parametrize("sign_of", [1, -1])
def test_the_window_is_300_seconds_both_ways(off: float, fits: bool, sign_of: int) -> None:
    """Neither an old callback nor one from the future is taken."""
    if fits:
        check(now=NOW + sign_of * off)
        return
    with pytest.raises(StaleCallbackError):
        check(now=NOW + sign_of * off)


def test_a_forged_callback_is_not_told_that_it_is_stale() -> None:
    """The signature is looked at first: age is told to whoever holds the key."""
    with pytest.raises(SignatureError):
        check(now=NOW + 9999, signature=SIGNATURE.lower())


def test_the_headers_can_be_judged_alone() -> None:
    """Presence, form and age, without a task or a secret; a guess of the right form passes."""
    check_headers(TIME, SIGNATURE, now=NOW + 300)
    check_headers(TIME, SIGNATURE.lower()[:-2] + "A=", now=NOW - 300)
    for timestamp, signature in ((None, SIGNATURE), (TIME, None), ("+1", SIGNATURE), (TIME, "x")):
        with pytest.raises(SignatureError):
            check_headers(timestamp, signature, now=NOW)
    for now in (NOW + 301, NOW - 301, float("nan")):
        with pytest.raises(StaleCallbackError):
            check_headers(TIME, SIGNATURE, now=now)


def test_the_window_can_be_set() -> None:
    """A smaller window refuses sooner, and a clock that is no number refuses all."""
    check(now=NOW + 5, window=5)
    for now in (NOW + 6, float("nan"), float("inf")):
        with pytest.raises(StaleCallbackError):
            check(now=now, window=5)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60), st.text(max_size=20), st.text(max_size=60))
def test_no_text_raises_anything_else(task_id: str, timestamp: str, signature: str) -> None:
    """Whatever stands in an id or a header, the answer is a refusal."""
    with pytest.raises(SignatureError):
        check(task_id=task_id, timestamp=timestamp, signature=signature)


@settings(max_examples=100, deadline=None)
@given(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40),
    st.integers(0, 10**12),
    st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=1),
)
def test_what_a_secret_signed_fits(task_id: str, moment: int, secrets: list[str]) -> None:
    """For all ids, times and keys."""
    for secret in secrets:
        signature = sign(secret, task_id, str(moment))
        verify(
            secrets, task_id=task_id, timestamp=str(moment), signature=signature, now=moment + 1.0
        )
