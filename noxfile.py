"""What can be done with this checkout: `nox -l` lists it.

Versions and dependency groups are read from pyproject.toml.
"""

from __future__ import annotations

import nox

nox.needs_version = ">=2024.4.15"
nox.options.sessions = ["lint", "typing", "tests"]
nox.options.error_on_missing_interpreters = False
nox.options.reuse_existing_virtualenvs = True

PYPROJECT = nox.project.load_toml("pyproject.toml")
PYTHONS = nox.project.python_versions(PYPROJECT)


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the tests on each Python that is installed, with branch coverage shown."""
    session.install("-e", ".[test]")
    session.run("coverage", "run", "-m", "pytest", *session.posargs)
    session.run("coverage", "report")


@nox.session
def backoff_fork(session: nox.Session) -> None:
    """Run the tests with python-backoff, the maintained fork of the same import name."""
    session.install("-e", ".[test]")
    session.run("pip", "uninstall", "-q", "-y", "backoff")
    session.install("--no-deps", "python-backoff")
    session.run("pytest", "-n", "4", *session.posargs)


@nox.session
def oldest(session: nox.Session) -> None:
    """Run the tests with the oldest versions of the core dependencies that are allowed."""
    session.install("-e", ".[test]")
    session.install(*(d.replace(">=", "==") for d in PYPROJECT["project"]["dependencies"]))
    session.run("pytest", "-n", "4", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and format."""
    session.install(*PYPROJECT["project"]["optional-dependencies"]["lint"])
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def typing(session: nox.Session) -> None:
    """Check types with mypy --strict and with pyright."""
    session.install("-e", ".[typing]")
    session.run("mypy")
    session.run("pyright")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation; a warning is an error."""
    session.install("-e", ".[cli,sandbox,docs]")
    session.run("sphinx-build", "-W", "--keep-going", "-b", "html", "docs", "docs/_build/html")


@nox.session
def screens(session: nox.Session) -> None:
    """Take the screens of the documentation again."""
    session.install("-e", ".[test]")
    session.run("python", "-m", "tests.captures")


@nox.session
def demo(session: nox.Session) -> None:
    """Upscale a short clip on the embedded sandbox and say where it is."""
    session.install("-e", ".[cli,sandbox]")
    session.run("topaz-async", "demo", *session.posargs)


@nox.session
def faults(session: nox.Session) -> None:
    """Inject hundreds of faults, kills and crashes; nothing may be paid twice or lost."""
    session.install("-e", ".")
    session.run("python", "-m", "tests.faults", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure what everything costs beside hand-written code (25 minutes)."""
    session.install("-e", ".[cli,sandbox]")
    for name in (
        "startup", "journal", "client", "waiting", "schedule", "sandbox", "callbacks", "uploads",
        "downloads",
    ):  # fmt: skip
        session.run("python", f"tests/benchmarks/bench_{name}.py")
