"""One completion: what is said, in how many tokens, and the provider's form for it."""

from __future__ import annotations

import functools
import json
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from local.together import assistant

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from local.together.script import Chat

# Larger than 2^53, as in a public recording: a reader that takes it for a float changes it.
SEED = 15924764223251450000
_TOKEN = re.compile(r"\s?[^\W_]{1,7}|\s?[^\w\s]+|\s+|_+")


def tokens(text: str) -> list[str]:
    """Parts of some characters, as tokenizers make them; joined, they are the text."""
    return _TOKEN.findall(text)


@dataclass(frozen=True, slots=True)
class Completion:
    """What is to be said, before anything goes wrong."""

    id: str
    model: str
    reasoning: list[str]  # in chunks
    content: list[str]  # in chunks
    finish_reason: str
    usage: dict[str, int]
    trails: bool  # its usage comes behind the finish chunk

    def whole(self, reasoning_field: str) -> dict[str, Any]:
        """The body of an answer that is not streamed."""
        message: dict[str, Any] = {
            "role": "assistant",
            "content": "".join(self.content),
            "tool_calls": [],
        }
        if self.reasoning:
            message[reasoning_field] = "".join(self.reasoning)
        choice = {
            "index": 0,
            "finish_reason": self.finish_reason,
            "logprobs": None,
            "seed": SEED,
            "message": message,
        }
        return {
            "id": self.id,
            "object": "chat.completion",
            "created": int(time.time()),
            "model": self.model,
            "prompt": [],
            "choices": [choice],
            "usage": self.usage,
        }


def completion(
    number: int, text: str, params: Mapping[str, Any], messages: list[Any], settings: Chat
) -> Completion:
    """A reply as the request's parameters want it: cut at stop words, and at `max_tokens`."""
    finish = settings.finish_reason
    stops = params.get("stop") or []
    for stop in [stops] if isinstance(stops, str) else stops:
        text = text.partition(str(stop))[0]
    parts = tokens(text)
    limit = params.get("max_tokens")
    if isinstance(limit, int) and len(parts) > limit:
        parts, finish = parts[:limit], "length"
    thought = [] if _no_reasoning(params) else tokens(settings.reasoning)
    asked = prompt_length(messages)
    said = len(parts) + len(thought)
    size = max(1, settings.tokens_per_chunk)
    return Completion(
        id=f"oEmulated-{number}",
        model=str(params["model"]),
        reasoning=list(_joined(thought, size)),
        content=list(_joined(parts, size)),
        finish_reason=finish,
        usage={
            "prompt_tokens": asked,
            "completion_tokens": said,
            "total_tokens": asked + said,
            "cached_tokens": 0,
        },
        trails=settings.usage == "trailing" or (settings.usage == "asked" and _asks_usage(params)),
    )


def context_length(params: Mapping[str, Any], messages: list[Any]) -> int:
    """What the messages and the longest answer that is asked for take, in tokens."""
    limit = params.get("max_tokens")
    return prompt_length(messages) + (limit if isinstance(limit, int) else 0)


def prompt_length(messages: list[Any]) -> int:
    return sum(_count(assistant.plain_text(m.get("content"))) for m in messages)


@functools.lru_cache(maxsize=64)
def _count(text: str) -> int:
    """Kept: each turn of a conversation comes with all that was said before."""
    return len(tokens(text))


def _asks_usage(params: Mapping[str, Any]) -> bool:
    options = params.get("stream_options")
    return isinstance(options, dict) and options.get("include_usage") is True


def _no_reasoning(params: Mapping[str, Any]) -> bool:
    asked = params.get("reasoning")
    return isinstance(asked, dict) and asked.get("enabled") is False


def _joined(parts: list[str], size: int) -> Iterator[str]:
    return ("".join(parts[at : at + size]) for at in range(0, len(parts), size))


class Chunks:
    """The lines of one stream. Put together by hand: this is the hot path."""

    def __init__(self, completion: Completion, settings: Chat) -> None:
        self._completion = completion
        self._settings = settings
        self._head = (
            f'data: {{"id":"{completion.id}","object":"chat.completion.chunk",'
            f'"created":{int(time.time())},"choices":'
        )
        self._tail = f',"model":{json.dumps(completion.model)},"usage":'

    def _line(self, choices: str, usage: dict[str, int] | None) -> bytes:
        return f"{self._head}{choices}{self._tail}{json.dumps(usage)}}}\n\n".encode()

    def token(self, index: int, text: str, field: str) -> bytes:
        said = json.dumps(text)
        shown = said if field == "content" else '""'
        content = "" if field == "content" else '"content":"",'
        token_id = json.dumps(_token_id(text, index, self._settings.token_ids))
        return self._line(
            f'[{{"index":0,"text":{shown},"logprobs":null,"finish_reason":null,"seed":null,'
            f'"delta":{{"token_id":{token_id},"role":"assistant",{content}"{field}":{said}}}}}]',
            None,
        )

    def finish(self) -> bytes:
        """The finish chunk, what may trail behind it, and the end."""
        completion, usage = self._completion, self._settings.usage
        choice = (
            f'[{{"index":0,"text":"","logprobs":null,"finish_reason":"{completion.finish_reason}",'
            f'"seed":{SEED},"delta":{{"token_id":128009,"role":"assistant","content":""}}}}]'
        )
        last = self._line(choice, completion.usage if usage == "finish" else None)
        trailing = self._line("[]", completion.usage) if completion.trails else b""
        return last + trailing + b"data: [DONE]\n\n"


def _token_id(text: str, index: int, which: str) -> int | None:
    if which == "never" or (which == "sometimes" and index % 3 == 2):
        return None
    return 1000 + sum(text.encode()) % 100_000
