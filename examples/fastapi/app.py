"""Parley behind an HTTP API: server-sent events, as a page reads them with `EventSource`.

    pip install fastapi uvicorn nats-py && uvicorn app:app

`GET /ask?text=…` answers with the words (`event: text`) and the voice (`event: voice`, Base64 of
24 kHz, 16 bit, mono), then `done` and `stored`. A second `started` means: forget what came of that
side. Whoever closes the page stops the turn.
"""

import asyncio
import base64
import json
import os
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import nats
from fastapi import FastAPI, HTTPException
from fastapi.responses import StreamingResponse
from nats.aio.client import Client
from nats.aio.msg import Msg

SILENCE = 60.0  # seconds


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.nats = await nats.connect(
        os.environ.get("NATS_URL", "nats://127.0.0.1:4222"),
        user=os.environ.get("NATS_USER"),
        password=os.environ.get("NATS_PASSWORD"),
    )
    yield
    await app.state.nats.drain()


app = FastAPI(lifespan=lifespan)


@app.get("/ask")
async def ask(text: str, conversation: str = "") -> StreamingResponse:
    nc: Client = app.state.nats
    conversation, turn = conversation or uuid.uuid4().hex, uuid.uuid4().hex
    events: asyncio.Queue[Msg] = asyncio.Queue()
    subjects = (f"chat.delta.{conversation}", f"tts.audio.{conversation}")
    subscriptions = [await nc.subscribe(subject, cb=events.put) for subject in subjects]
    await nc.flush()
    request = json.dumps({"content": text, "turn_id": turn}).encode()
    answer = json.loads((await nc.request(f"chat.ask.{conversation}", request, timeout=10)).data)
    if "error" in answer:
        raise HTTPException(400, answer["error"])

    async def stream() -> AsyncIterator[str]:
        ended = False
        try:
            async for event, data in told(events, turn):
                yield f"event: {event}\ndata: {json.dumps(data)}\n\n"
            ended = True
        finally:
            for subscription in subscriptions:
                await subscription.unsubscribe()
            if not ended:
                stop = json.dumps({"turn_id": turn}).encode()
                await nc.publish(f"chat.cancel.{conversation}", stop)

    return StreamingResponse(stream(), media_type="text/event-stream")


class Side:
    """Text or voice: a higher attempt begins anew, a lower one is a leftover of a worker that was
    replaced, a `seq` that was seen is a repetition."""

    def __init__(self) -> None:
        self.attempt, self.seq = 0, -1

    def is_new(self, attempt: int, seq: int | None) -> bool:
        if attempt > self.attempt:
            self.attempt, self.seq = attempt, -1
        if attempt < self.attempt or (seq is not None and seq <= self.seq):
            return False
        self.seq = self.seq if seq is None else seq
        return True


async def told(events: asyncio.Queue[Msg], turn: str) -> AsyncIterator[tuple[str, object]]:
    """What a page shows and plays, in order; with `started` that of its side begins (again)."""
    sides = {"chat": Side(), "tts": Side()}
    while sides:
        msg = await asyncio.wait_for(events.get(), SILENCE)
        headers = msg.headers or {}
        name = msg.subject.partition(".")[0]
        if headers.get("Parley-Turn") != turn or name not in sides:
            continue
        if headers.get("Parley-Type") == "chunk":
            if sides[name].is_new(int(headers["Parley-Attempt"]), int(headers["Parley-Seq"])):
                yield "voice", base64.b64encode(msg.data).decode()
            continue
        event = json.loads(msg.data)
        kind = event.get("type") or headers["Parley-Type"]
        if not sides[name].is_new(event["attempt"], event.get("seq")):
            continue
        if kind == "text":
            yield "text", event["text"]
        elif kind in {"started", "done", "stored", "failed"}:
            yield kind, {"of": name, **event}
        if kind in {"done", "stored", "failed"}:
            del sides[name]
