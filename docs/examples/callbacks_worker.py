"""A worker without a web server: its callbacks are received by `topaz-async listen`.

topaz-async listen --path /kie/callback --journal topaz.sqlite
python callbacks_worker.py https://files.example/one.mp4 https://files.example/two.mp4
"""

import asyncio
import os
import sys

from topaz_async import TopazClient, TopazError


async def upscale(topaz: TopazClient, video_url: str) -> None:
    try:
        result = await topaz.upscale(video_url, reference=video_url)
    except TopazError as error:
        print(f"{video_url}: {error}")
    else:
        print(f"{video_url}: {result.url}")


async def main() -> None:
    async with TopazClient(
        journal="topaz.sqlite",  # the same as the listener's
        callback_url=os.environ["CALLBACK_URL"],  # https://app.example/kie/callback
    ) as topaz:
        await asyncio.gather(*(upscale(topaz, url) for url in sys.argv[1:]))


if __name__ == "__main__":
    asyncio.run(main())
