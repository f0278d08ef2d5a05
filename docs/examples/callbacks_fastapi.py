"""A web service on FastAPI that upscales: its results come with the service's callbacks.

POST /upscale {"order": "17", "video_url": "https://..."} answers with the result's link.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI, HTTPException, Request
from pydantic import BaseModel
from starlette.routing import Route

from topaz_async import CallbackHub, TopazClient, TopazError, UpscaleInput

hub = CallbackHub(os.environ["KIE_WEBHOOK_KEY"])


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open one client for the whole application, on its loop."""
    async with TopazClient(
        journal="topaz.sqlite",
        callbacks=hub,
        callback_url=os.environ["CALLBACK_URL"],  # https://app.example/kie/callback
    ) as app.state.topaz:
        yield


app = FastAPI(lifespan=lifespan)
app.router.routes.append(Route("/kie/callback", hub.asgi))


class Wish(BaseModel):
    order: str
    video_url: str


@app.post("/upscale")
async def upscale(wish: Wish, request: Request) -> dict[str, str]:
    topaz: TopazClient = request.app.state.topaz
    try:
        # A link: no stranger may name a file of ours.
        video = UpscaleInput(wish.video_url)
        result = await topaz.upscale(video, reference=f"order-{wish.order}")
    except TopazError as error:
        raise HTTPException(502, {"error": error.message, "billed": error.billed}) from None
    return {"url": result.url}


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(os.environ.get("PORT", "8080")))
