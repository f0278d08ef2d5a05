"""Fixtures that several test modules share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.services import Service
from topaz_async import PollPolicy, Quotas, RetryPolicy, TopazClient
from topaz_async.sandbox import Sandbox
from topaz_async.sandbox.media import make_clip

#: Everything at a hundredth of its usual pace.
FAST_POLLING = PollPolicy(first=0.02, longest=0.06, outage=1.2, grace=0.3)
FAST_RETRY = RetryPolicy(first=0.005, longest=0.08)
#: The service's own ratio, twenty times as fast.
FAST_QUOTAS = Quotas(submit_window=0.5, polls=None)
#: Signs the callbacks of the sandbox.
WEBHOOK_KEY = "example-hmac-key"


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip of one second with sound, 160x90."""
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    make_clip(path, seconds=1, width=160, height=90)
    return path


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five frames of 64x36 without sound: quick to upscale."""
    path = tmp_path_factory.mktemp("clips") / "tiny.mp4"
    make_clip(path, seconds=0.2, width=64, height=36, audio=False)
    return path


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """A sandbox at the service's ratio of quotas, twenty times as fast."""
    async with Sandbox(
        submit_window=0.5, poll_quota=None, credits=100_000.0, webhook_key=WEBHOOK_KEY
    ) as running:
        yield running


@pytest.fixture
async def topaz(sandbox: Sandbox) -> AsyncIterator[TopazClient]:
    """A quick client of the sandbox."""
    async with client_of(sandbox) as client:
        yield client


def client_of(sandbox: Sandbox, **options: object) -> TopazClient:
    """Return a quick client of a sandbox; options replace the quick ones."""
    settings: dict[str, object] = {
        "base_url": sandbox.base_url,
        "upload_url": sandbox.upload_url,
        "polling": FAST_POLLING,
        "retry": FAST_RETRY,
        "quotas": FAST_QUOTAS,
        **options,
    }
    return TopazClient(sandbox.api_key, **settings)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def nothing_left_behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test may leave a proxy, a key or a journal of this machine in play."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("KIE_API_KEY", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
            patch.delenv(name, raising=False)
        patch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("data")))  # journals
        patch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.fail.Keyring")
        yield


@pytest.fixture(scope="session")
def everyones() -> Iterator[Service]:
    """A sandbox in a thread of its own, made once a run."""
    running = Service()
    yield running
    running.close()


@pytest.fixture
def service(
    everyones: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Service]:
    """The service that the command line talks to, in a folder of the test's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KIE_API_KEY", everyones.sandbox.api_key)
    monkeypatch.setenv("TOPAZ_ASYNC_BASE_URL", everyones.sandbox.base_url)
    monkeypatch.setenv("TOPAZ_ASYNC_UPLOAD_URL", everyones.sandbox.upload_url)
    yield everyones
    everyones.settle()


async def settled() -> None:
    """Give tasks that are ending the few turns of the loop that they need."""
    for _ in range(5):
        await asyncio.sleep(0)
