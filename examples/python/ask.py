"""Ask Parley with nats-py alone: the words as they come, the voice into a WAV file.

    python ask.py "Why is the sky blue?" [FILE.wav]

The request is stored under its turn id before anything is expected of it. `done` has the whole
text and `piece_done` the number of samples, so what a lost connection swallowed is known, and read
back by `chat.replay`.
"""

import asyncio
import json
import os
import sys
import uuid
import wave

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg

SILENCE = 60.0  # seconds after which nobody is there any more


async def main(question: str, file: str) -> None:
    nc = await nats.connect(
        os.environ.get("NATS_URL", "nats://127.0.0.1:4222"),
        user=os.environ.get("NATS_USER"),
        password=os.environ.get("NATS_PASSWORD"),
    )
    conversation, turn = uuid.uuid4().hex, uuid.uuid4().hex
    events: asyncio.Queue[Msg] = asyncio.Queue()
    for subject in (f"chat.delta.{conversation}", f"tts.audio.{conversation}"):
        await nc.subscribe(subject, cb=events.put)
    await nc.flush()
    await nc.flush()  # twice: one does not prove that the server knows the subscriptions

    # Answered when the stream has it. Asked again with the same turn id, it is answered once.
    request = json.dumps({"content": question, "turn_id": turn}).encode()
    answer = json.loads((await nc.request(f"chat.ask.{conversation}", request, timeout=10)).data)
    if "error" in answer:
        raise SystemExit(answer["error"]["message"])

    words, voice = Words(), Voice()
    while not (words.ended and voice.ended):
        msg = await asyncio.wait_for(events.get(), SILENCE)
        (voice if msg.subject.startswith("tts.audio") else words).take(msg)
    if not voice.whole:
        for msg in await replay(nc, conversation, {"what": "audio", "turn_id": turn}):
            voice.take(msg)
    await nc.close()

    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(24_000)
        out.writeframes(voice.pcm)
    print(f"{file}: {len(voice.pcm) / 48_000:.1f} s")


class Words:
    """What is written: a higher `attempt` begins anew, a `seq` that was seen came twice."""

    def __init__(self) -> None:
        self.place, self.said, self.ended = (0, -1), "", False

    def take(self, msg: Msg) -> None:
        event = json.loads(msg.data)
        place = event["attempt"], event["seq"]
        if self.ended or place <= self.place:
            return
        if place[0] > self.place[0] and self.said:
            print("\n(begun again)")
            self.said = ""
        self.place = place
        if event["type"] == "text":
            self.said += event["text"]
            print(event["text"], end="", flush=True)
        elif event["type"] == "done":
            print() if self.said == event["text"] else print("\n(all of it)\n" + event["text"])
        elif event["type"] == "failed":
            raise SystemExit(f"\n{event['error']['code']}: {event['error']['message']}")
        self.ended = event["type"] == "done"


class Voice:
    """What is spoken: 24 kHz, 16 bit, mono, in chunks; a piece is of the attempt that ends it."""

    def __init__(self) -> None:
        self.chunks: dict[tuple[int, int], tuple[int, bytes]] = {}  # attempt, seq: piece, samples
        self.pieces: dict[int, tuple[int, int]] = {}  # attempt, number of samples
        self.ended = False

    def take(self, msg: Msg) -> None:
        headers = msg.headers or {}
        kind = headers["Parley-Type"]
        if kind == "chunk":
            place = int(headers["Parley-Attempt"]), int(headers["Parley-Seq"])
            self.chunks[place] = int(headers["Parley-Piece"]), msg.data
            return
        event = json.loads(msg.data)
        if kind == "piece_done":
            self.pieces.setdefault(event["index"], (event["attempt"], event["samples"]))
        elif kind == "failed":
            raise SystemExit(f"no voice: {event['error']['message']}")
        elif kind == "stored":
            self.ended, self.count = True, event["pieces"]

    def of(self, piece: int) -> bytes:
        attempt, _ = self.pieces.get(piece, (0, 0))
        places = sorted(place for place in self.chunks if place[0] == attempt)
        return b"".join(self.chunks[p][1] for p in places if self.chunks[p][0] == piece)

    @property
    def whole(self) -> bool:
        return len(self.pieces) == self.count and all(
            len(self.of(piece)) == 2 * samples for piece, (_, samples) in self.pieces.items()
        )

    @property
    def pcm(self) -> bytes:
        return b"".join(self.of(piece) for piece in sorted(self.pieces))


async def replay(nc: Client, conversation: str, request: dict[str, object]) -> list[Msg]:
    """What a stream holds, page by page: an empty message ends each, and says where to go on."""
    inbox = nc.new_inbox()
    found, page = [], await nc.subscribe(inbox)
    start = 1
    while start:
        body = json.dumps({**request, "from": start}).encode()
        await nc.publish(f"chat.replay.{conversation}", body, reply=inbox)
        while (msg := await page.next_msg(timeout=10)).headers and msg.data:
            found.append(msg)
        start = int((msg.headers or {})["Parley-Next"])
    return found


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "answer.wav"))
