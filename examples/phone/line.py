"""The voice for a phone line: 8 kHz µ-law (G.711), 20 ms a frame, as it is made.

    python line.py CONVERSATION > line.ulaw

Frames of 160 bytes go to standard output in real time, silence where nobody speaks, as an RTP
sender or a media gateway takes them. `sox -t ul -r 8000 line.ulaw line.wav` makes them a file.
"""

import asyncio
import json
import math
import os
import sys
from array import array

import nats
from nats.aio.msg import Msg

FRAME = 160  # bytes: 20 ms
RATE, CUT = 24_000, 3_100  # Hz
LENGTH = 31


def low_pass() -> list[float]:
    """What is above the line's band would be heard as something else once two samples of three are
    left out: a windowed sinc (Hamming), 25 dB down at 4 kHz and 50 from 4.6 on."""
    taps = []
    for n in range(LENGTH):
        x = n - LENGTH // 2
        sinc = 2 * CUT / RATE if x == 0 else math.sin(2 * math.pi * CUT * x / RATE) / (math.pi * x)
        taps.append(sinc * (0.54 - 0.46 * math.cos(2 * math.pi * n / (LENGTH - 1))))
    return [tap / sum(taps) for tap in taps]


TAPS = low_pass()


def ulaw(sample: int) -> int:
    """One sample of 16 bits as one of G.711's eight."""
    sign = 0x80 if sample < 0 else 0
    size = min(abs(sample), 32_635) + 132
    exponent = size.bit_length() - 8
    return ~(sign | exponent << 4 | (size >> (exponent + 3)) & 0x0F) & 0xFF


class Line:
    """24 kHz, 16 bit in; frames of µ-law out."""

    def __init__(self) -> None:
        self._samples = [0] * (len(TAPS) - 1)
        self._out = bytearray()

    def feed(self, pcm: bytes) -> None:
        samples = array("h", pcm)
        if sys.byteorder == "big":
            samples.byteswap()
        self._samples += samples
        end = len(self._samples) - len(TAPS) + 1
        for at in range(0, end - end % 3, 3):
            low = sum(tap * self._samples[at + n] for n, tap in enumerate(TAPS))
            self._out.append(ulaw(max(-32_768, min(32_767, round(low)))))
        del self._samples[: end - end % 3]

    def frame(self) -> bytes:
        """The next 20 ms; silence where there is nothing to say."""
        frame = bytes(self._out[:FRAME])
        del self._out[:FRAME]
        return frame.ljust(FRAME, b"\xff")

    def drop(self) -> None:
        """Somebody began to talk: what was to be said is not."""
        self._out.clear()


async def main(conversation: str) -> None:
    nc = await nats.connect(
        os.environ.get("NATS_URL", "nats://127.0.0.1:4222"),
        user=os.environ.get("NATS_USER"),
        password=os.environ.get("NATS_PASSWORD"),
    )
    line = Line()

    async def hear(msg: Msg) -> None:
        kind = (msg.headers or {})["Parley-Type"]
        if kind == "chunk":
            line.feed(msg.data)
        elif kind == "stored" and json.loads(msg.data)["finish"] == "cancelled":
            line.drop()

    await nc.subscribe(f"tts.audio.{conversation}", cb=hear)
    await nc.flush()
    clock = asyncio.get_running_loop()
    due = clock.time()
    while True:
        sys.stdout.buffer.write(line.frame())
        sys.stdout.buffer.flush()
        due += 0.02
        await asyncio.sleep(max(0.0, due - clock.time()))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
