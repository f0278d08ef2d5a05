"""A bot without a chat: type the path or URL of a clip and watch its message change.

A real bot puts its library's message in the place of `Message`; all else stays as it is.
An empty line ends it once all is done. Killed before, it goes on at the next start.
"""

import asyncio
import sys
import time

from topaz_async import Job, TopazClient, TopazError


class Message:
    """What a chat calls a message: it has an id that stays, and its text can be changed."""

    def __init__(self, message_id: str) -> None:
        self.id = message_id

    async def edit(self, text: str) -> None:
        print(f"[{self.id}] {text}", flush=True)


async def on_clip(topaz: TopazClient, message: Message, clip: str) -> None:
    try:
        job = await topaz.submit(clip, reference=message.id)
    except TopazError as error:
        await message.edit(f"Sorry. {error}")
    else:
        await follow(job, message)


async def follow(job: Job, message: Message) -> None:
    try:
        async for update in job.updates(min_interval=2.0):  # a chat limits edits
            await message.edit(f"{update.state} …")
        result = await job
        await message.edit(f"done: {result.url}")
    except TopazError as error:
        await message.edit(f"Sorry. {error}")


async def main() -> None:
    tasks: set[asyncio.Task[None]] = set()
    async with TopazClient(journal="bot.sqlite") as topaz:
        async for job in topaz.recover():  # whatever the last run left
            tasks.add(asyncio.create_task(follow(job, Message(job.reference or job.task_id))))
        while clip := (await asyncio.to_thread(sys.stdin.readline)).strip():
            message = Message(f"m{time.time_ns()}")
            tasks.add(asyncio.create_task(on_clip(topaz, message, clip)))
        if tasks:
            await asyncio.wait(tasks)


if __name__ == "__main__":
    asyncio.run(main())
