"""Noun: what the model is asked, and how."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from services.chat.request import messages_of
from shared.contract import HistoryMode, PromptMessage, Role

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.chat.conversation import Conversation
    from shared.contract import ChatRequest, Message

CHARS_PER_TOKEN: Final = 4  # a rough rule; the provider counts in its own way


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """One question to a model; what is None is left to the provider."""

    model: str
    messages: Sequence[PromptMessage]
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    stop: Sequence[str] | None = None
    seed: int | None = None
    reasoning_effort: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The service's system prompt, and how much is asked and answered at most."""

    system: str
    max_context_tokens: int
    max_messages: int
    max_tokens: int  # of an answer


def prompt_for(
    document: Conversation, request: ChatRequest, *, model: str, context: Context
) -> Prompt:
    """The system prompt, the newest messages that fit, and the request's own.

    The request's own messages are always in, whatever their size.
    """
    return Prompt(
        model=model,
        messages=_messages(document, request, context),
        temperature=request.temperature,
        top_p=request.top_p,
        max_tokens=min(request.max_tokens or context.max_tokens, context.max_tokens),
        stop=request.stop,
        seed=request.seed,
        reasoning_effort=request.reasoning_effort,
    )


def _messages(
    document: Conversation, request: ChatRequest, context: Context
) -> list[PromptMessage]:
    system = request.system or document.system or context.system
    own = messages_of(request)
    size = len(system) + sum(len(message.content) for message in own)
    past = _newest(
        _before(document, request),
        characters=context.max_context_tokens * CHARS_PER_TOKEN - size,
        count=context.max_messages - len(own),
    )
    head = [PromptMessage(Role.SYSTEM, system)] if system else []
    return [*head, *past, *own]


def _before(document: Conversation, request: ChatRequest) -> Sequence[Message]:
    """What was said before the turn under way."""
    if request.history is HistoryMode.NONE:
        return ()
    turn_id = document.turn.turn_id if document.turn else None
    return [message for message in document.messages if message.turn_id != turn_id]


def _newest(past: Sequence[Message], *, characters: int, count: int) -> list[PromptMessage]:
    """One stretch without holes, in its order, that a user's message begins."""
    kept: list[PromptMessage] = []
    for message in reversed(past):
        characters -= len(message.content)
        if characters < 0 or len(kept) >= count:
            break
        kept.append(PromptMessage(message.role, message.content))
    # An answer without its question would stand first: models expect the user to begin.
    while kept and kept[-1].role is Role.ASSISTANT:
        kept.pop()
    return kept[::-1]
