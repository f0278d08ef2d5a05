"""Where the command line takes its settings and the key from."""

from __future__ import annotations

import ast
import json
import os
import re
import sys
from pathlib import Path

import pytest

from tests.test_cli import typed
from topaz_async.cli import sources
from topaz_async.cli.exits import UsageError
from topaz_async.cli.sources import Found
from topaz_async.client import BASE_URL, UPLOAD_URL

ORIGIN = "TOPAZ_ASYNC_BASE_URL"


@pytest.fixture
def env_file(tmp_path: Path) -> Path:
    """A file as people keep it, with other programs' settings in it."""
    path = tmp_path / "mine.env"
    path.write_text(
        "# of the project\n\nexport KIE_API_KEY='key-of-the-file'  # keep it\n"
        "DATABASE_URL=postgres://x\nTOPAZ_ASYNC_BASE_URL=http://127.0.0.1:7\n"
        "TOPAZ_ASYNC_JOURNAL=${HOME}/x\nTOPAZ_ASYNC_UPLOAD_URL=\n"
    )
    return path


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """None of our settings is in the environment."""
    for name in (ORIGIN, "TOPAZ_ASYNC_UPLOAD_URL", "TOPAZ_ASYNC_JOURNAL", "TOPAZ_ASYNC_DEBUG"):
        monkeypatch.delenv(name, raising=False)


