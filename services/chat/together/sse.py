"""Noun: the provider's streamed chat completion, bytes in, parts of an answer out; no socket."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import Struct

from services.chat.ports import Finished, Said, Thought
from services.chat.thinking import Thinking
from services.chat.together.refusal import refused
from shared.contract import UNREADABLE, FinishReason, Usage
from shared.errors import ProviderBroken, ProviderError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

MAX_NAME: Final = 200  # characters of a model's name
MAX_LINE: Final = 4 * 1024 * 1024  # a line that never ends is not a stream


class _Delta(Struct):
    content: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None


class _Choice(Struct):
    delta: _Delta | None = None
    finish_reason: str | None = None


class _Usage(Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Named(Struct):
    model: str | None = None


class _Chunk(Struct):
    """Only what is used: the rest (seeds beyond 2^53, token ids) is not even decoded.

    Each part may be null: endpoints write that where they have nothing to say.
    """

    choices: list[_Choice | None] | None = None
    usage: _Usage | None = None
    error: Any = None


_decode = msgspec.json.Decoder(_Chunk).decode
_decode_named = msgspec.json.Decoder(_Named).decode

_REASONS: Final = {
    "stop": FinishReason.STOP,
    "eos": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "tool_calls": FinishReason.STOP,
    "function_call": FinishReason.STOP,
}


def _model_of(body: bytes) -> str:
    try:
        return (_decode_named(body).model or "")[:MAX_NAME]
    except UNREADABLE:
        return ""


class State(enum.Enum):
    SILENT = "silent"
    SPEAKING = "speaking"
    FINISHED = "finished"  # the model has said why it ends; usage may still come
    OVER = "over"  # [DONE] came: what follows is of no interest
    EMPTY = "empty"  # [DONE] came, and neither a word nor a finish before it


class Step(enum.Enum):
    WORD = "word"
    FINISH = "finish"
    DONE = "done"


NEXT: Final = {  # everything that may happen to an answer
    (State.SILENT, Step.WORD): State.SPEAKING,
    (State.SILENT, Step.FINISH): State.FINISHED,
    (State.SILENT, Step.DONE): State.EMPTY,
    (State.SPEAKING, Step.WORD): State.SPEAKING,
    (State.SPEAKING, Step.FINISH): State.FINISHED,
    (State.SPEAKING, Step.DONE): State.OVER,
    (State.FINISHED, Step.WORD): State.FINISHED,
    (State.FINISHED, Step.FINISH): State.FINISHED,
    (State.FINISHED, Step.DONE): State.OVER,
}
_OVER: Final = (State.OVER, State.EMPTY)
_BROKEN: Final = {  # what the end of the body means there
    State.SILENT: "the answer was cut off",
    State.SPEAKING: "the answer was cut off",
    State.EMPTY: "the answer is empty and has no end",
}


def joined(parts: Iterable[Said | Thought | Usage]) -> Iterator[Said | Thought | Usage]:
    """Words that follow each other are one part; also those in front of an error."""
    said = ""
    try:
        for part in parts:
            if isinstance(part, Said):
                said += part.text
                continue
            if said:
                yield Said(said)
                said = ""
            yield part
    except ProviderError:
        if said:
            yield Said(said)
        raise
    if said:
        yield Said(said)


class ChatStream:
    """Fed the body as it comes; `finish` tells how it ended.

    `hide` takes secrets out of what the provider says of an error.
    """

    def __init__(self, hide: Callable[[str], str] = str) -> None:
        self._hide = hide
        self._rest = b""
        self._state = State.SILENT
        self._reason = FinishReason.STOP
        self._model = ""
        self._usage = Usage(None, None)
        self._thinking = Thinking()

    @property
    def over(self) -> bool:
        """Nothing more is to be read."""
        return self._state in _OVER

    def _step(self, step: Step) -> None:
        self._state = NEXT[self._state, step]

    def feed(self, data: bytes) -> Iterator[Said | Thought | Usage]:
        """Raises ProviderError for an error inside the stream, or a chunk that is broken."""
        if b"\n" not in data:
            self._rest += data
        else:
            *lines, self._rest = (self._rest + data).split(b"\n")
            for line in lines:
                if line:
                    yield from self._line(line)
        if len(self._rest) > MAX_LINE:
            raise ProviderBroken("a line of the stream is too long")

    def _line(self, line: bytes) -> Sequence[Said | Thought | Usage]:
        if self._state in _OVER:
            return ()
        if not line.startswith(b"data:"):
            if line.startswith(b"{"):  # an error as the whole body, without any framing
                return self._chunk(line)
            return ()  # a comment, another field, or no event of ours
        body = line[5:].strip()
        if body.startswith(b"{"):
            return self._chunk(body)
        if body == b"[DONE]":
            self._step(Step.DONE)
        return ()  # anything else is no chunk: no words are lost with it

    def _chunk(self, body: bytes) -> Sequence[Said | Thought | Usage]:
        try:
            chunk = _decode(body)
        except UNREADABLE as exc:
            raise ProviderBroken("a chunk of the answer cannot be read") from exc
        if chunk.error:
            raise _error_in_stream(chunk.error, self._hide)
        parts: list[Said | Thought | Usage] = []
        choice = chunk.choices[0] if chunk.choices else None
        if choice is not None:
            if choice.delta is not None:
                parts += self._delta(choice.delta)
            if choice.finish_reason:
                self._step(Step.FINISH)
                self._reason = _REASONS.get(choice.finish_reason, FinishReason.STOP)
                self._model = _model_of(body)  # every chunk says it; one is enough
        if chunk.usage is not None:
            parts += self._told(chunk.usage)
        return parts

    def _delta(self, delta: _Delta) -> list[Said | Thought]:
        parts: list[Said | Thought] = []
        thought = delta.reasoning or delta.reasoning_content
        if thought:
            parts.append(Thought(thought))
        if delta.content:
            if self._state is not State.SPEAKING:  # a look into the table for each token costs
                self._step(Step.WORD)
            parts += self._thinking.feed(delta.content)
        return parts

    def _told(self, usage: _Usage) -> Sequence[Usage]:
        """What is told later counts for all that was told before; null takes nothing back."""
        before = self._usage
        given, made = usage.prompt_tokens, usage.completion_tokens
        self._usage = Usage(
            before.prompt_tokens if given is None else given,
            before.completion_tokens if made is None else made,
        )
        return () if self._usage == before else (self._usage,)

    def finish(self) -> Iterator[Said | Thought | Usage | Finished]:
        """To be called at the end of the body: what its last line still says, then the end.

        Raises ProviderBroken when the answer was cut off.
        """
        yield from self._line(self._rest)  # a last line without its newline
        if self._state in _BROKEN:
            raise ProviderBroken(_BROKEN[self._state])
        yield from self._thinking.finish()
        yield Finished(self._reason, self._usage, self._model)


# What an error's type and code mean; the first of these that is among them decides.
_STATUS_BY_WORDS: Final = {
    **{str(status): status for status in (429, 503, 401, 400, 402, 403, 404)},
    "context_length": 400,
    "limit": 429,
    "overloaded": 503,
    "unavailable": 503,
    "server_error": 503,
    "invalid": 400,
}


def _error_in_stream(error: object, hide: Callable[[str], str]) -> ProviderError:
    if not isinstance(error, dict):
        return ProviderBroken("the stream ended with an error")
    message = hide(str(error.get("message") or "the stream ended with an error"))[:300]
    kind = f"{error.get('type', '')} {error.get('code', '')}"
    for words, status in _STATUS_BY_WORDS.items():
        if words in kind:
            return refused(status, message, kind)
    return ProviderBroken(message)
