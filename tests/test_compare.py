"""The page that lays two videos over each other, as a browser shows it."""

from __future__ import annotations

import io
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import pytest

from tests.clips import clip, image
from tests.test_cli import python, typed
from topaz_async.cli.first_picture import first_picture

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")

#: A name that breaks out of attributes and elements that are not escaped.
ODD = "a\"'><img src=x onerror=alert(1)>&lt;{{script}}.mp4"


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A small clip and a large one, in the current folder."""
    monkeypatch.chdir(tmp_path)
    before, after = tmp_path / "clip.mp4", tmp_path / "clip-4x.mp4"
    before.write_bytes(clip(seconds=1.0))
    after.write_bytes(clip(seconds=1.0, width=256, height=144))
    return before, after


# -- the file --------------------------------------------------------------------------------


def test_the_page_is_one_file_without_a_way_out(
    pair: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """The page names no other address, and its policy would let none be reached."""
    ran = typed(capsys, "compare", *pair)
    page = Path("compare.html").read_text(encoding="utf-8")
    assert (0, "") == (ran.code, ran.err)
    assert re.fullmatch(
        r"64x36 beside 256x144: compare\.html \([\d.]+ kB\); open it in a browser\n", ran.out
    )
    assert [] == re.findall(
        r"https?:|//\w+\.\w+", re.sub(r"base64,[\w+/=]*|>[\w+/=]{99,}<", "", page)
    )
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', page)
    hashes = r"'sha256-[\w+/]{43}='"
    assert re.fullmatch(
        f"default-src 'none'; script-src {hashes}; style-src {hashes}; img-src data:; "
        "media-src blob:; base-uri 'none'; form-action 'none'",
        policy,
    )
    assert "{{" not in page


def test_a_page_that_is_there_survives(
    pair: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Only --overwrite replaces a file, none of the videos is ever replaced, and no part stays."""
    page = Path("page.html")
    page.write_text("precious")
    ran = typed(capsys, "compare", *pair, "-o", page)
    assert (2, "precious") == (ran.code, page.read_text())
    assert "page.html exists already and was left alone." in ran.err
    ran = typed(capsys, "compare", *pair, "-o", pair[1], "--overwrite")
    assert (2, f"Error: {pair[1]} is one of the two videos; name another page.\n") == (
        ran.code,
        ran.err,
    )
    assert 0 == typed(capsys, "compare", *pair, "-o", page, "--overwrite").code
    assert page.read_text().startswith("<!doctype html>")
    assert 0 == typed(capsys, "compare", *pair, "-o", "new/").code
    names = {str(path.relative_to(pair[0].parent)) for path in pair[0].parent.rglob("*")}
    assert {"clip.mp4", "clip-4x.mp4", "page.html", "new", "new/clip-compare.html"} == names


