"""A worker of another team: reads what is said as it is said, and stops what must not be said.

    python watch.py WORD [WORD …]

It needs nothing of a conversation but its deltas. A word may come in two parts, so all of a
conversation goes to the same one: with `PARTS=3`, three of them (`PART=0`, `1`, `2`) share it all.
"""

import asyncio
import json
import os
import sys
import zlib

import nats
from nats.aio.msg import Msg

PARTS, PART = int(os.environ.get("PARTS", "1")), int(os.environ.get("PART", "0"))


async def main(words: list[str]) -> None:
    nc = await nats.connect(
        os.environ.get("NATS_URL", "nats://127.0.0.1:4222"),
        user=os.environ.get("NATS_USER"),
        password=os.environ.get("NATS_PASSWORD"),
    )
    longest = max(map(len, words))
    tails: dict[str, str] = {}  # by turn: the end of what was said, in which a word may begin

    async def read(msg: Msg) -> None:
        event = json.loads(msg.data)
        conversation, turn = event["conversation_id"], event["turn_id"]
        if zlib.crc32(conversation.encode()) % PARTS != PART:
            return
        if event["type"] in {"started", "done", "failed"}:
            tails.pop(turn, None)
        elif event["type"] == "text":
            said = (tails.get(turn, "") + event["text"]).lower()
            tails[turn] = said[-longest:]
            if found := next((word for word in words if word.lower() in said), None):
                stop = json.dumps({"turn_id": turn}).encode()
                await nc.publish(f"chat.cancel.{conversation}", stop)
                print(f"{conversation} {turn}: stopped at {found!r}", flush=True)

    await nc.subscribe("chat.delta.*", cb=read)
    await nc.flush()
    print("watching", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
