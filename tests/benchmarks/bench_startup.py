"""What it costs to start: the command line beside its library, the package beside aiohttp.

Run it as a script: `python tests/benchmarks/bench_startup.py [--runs 21]`. Each run is a fresh
process; the contestants take turns, so that whatever else the machine does strikes all alike.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

#: What is measured, against what, and the most that it may cost where that is promised.
LINES = (
    ("topaz-async --version", "import cyclopts", 1.2),
    ("topaz-async --help", "import cyclopts", None),
    ("from topaz_async import TopazClient", "import aiohttp", None),
    ("from topaz_async import TopazClient; TopazClient('k')", "import aiohttp", None),
)


def command(words: str) -> list[str]:
    """Return the command line of a contestant: a program, or a snippet of Python."""
    if not words.startswith("topaz-async"):
        return [sys.executable, "-c", words]
    script = Path(sys.executable).with_name("topaz-async")
    start = [str(script)] if script.exists() else [sys.executable, "-m", "topaz_async"]
    return [*start, *words.split()[1:]]


def seconds(words: str) -> float:
    """Run a contestant once, and return how long it took."""
    begun = time.perf_counter()
    subprocess.run(command(words), check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


def main(runs: int) -> None:
    """Print the table."""
    contestants = list(dict.fromkeys(words for line in LINES for words in line[:2]))
    for words in contestants:
        seconds(words)  # compiles what is not compiled yet
    taken: dict[str, list[float]] = {words: [] for words in contestants}
    for _ in range(runs):
        for words in contestants:
            taken[words].append(seconds(words))
    median = {words: statistics.median(found) for words, found in taken.items()}
    print(f"{'':54} {'ms':>5}  {'ratio':>5}  to")
    for words, beside, most in LINES:
        ratio = median[words] / median[beside]
        aim = "" if most is None else f" (at most {most})"
        print(f"{words:54} {median[words] * 1000:5.0f}  {ratio:5.2f}  {beside}{aim}")
    for words in dict.fromkeys(line[1] for line in LINES):
        print(f"{words:54} {median[words] * 1000:5.0f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=21, help="of each contestant")
    main(parser.parse_args().runs)
