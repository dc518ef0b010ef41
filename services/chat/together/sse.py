"""Noun: the provider's streamed chat completion, bytes in, parts of an answer out; no socket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from services.chat.ports import Finished, Said, Thought
from shared.contract import FinishReason, Usage
from shared.errors import ProviderBroken, ProviderError, from_status

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_LINE: int = 4 * 1024 * 1024  # a line that never ends is not a stream


class _Delta(Struct):
    content: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None


class _Choice(Struct):
    delta: _Delta | None = None
    finish_reason: str | None = None


class _Usage(Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Chunk(Struct):
    """Only what is used: the rest (seeds beyond 2^53, token ids) is not even decoded."""

    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: Any = None


_decode = msgspec.json.Decoder(_Chunk).decode

_REASONS = {
    "stop": FinishReason.STOP,
    "eos": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "tool_calls": FinishReason.STOP,
    "function_call": FinishReason.STOP,
}


class ChatStream:
    """Fed the body as it comes; `finish` tells how it ended."""

    def __init__(self) -> None:
        self._rest = b""
        self._reason: FinishReason | None = None
        self._usage: _Usage | None = None
        self._said = False
        self.over = False  # [DONE] came: what follows is of no interest
        self.ignored = 0  # lines that are no events of ours

    def feed(self, data: bytes) -> Iterator[Said | Thought]:
        """Raises ProviderError for an error inside the stream, or a chunk that is broken."""
        if b"\n" not in data:
            self._rest += data
        else:
            *lines, self._rest = (self._rest + data).split(b"\n")
            for line in lines:
                yield from self._line(line)
        if len(self._rest) > MAX_LINE:
            raise ProviderBroken("a line of the stream is too long")

    def _line(self, line: bytes) -> Iterator[Said | Thought]:
        if self.over:
            return
        if not line.startswith(b"data:"):
            if line.startswith(b"{"):  # an error as the whole body, without any framing
                yield from self._chunk(line)
            elif line.strip() and not line.startswith((b":", b"event:", b"id:", b"retry:")):
                self.ignored += 1
            return
        body = line[5:].strip()
        if body == b"[DONE]":
            self.over = True
        elif body.startswith(b"{"):
            yield from self._chunk(body)
        elif body:
            self.ignored += 1  # no chunk, so no words of the answer are lost with it

    def _chunk(self, body: bytes) -> Iterator[Said | Thought]:
        try:
            chunk = _decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
            raise ProviderBroken("a chunk of the answer cannot be read") from exc
        if chunk.error:
            raise _error_in_stream(chunk.error)
        if chunk.usage is not None:
            self._usage = chunk.usage
        for choice in chunk.choices[:1]:
            delta = choice.delta
            if delta is not None:
                thought = delta.reasoning or delta.reasoning_content
                if thought:
                    yield Thought(thought)
                if delta.content:
                    self._said = True
                    yield Said(delta.content)
            if choice.finish_reason:
                self._reason = _REASONS.get(choice.finish_reason, FinishReason.STOP)

    def finish(self) -> Iterator[Said | Thought | Finished]:
        """To be called at the end of the body: what its last line still says, then the end.

        Raises ProviderBroken when the answer was cut off.
        """
        yield from self._line(self._rest)  # a last line without its newline
        if self._reason is None and not self.over:
            raise ProviderBroken("the answer was cut off")
        if self._reason is None and not self._said:
            raise ProviderBroken("the answer is empty and has no end")
        usage = self._usage or _Usage()
        yield Finished(
            self._reason or FinishReason.STOP,
            Usage(usage.prompt_tokens, usage.completion_tokens),
        )


def _error_in_stream(error: object) -> ProviderError:
    if not isinstance(error, dict):
        return ProviderBroken("the stream ended with an error")
    message = str(error.get("message", "the stream ended with an error"))[:300]
    kind = f"{error.get('type', '')} {error.get('code', '')}"
    for status in (429, 503, 401, 400, 402, 403, 404):
        if str(status) in kind:
            return from_status(status, message)
    if "limit" in kind:
        return from_status(429, message)
    if "overloaded" in kind or "unavailable" in kind or "server_error" in kind:
        return from_status(503, message)
    if "invalid" in kind:
        return from_status(400, message)
    return ProviderBroken(message)
