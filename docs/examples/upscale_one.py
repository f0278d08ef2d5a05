"""Upscale one clip and show how far it is: `python upscale_one.py CLIP [FACTOR]`."""

import asyncio
import sys
from pathlib import Path

from topaz_async import Progress, TaskRecord, TopazClient, TopazError


def show_bytes(progress: Progress) -> None:
    total = progress.total or "so many"
    print(f"{progress.bytes} of {total} bytes, {progress.rate / 1e6:.1f} MB/s")


def show_state(record: TaskRecord) -> None:
    print(f"task {record.task_id}: {record.state}")


async def main(clip: Path, factor: str = "2") -> None:
    output = clip.with_name(f"{clip.stem}-{factor}x.mp4")
    async with TopazClient(journal="topaz.sqlite") as topaz:  # the key comes from KIE_API_KEY
        result = await topaz.upscale(
            clip,
            factor=factor,
            output=output,
            reference=output.name,  # run it again after a crash: nothing is paid twice
            on_update=show_state,
            on_progress=show_bytes,
        )
    print(f"{result.path}, {result.credits_consumed} credits")


if __name__ == "__main__":
    try:
        asyncio.run(main(Path(sys.argv[1]), *sys.argv[2:]))
    except TopazError as error:
        sys.exit(str(error))
