"""Noun: what a refusal by the provider means, in the words of several providers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from shared.errors import ContextTooLong, from_status

if TYPE_CHECKING:
    from shared.errors import ProviderError

# What says that messages and answer are more than the model can read; by status these are plain
# refusals. Seen from OpenAI, Together, TGI, vLLM, SGLang, Mistral, Anthropic, Groq, llama.cpp.
_TOO_LONG_STATUS: Final = frozenset({400, 413, 422})
_TOO_LONG: Final = re.compile(
    r"context.?(length|window|size|limit)"
    r"|maximum (context|input|prompt|sequence|model)[ _]?(length|len|tokens)?"
    r"|max_(seq|model|position|input|context|total)_?\w*(len|length|tokens|embeddings)"
    r"|max_new_tokens"
    r"|(prompt|input|inputs|message|messages|request|conversation|sequence|text)s?\W+"
    r"(\w+\W+){0,4}too (long|large|many tokens)"
    r"|too many (input |prompt |total )?tokens"
    r"|(token|length)\w* (\w+ ){0,3}(exceed|limit)"
    r"|exceed\w* .{0,60}(tokens|token limit|context|maximum length|input length)"
    r"|(reduce|shorten) .{0,30}(length|messages|prompt|input)"
    r"|string_above_max_length|prompt_too_long|input_too_long",
    re.IGNORECASE,
)
# What says that the endpoint does not know a parameter.
_UNKNOWN_PARAMETER: Final = re.compile(
    r"stream_options|include_usage|un(known|recogni[sz]ed|expected|supported)"
    r"|extra (\w+ ){0,2}(not|forbidden)|additional propert|not (supported|permitted|allowed)",
    re.IGNORECASE,
)
_PARAMETER_STATUS: Final = frozenset({400, 422})


def refused(
    status: int, message: str, kind: str = "", *, wait: float | None = None
) -> ProviderError:
    """The error for a status; `kind` is what the provider calls it, its type and code."""
    if status in _TOO_LONG_STATUS and _TOO_LONG.search(f"{kind} {message}"):
        return ContextTooLong(message, wait=wait)
    return from_status(status, message, wait=wait)


def knows_no_stream_options(status: int, text: str) -> bool:
    """Whether a request may have been refused because of its `stream_options` alone."""
    return status in _PARAMETER_STATUS and bool(_UNKNOWN_PARAMETER.search(text))