def test_an_option_beats_the_environment_beats_the_file_beats_the_default(
    env_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The nearest wins, and each says where it stood."""
    assert Found(BASE_URL, "default") == sources.base_url(None)
    with sources.settings_of(str(env_file)):
        assert Found("http://127.0.0.1:7", "file", str(env_file)) == sources.base_url(None)
        monkeypatch.setenv(ORIGIN, "http://127.0.0.1:8/")
        assert Found("http://127.0.0.1:8", "environment", ORIGIN) == sources.base_url(None)
        given = sources.base_url("http://127.0.0.1:9")
        assert Found("http://127.0.0.1:9", "option", "--base-url") == given
    monkeypatch.delenv(ORIGIN)
    assert Found(BASE_URL, "default") == sources.base_url(None)


def test_only_the_services_own_api_has_an_upload_host() -> None:
    """A key for another address is not sent to kie.ai's upload host."""
    assert Found(UPLOAD_URL, "default") == sources.upload_url(None, BASE_URL)
    assert Found(None, "default") == sources.upload_url(None, "http://127.0.0.1:7")


def test_an_empty_address_is_no_kie(monkeypatch: pytest.MonkeyPatch) -> None:
    """A script whose sandbox did not start does not buy at the real service."""
    monkeypatch.setenv(ORIGIN, "")
    with pytest.raises(UsageError, match="is set and empty"):
        sources.base_url(None)
    assert "http://127.0.0.1:7" == sources.base_url("http://127.0.0.1:7").value


def test_a_file_is_read_for_our_settings_only_and_as_it_stands(env_file: Path) -> None:
    """Comments, quotes and `export` are understood; nothing is filled in; others' are left."""
    with sources.settings_of(str(env_file)):
        assert Found("key-of-the-file", "file", str(env_file)) == sources.api_key(BASE_URL)
        assert "${HOME}/x" == sources.lookup("TOPAZ_ASYNC_JOURNAL").value
        assert Found(None, "default") == sources.lookup("DATABASE_URL")
        assert Found(None, "default") == sources.lookup("TOPAZ_ASYNC_UPLOAD_URL")
    assert Found(None, "default") == sources.api_key(BASE_URL)


def test_no_file_is_read_unasked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A .env in the folder is somebody else's until --env-file names it."""
    (tmp_path / ".env").write_text("KIE_API_KEY=key-of-the-file\n")
    monkeypatch.chdir(tmp_path)
    rows = settings(capsys)
    assert {
        "event": "setting",
        "setting": "key",
        "value": None,
        "source": "default",
        "place": None,
    } == rows["key"]
    rows = settings(capsys, "--env-file", ".env")
    assert ("file", ".env") == (rows["key"]["source"], rows["key"]["place"])
    assert rows == settings(capsys, "--env-file=.env")


def test_a_passed_over_key_is_told_of(
    env_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever asks for a file hears when the environment goes before it: it is about money."""
    monkeypatch.setenv("KIE_API_KEY", "key-of-the-environment")
    ran = typed(capsys, "config", "--env-file", env_file)
    assert f"Note: KIE_API_KEY of the environment is used, not the one in {env_file}.\n" == ran.err
    monkeypatch.setenv("KIE_API_KEY", "key-of-the-file")
    assert "" == typed(capsys, "config", "--env-file", env_file).err


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"A=1\n\n\nKIE_API_KEY\n", "has no NAME=value in line 4."),
        (b"KIE_API_KEY='half\n", "has no NAME=value in line 1."),
        (b"\xff\xfe\x00", "is no text file."),
        (b"x" * (1 << 20) + b"y", "is too large for a file of settings."),
        (None, "cannot be read: No such file or directory."),
    ],
)
def test_a_file_that_cannot_be_read_ends_the_command(
    content: bytes | None, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is guessed: a sentence with the line, exit code 2, and the key in no output."""
    path = tmp_path / "odd.env"
    if content is not None:
        path.write_bytes(content)
    ran = typed(capsys, "config", "--env-file", path)
    assert (2, "", f"Error: {path} {said}\n") == (ran.code, ran.out, ran.err)


def test_env_file_needs_a_name_and_python_dotenv(
    env_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both are sentences with exit code 2."""
    ran = typed(capsys, "config", "--env-file")
    assert (2, "Error: --env-file needs the name of a file.\n") == (ran.code, ran.err)
    monkeypatch.setitem(sys.modules, "dotenv.parser", None)
    ran = typed(capsys, "config", "--env-file", env_file)
    assert 2 == ran.code
    assert ran.err.endswith("which is not installed: pip install 'topaz_async[cli]'\n")


def test_a_file_that_cannot_be_read_is_told_to_programs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With --json the error is an object as well, as every other one is."""
    ran = typed(capsys, "config", "--json", "--env-file", "no.env")
    (line,) = ran.lines
    event = json.loads(line)
    said = "no.env cannot be read: No such file or directory."
    assert (2, "error", said) == (ran.code, event["event"], event["message"])


def test_behind_two_dashes_there_are_names_only(capsys: pytest.CaptureFixture[str]) -> None:
    """--env-file behind -- is the name of a clip."""
    ran = typed(capsys, "upscale", "--sandbox", "--", "--env-file")
    assert "Error: --env-file does not exist. Nothing was billed.\n" == ran.err


# -- config ----------------------------------------------------------------------------------


def settings(
    capsys: pytest.CaptureFixture[str], *arguments: str | Path
) -> dict[str, dict[str, str | None]]:
    """Return what `config --json` prints, by setting."""
    ran = typed(capsys, "config", "--json", *arguments)
    assert (0, "") == (ran.code, ran.err)
    rows = [json.loads(line) for line in ran.lines]
    return {row["setting"]: row for row in rows}


def test_config_tells_where_each_setting_comes_from(
    env_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line a setting: its value, and the option, variable or file it stood in."""
    monkeypatch.setenv("HTTPS_PROXY", "http://me:password@proxy.example:3128")
    monkeypatch.setenv("KIE_API_KEY", "0123456789abcdefghij")
    ran = typed(capsys, "config", "--upload-url", "https://up.example", "--base-url", BASE_URL)
    assert (0, "") == (ran.code, ran.err)
    assert [
        ["setting", "value", "from"],
        ["key", "…ghij", "KIE_API_KEY"],
        ["API", BASE_URL, "--base-url"],
        ["uploads", "https://up.example", "--upload-url"],
        ["proxy", "http://proxy.example:3128", "HTTPS_PROXY"],
        ["debug", "none", "default"],
    ] == [line.split() for line in ran.lines if not line.startswith("journal")]
    assert "password" not in ran.out


def test_config_speaks_json(env_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--json is one object a line; nothing is null and the key is not in it."""
    rows = settings(capsys, "--env-file", env_file)
    assert ["key", "API", "uploads", "journal", "proxy", "debug"] == list(rows)
    place = str(env_file)
    assert [
        ["setting", "key", "(hidden)", "file", place],
        ["setting", "API", "http://127.0.0.1:7", "file", place],
        ["setting", "proxy", None, "default", None],
    ] == [list(rows[name].values()) for name in ("key", "API", "proxy")]
    assert ["event", "setting", "value", "source", "place"] == list(rows["key"])


def test_config_tells_where_the_journal_is(capsys: pytest.CaptureFixture[str]) -> None:
    """By default in the data folder; an option names another file, or none."""
    default = Path(os.environ["XDG_DATA_HOME"]) / "topaz-async" / "journal.sqlite"
    found = [
        list(settings(capsys, *options)["journal"].values())[2:]
        for options in ([], ["--journal", "j.sqlite"], ["--no-journal"])
    ]
    assert [
        [str(default), "default", None],
        ["j.sqlite", "option", "--journal"],
        [None, "option", "--no-journal"],
    ] == found


def test_config_shows_a_proxy_that_cannot_be_used(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is told in words, not as an error: config is where one looks for the mistake."""
    monkeypatch.setenv("ALL_PROXY", "socks5://localhost:1080")
    row = settings(capsys)["proxy"]
    assert "ALL_PROXY" == row["place"]
    assert "socks5" in str(row["value"])


def test_an_address_that_may_not_see_a_key_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """Plain http to another machine ends each command before the key is looked for."""
    ran = typed(capsys, "config", "--base-url", "http://example.com")
    assert (2, "") == (ran.code, ran.out)
    assert ran.err.startswith("Error: --base-url is plain http to example.com.")


def test_our_settings_are_looked_up_in_one_place() -> None:
    """No other module of the command line reads the environment for a setting of ours."""
    readers = set()
    for path in Path(sources.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.Call, ast.Subscript)) and path.stem != "sources":
                words = ast.unparse(node)
                if re.match(r"os\.(environ|getenv)\b.*(KIE_|TOPAZ_|KEY\b)", words):
                    readers.add((path.stem, words))
    assert set() == readers


def test_found_does_not_show_the_key() -> None:
    """Printing where the key was found prints no key."""
    assert "secret" not in repr(Found("secret-key", "environment", "KIE_API_KEY"))


def test_without_the_extra_the_keyring_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever keeps no key in a keyring needs none, installed or not."""
    monkeypatch.setitem(sys.modules, "keyring", None)
    assert Found(None, "default") == sources.api_key(BASE_URL)
    with pytest.raises(UsageError, match=r"pip install 'topaz_async\[cli,keyring\]'"):
        sources.keyrings.name()
