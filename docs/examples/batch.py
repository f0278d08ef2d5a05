"""Upscale every clip of a folder: `python batch.py CLIPS OUTPUT [FACTOR]`.

Stop it at any time and run it again: it goes on where it was, and pays for nothing twice.
"""

import asyncio
import sys
from pathlib import Path

from topaz_async import TopazClient

KINDS = {".mp4", ".mov", ".mkv"}


async def main(clips: Path, output: Path, factor: str = "2") -> int:
    videos = sorted(path for path in clips.iterdir() if path.suffix.lower() in KINDS)
    async with (
        TopazClient(journal=output / "topaz.sqlite") as topaz,
        topaz.upscale_many(videos, factor=factor, output_dir=output) as batch,
    ):
        async for outcome in batch:  # in order of completion
            print(f"{outcome.video}: {outcome.status}", flush=True)
    print(batch.report)
    batch.report.save(output / "report.json")
    return 0 if set(batch.report.counts) <= {"ok"} else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])))