def test_a_page_that_cannot_be_finished_leaves_nothing(
    pair: tuple[Path, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is full leaves the older page and no part of the new one."""
    resource = pytest.importorskip("resource")
    Path("compare.html").write_text("precious")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal = pytest.importorskip("signal")
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        ran = typed(capsys, "compare", *pair, "--overwrite")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    said = "Error: compare.html cannot be written: File too large. Nothing was billed.\n"
    assert (1, said) == (ran.code, ran.err)
    assert "precious" == Path("compare.html").read_text()
    assert 3 == len(list(Path().iterdir()))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "does not exist."),
        (b"no video at all", "cannot be shown: not a readable video or image"),
        (b"", "is empty."),
        ("folder", "is a folder, not a video."),
    ],
)
def test_what_is_no_video_is_told(
    content: bytes | str | None,
    said: str,
    pair: tuple[Path, Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A file that cannot be shown is a sentence with exit code 2, and no page."""
    odd = Path("odd.mp4")
    if isinstance(content, str):
        odd.mkdir()
    elif content is not None:
        odd.write_bytes(content)
    ran = typed(capsys, "compare", pair[0], odd)
    assert (2, "") == (ran.code, ran.out)
    assert ran.err.startswith(f"Error: odd.mp4 {said}")
    assert not Path("compare.html").exists()


async def test_without_pyav_it_says_what_to_install(pair: tuple[Path, Path]) -> None:
    """Sizes and first pictures need PyAV; whoever lacks it is told the line that brings it."""
    ran = await python(
        "import sys; sys.modules['av'] = None\n"
        "from topaz_async.cli import main\n"
        "sys.exit(main(['compare', 'clip.mp4', 'clip-4x.mp4']))"
    )
    assert 2 == ran.code
    missing = "compare needs PyAV, which is not installed: pip install 'topaz_async[cli,sandbox]'"
    assert f"Error: {missing}\n" == ran.err


# -- in a browser ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless browser."""
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("chromium and its driver are not installed")
    webdriver = pytest.importorskip("selenium.webdriver")
    service = pytest.importorskip("selenium.webdriver.chrome.service").Service(DRIVER)
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage"):
        options.add_argument(f"--{argument}")
    options.add_argument("--window-size=1000,900")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=service)
    yield driver
    driver.quit()


@pytest.fixture
def opened(
    browser: Any, pair: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> Callable[..., Any]:
    """A function that makes a page of two files and opens it in the browser."""

    def open_page(*arguments: str | Path) -> Any:
        assert 0 == typed(capsys, "compare", *arguments, "--overwrite").code
        browser.get(Path("compare.html").absolute().as_uri())
        until(lambda: browser.execute_script("return document.documentElement.dataset.shows"))
        assert [] == browser.get_log("browser")  # what the policy forbids would be told here
        return browser

    return open_page


def until(condition: Callable[[], Any]) -> None:
    """Wait until something has become true."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def shows(page: Any) -> str:
    return str(page.execute_script("return document.documentElement.dataset.shows"))


def split(page: Any) -> float:
    """Return where the line is, in percent of the stage."""
    return float(
        page.execute_script(
            "const line = document.getElementById('line').getBoundingClientRect();"
            "const box = document.getElementById('stage').getBoundingClientRect();"
            "return 100 * (line.x + line.width / 2 - box.x) / box.width"
        )
    )


def times(page: Any) -> tuple[float, float]:
    """Return where both videos are, in seconds."""
    return tuple(
        page.execute_script(
            "return ['before', 'after'].map("
            "n => document.getElementById('playing-' + n).currentTime)"
        )
    )


def pixel(page: Any, x: float, y: float = 0.5) -> tuple[int, ...]:
    """Return the colour at a part of the stage's width and height."""
    stage = page.find_element("id", "stage")
    with av.open(io.BytesIO(stage.screenshot_as_png)) as picture:
        frame = next(picture.decode(video=0)).reformat(format="rgb24")
    plane = frame.planes[0]
    at = int(y * frame.height) * plane.line_size + int(x * frame.width) * 3
    return tuple(bytes(plane)[at : at + 3])


def test_the_line_lies_between_two_videos(
    opened: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Left of the line there is the one, right of it the other; keys and pointer move it."""
    from selenium.webdriver import ActionChains, Keys

    red, blue = tmp_path / "red.mp4", tmp_path / "blue.mp4"
    plain(red, 255, 0, 0)
    plain(blue, 0, 0, 255)
    page = opened(red, blue)
    assert ("videos", 50.0) == (shows(page), split(page))
    assert [True, False] == [is_red(pixel(page, x)) for x in (0.3, 0.7)]

    stage = page.find_element("id", "stage")
    width = stage.size["width"]
    ActionChains(page).move_to_element(stage).click_and_hold().move_by_offset(
        width * 0.3, 0
    ).release().perform()
    assert 80 == pytest.approx(split(page), abs=1)
    assert [True, True, False] == [is_red(pixel(page, x)) for x in (0.3, 0.7, 0.9)]

    ActionChains(page).send_keys(Keys.HOME).perform()
    assert 0 == split(page)
    ActionChains(page).send_keys(Keys.RIGHT, Keys.RIGHT).perform()
    assert 2 == pytest.approx(split(page), abs=0.1)
    page.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True})
    box = stage.rect
    touch = {"x": box["x"] + box["width"] * 0.25, "y": box["y"] + 50}
    for kind, points in (("touchStart", [touch]), ("touchEnd", [])):
        page.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    page.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": False})
    assert 25 == pytest.approx(split(page), abs=1)


def plain(path: Path, *colour: int) -> None:
    """Write a clip of one colour."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 36, "yuv420p"
        for _ in range(5):
            frame = av.VideoFrame(64, 36, "rgb24")
            frame.planes[0].update(bytes(colour) * (frame.planes[0].buffer_size // 3))
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def is_red(colour: tuple[int, ...]) -> bool:
    return colour[0] > 150 and colour[2] < 100


def test_both_play_together(opened: Callable[..., Any], pair: tuple[Path, Path]) -> None:
    """Play, pause, step and seek move both; paused they stand at the same moment."""
    from selenium.webdriver import ActionChains

    page = opened(*pair)
    play = page.find_element("id", "play")
    assert ("Play", (0, 0)) == (play.get_attribute("aria-label"), times(page))
    play.click()
    until(lambda: min(times(page)) > 0.3)
    assert "Pause" == play.get_attribute("aria-label")
    before, after = times(page)
    assert abs(before - after) < 0.15
    play.click()
    until(lambda: play.get_attribute("aria-label") == "Play")
    before, after = times(page)
    assert after == pytest.approx(before, abs=0.001)
    ActionChains(page).send_keys(".").perform()
    assert (after + 0.1,) * 2 == pytest.approx(times(page), abs=0.01)
    page.execute_script(
        "const seek = document.getElementById('seek'); seek.value = 500;"
        "seek.dispatchEvent(new Event('input'))"
    )
    assert (0.5, 0.5) == pytest.approx(times(page), abs=0.05)
    assert re.fullmatch(r"0:00\.5 / 0:01\.\d", page.find_element("id", "time").text)


def test_a_video_that_falls_behind_is_set_right(opened: Callable[..., Any], tmp_path: Path) -> None:
    """A small gap is played away, a large one is jumped over."""
    long = tmp_path / "long.mp4"
    long.write_bytes(clip(seconds=6.0, audio=False))
    page = opened(long, long)
    page.find_element("id", "play").click()
    until(lambda: min(times(page)) > 0.2)
    shift = "document.getElementById('playing-before').currentTime += arguments[0]"
    rate = "return document.getElementById('playing-before').playbackRate"
    page.execute_script(shift, 0.15)
    until(lambda: page.execute_script(rate) < 1)
    _, place = times(page)
    page.execute_script(shift, 2)
    until(lambda: abs(times(page)[0] - times(page)[1]) < 0.3)
    assert times(page)[1] >= place  # and not because both have begun again


@pytest.mark.parametrize("audio", [True, False])
def test_what_a_browser_cannot_play_is_shown_by_its_first_picture(
    audio: bool, opened: Callable[..., Any], pair: tuple[Path, Path], tmp_path: Path
) -> None:
    """An unknown codec shows two pictures, a sentence, and no buttons, with sound or without."""
    odd = tmp_path / "odd.mp4"
    odd.write_bytes(clip(codec="mpeg4", audio=audio))
    page = opened(odd, pair[1])
    assert "pictures" == shows(page)
    assert "cannot play both" in page.find_element("id", "note").text
    assert not page.find_element("id", "controls").is_displayed()
    assert [[64, 36], [256, 144]] == page.execute_script(
        "return ['before', 'after'].map(n => document.getElementById('picture-' + n))"
        ".map(i => [i.naturalWidth, i.naturalHeight])"
    )


def test_a_video_that_is_too_large_is_not_put_in(
    opened: Callable[..., Any], pair: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Above the bound there are first pictures only, and page and terminal say so."""
    most = (pair[0].stat().st_size + 1) / 1048576
    page = opened(*pair, "--max-mb", str(most))
    assert "pictures" == shows(page)
    assert page.find_element("id", "note").text.startswith("First pictures only: clip-4x.mp4 had")
    assert "video/mp4" not in Path("compare.html").read_text().split('id="video-after"')[1][:80]


@pytest.mark.parametrize("ending", [".mov", ".mkv"])
def test_other_containers_play(
    ending: str, opened: Callable[..., Any], pair: tuple[Path, Path], tmp_path: Path
) -> None:
    """Every kind of video that the service takes plays, whatever its browser name."""
    other = tmp_path / f"clip{ending}"
    other.write_bytes(clip(ending))
    assert "videos" == shows(opened(other, pair[1]))


def test_facts_and_names_stand_as_text(
    opened: Callable[..., Any], pair: tuple[Path, Path], tmp_path: Path
) -> None:
    """Sizes and seconds of both are told, and a name that looks like HTML is a name."""
    odd = tmp_path / ODD.replace("/", "_")
    odd.write_bytes(pair[0].read_bytes())
    page = opened(odd, pair[1])
    assert f"{odd.name} and clip-4x.mp4" == page.title
    first, second = page.find_elements("css selector", "section")
    size = odd.stat().st_size
    assert [
        "before", odd.name, "pixels", "64 × 36", "size", f"{size / 1000:.1f} kB ({size:,} bytes)",
        "length", "1.00 seconds", "pictures", "10, 10 a second", "sound", "aac", "codec", "h264",
    ] == first.text.splitlines()  # fmt: skip
    assert "256 × 144" in second.text
    assert 2 == len(page.find_elements("css selector", "video"))
    assert 0 == len(page.find_elements("css selector", "img"))


def test_pictures_that_are_turned_stand_upright(opened: Callable[..., Any], tmp_path: Path) -> None:
    """A clip filmed upright has an upright stage and size, and its picture stands as it plays."""
    turned = tmp_path / "upright.mp4"
    turned.write_bytes(clip(rotation=90))
    page = opened(turned, turned)
    ends = [is_red(pixel(page, 0.9, y)) for y in (0.02, 0.98)]
    assert ("videos", [False, True]) == (shows(page), ends)
    page = opened(turned, turned, "--max-mb", "0")
    assert ends == [is_red(pixel(page, 0.9, y)) for y in (0.02, 0.98)]
    assert [36, 64] == page.execute_script(
        "const i = document.getElementById('picture-after');"
        "return [i.naturalWidth, i.naturalHeight]"
    )
    assert "36 × 64" in page.find_element("css selector", "section").text
    # FFmpeg 8 would write the rotation beside the pixels, to be applied once more.
    assert b"eXIf" not in first_picture(turned)


def test_images_are_compared_as_well(opened: Callable[..., Any], tmp_path: Path) -> None:
    """Two images need no player, and no excuse."""
    still = tmp_path / "still.png"
    still.write_bytes(image())
    page = opened(still, still)
    assert ("pictures", "") == (shows(page), page.find_element("id", "note").text)


def test_what_is_no_file_is_not_waited_for(
    pair: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """A pipe without a writer, an empty file and an address are each a sentence."""
    os.mkfifo("pipe.mp4")
    Path("empty.mp4").touch()
    told = [
        typed(capsys, "compare", name, pair[1]).err
        for name in ("pipe.mp4", "empty.mp4", "https://a.example/clip.mp4")
    ]
    assert told == [
        "Error: pipe.mp4 is no file.\n",
        "Error: empty.mp4 is empty.\n",
        "Error: compare takes files only; download the video first.\n",
    ]
