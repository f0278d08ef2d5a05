"""A web service on aiohttp that upscales: its results come with the service's callbacks.

POST /upscale {"order": "17", "video_url": "https://..."} answers with the result's link.
"""

import os
from collections.abc import AsyncIterator

from aiohttp import web

from topaz_async import CallbackHub, TopazClient, TopazError, UpscaleInput

TOPAZ = web.AppKey("topaz", TopazClient)

hub = CallbackHub(os.environ["KIE_WEBHOOK_KEY"])


async def client(app: web.Application) -> AsyncIterator[None]:
    """Open one client for the whole application, on its loop."""
    async with TopazClient(
        journal="topaz.sqlite",
        callbacks=hub,
        callback_url=os.environ["CALLBACK_URL"],  # https://app.example/kie/callback
    ) as app[TOPAZ]:
        yield


async def upscale(request: web.Request) -> web.Response:
    wish = await request.json()
    try:
        result = await request.app[TOPAZ].upscale(
            UpscaleInput(wish["video_url"]),  # a link: no stranger may name a file of ours
            reference=f"order-{wish['order']}",
        )
    except TopazError as error:
        return web.json_response({"error": error.message, "billed": error.billed}, status=502)
    return web.json_response({"url": result.url})


def main() -> None:
    app = web.Application()
    app.cleanup_ctx.append(client)
    app.add_routes([web.post("/upscale", upscale), *hub.routes("/kie/callback")])
    web.run_app(app, host="127.0.0.1", port=int(os.environ.get("PORT", "8080")))


if __name__ == "__main__":
    main()
