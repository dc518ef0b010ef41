"""Pipecat in the place of bench/direct.py, by the same lines of JSON.

    python bench/pipecat_program.py BASE_URL TTS_URL

It runs in an environment of its own, which has `pipecat-ai[together]` and nothing of ours. A
conversation is a pipeline of its services for the provider, with its connections open before the
question comes. Nothing tells it when a voice is whole: a turn is over when the text is, and no
audio has come for a while.
"""

# mypy: ignore-errors
from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
import time

from loguru import logger
from pipecat.frames.frames import (
    Frame,
    LLMContextFrame,
    LLMFullResponseEndFrame,
    TTSAudioRawFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.services.together.llm import TogetherLLMService
from pipecat.services.together.tts import TogetherTTSService
from pipecat.workers.runner import WorkerRunner

QUESTION = "Tell me about the sea."
QUIET_SECONDS = 0.7
LOOK_SECONDS = 0.02
TURN_SECONDS = 60.0


class Listener(FrameProcessor):
    """The end of the pipeline: what a transport would play."""

    def __init__(self) -> None:
        super().__init__()
        self.forget()

    def forget(self) -> None:
        self.first = self.last = 0.0
        self.bytes = 0
        self.said = False

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, TTSAudioRawFrame):
            self.last = time.monotonic()
            self.first = self.first or self.last
            self.bytes += len(frame.audio)
        elif isinstance(frame, LLMFullResponseEndFrame):
            self.said = True
        await self.push_frame(frame, direction)


class Conversation:
    def __init__(self, base_url: str, tts_url: str) -> None:
        settings = TogetherLLMService.Settings(model="openai/gpt-oss-120b")
        llm = TogetherLLMService(api_key="bench", base_url=base_url, settings=settings)
        self.listener = Listener()
        tts = TogetherTTSService(api_key="bench", url=tts_url)
        self.worker = PipelineWorker(
            Pipeline([llm, tts, self.listener]),
            params=PipelineParams(audio_out_sample_rate=24_000),
            enable_rtvi=False,
            enable_turn_tracking=False,
            idle_timeout_secs=None,
        )

    async def turn(self) -> dict[str, float]:
        self.listener.forget()
        began = time.monotonic()
        context = LLMContext([{"role": "user", "content": QUESTION}])
        await self.worker.queue_frame(LLMContextFrame(context))
        while not self._over():
            await asyncio.sleep(LOOK_SECONDS)
            if time.monotonic() > began + TURN_SECONDS:
                sys.exit("Pipecat: a turn without an end")
        return {
            "first_audio": self.listener.first - began,
            "whole": self.listener.last - began,
            "bytes": self.listener.bytes,
        }

    def _over(self) -> bool:
        heard = self.listener
        return heard.said and heard.first > 0 and time.monotonic() > heard.last + QUIET_SECONDS


class Program:
    def __init__(self, base_url: str, tts_url: str) -> None:
        self._urls = (base_url, tts_url)
        self._conversations: list[Conversation] = []

    async def run(self) -> None:
        self._runner = WorkerRunner(handle_sigint=False)
        running = asyncio.create_task(self._runner.run(auto_end=False))
        while line := await asyncio.to_thread(sys.stdin.readline):
            print(json.dumps(await self._batch(json.loads(line))), flush=True)
        running.cancel()
        os._exit(0)  # there is nothing to say goodbye to

    async def _batch(self, order: dict[str, int]) -> dict[str, object]:
        await self._open(order["at_once"])
        before, turns = _cpu(), []
        for _ in range(order["turns"] // order["at_once"]):
            speaking = self._conversations[: order["at_once"]]
            turns += await asyncio.gather(*(each.turn() for each in speaking))
        used = resource.getrusage(resource.RUSAGE_SELF)
        return {"turns": turns, "cpu": _cpu() - before, "memory_mb": used.ru_maxrss / 1024}

    async def _open(self, count: int) -> None:
        new = [Conversation(*self._urls) for _ in range(len(self._conversations), count)]
        self._conversations += new
        for conversation in new:
            await self._runner.add_workers(conversation.worker)
        await asyncio.gather(*(each.turn() for each in new))  # connections are made, and imports


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    logger.remove()
    asyncio.run(Program(*sys.argv[1:3]).run())
