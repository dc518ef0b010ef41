"""Noun: what the model is asked, and how."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from services.chat.request import messages_of
from services.chat.tokens import PER_MESSAGE, tokens
from shared.contract import HistoryMode, PromptMessage, Role

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from services.chat.conversation import Conversation
    from shared.contract import ChatRequest, Message

LEAST_ANSWER: Final = 256  # tokens; who has no room for these has no room for an answer
MAX_MODELS: Final = 256  # a request may name any


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

    def halved(self, prompt: Prompt) -> Context | None:
        """Half of what was asked there; None where that would be nothing any more.

        Messages are what is left away first; where there is one left, less room for the answer.
        """
        fixed = sum(message.role is Role.SYSTEM for message in prompt.messages) + 1
        if len(prompt.messages) > fixed:
            asked = sum(_size(message.content) for message in prompt.messages)
            return replace(self, max_context_tokens=asked // 2)
        answer = prompt.max_tokens or self.max_tokens
        if answer > LEAST_ANSWER:
            return replace(self, max_tokens=max(answer // 2, LEAST_ANSWER))
        return None

    def learned(self, halved: Context, accepted: Prompt) -> Context:
        """This one, less what a model had to be spared: with `halved` it took what it answered.

        Who had to be given less room for the answer may have been able to read more messages.
        """
        if halved.max_tokens < self.max_tokens:
            return replace(self, max_tokens=halved.max_tokens)
        taken = sum(_size(message.content) for message in accepted.messages)
        limit = max(halved.max_context_tokens, taken)
        return replace(self, max_context_tokens=min(self.max_context_tokens, limit))


class Contexts:
    """How much each model is asked at most, as far as its refusals have told.

    Of more than MAX_MODELS, the one asked for longest ago is forgotten.
    """

    def __init__(self, default: Context) -> None:
        self._default = default
        self._learned: dict[str, Context] = {}

    def of(self, model: str) -> Context:
        found = self._learned.pop(model, None)
        if found is None:
            return self._default
        self._learned[model] = found
        return found

    def learn(self, model: str, halved: Context, accepted: Prompt) -> None:
        """A model has answered a prompt of that context, after it had refused more."""
        self._learned[model] = self.of(model).learned(halved, accepted)
        if len(self._learned) > MAX_MODELS:
            del self._learned[next(iter(self._learned))]


class Asking:
    """Collects what the model is asked: the request's own messages, then what was said before.

    In are the system prompt and the user's words, whatever their size, and in front of these the
    newest messages, one stretch without holes, for as long as they fit.
    """

    def __init__(self, document: Conversation, request: ChatRequest, context: Context) -> None:
        self._request, self._context = request, context
        self._turn_id = document.turn.turn_id if document.turn else None
        own = messages_of(request)
        first = next(n for n, m in enumerate(own) if n == len(own) - 1 or m.role is not Role.SYSTEM)
        system = _system(document, request, context)
        self._head = [PromptMessage(Role.SYSTEM, system)] if system else []
        self._own_head = own[:first]
        self._newest: list[PromptMessage] = []  # the last one first
        head = [*self._head, *self._own_head, own[-1]]
        self._tokens = context.max_context_tokens - sum(_size(m.content) for m in head)
        self._count = context.max_messages - len(self._own_head) - 1
        self._full = False  # a message did not fit: no older one is wanted
        self._has_past = request.history is not HistoryMode.NONE
        self._pages = document.pages if self._has_past else 0  # that were not looked at
        self._take(reversed(own[first:-1]))
        self._kept_own = len(self._newest)
        self._last = own[-1]
        self._before(document.messages)

    @property
    def next_page(self) -> int | None:
        """The page whose messages may still fit; the newest one has the highest number."""
        room = self._tokens > 0 and self._count > 0 and not self._full
        return self._pages if self._pages and room else None

    def _before(self, messages: Sequence[Message]) -> None:
        if self._has_past and not self._full:
            self._take(
                PromptMessage(m.role, m.content)
                for m in reversed(messages)
                if m.turn_id != self._turn_id
            )

    def page(self, messages: Sequence[Message]) -> None:
        """`next_page`, in front of all that is here."""
        self._pages -= 1
        self._before(messages)

    def _take(self, newest_first: Iterable[PromptMessage]) -> None:
        for message in newest_first:
            self._tokens -= _size(message.content)
            self._count -= 1
            if self._tokens < 0 or self._count < 0:
                self._full = True
                return
            self._newest.append(message)

    def prompt(self, model: str) -> Prompt:
        request, context = self._request, self._context
        return Prompt(
            model=model,
            messages=self._messages(),
            temperature=request.temperature,
            top_p=request.top_p,
            max_tokens=min(request.max_tokens or context.max_tokens, context.max_tokens),
            stop=request.stop,
            seed=request.seed,
            reasoning_effort=request.reasoning_effort,
        )

    def _messages(self) -> list[PromptMessage]:
        newest = list(self._newest)
        # An answer whose question was left away: models expect the user to begin. A greeting that
        # opens the conversation has none.
        cut = self._full or self._pages > 0
        while cut and newest and newest[-1].role is Role.ASSISTANT:
            newest.pop()
        own = min(self._kept_own, len(newest))
        past, own_messages = newest[own:][::-1], newest[:own][::-1]
        return [*self._head, *past, *self._own_head, *own_messages, self._last]


def _system(document: Conversation, request: ChatRequest, context: Context) -> str:
    """An empty one is none, and hides those behind it."""
    if request.history is HistoryMode.NONE:
        return request.system or ""
    for given in (request.system, document.system):
        if given is not None:
            return given
    return context.system


def _size(text: str) -> int:
    return tokens(text) + PER_MESSAGE
