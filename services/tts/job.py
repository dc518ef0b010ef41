"""What is to be spoken, and how: what its request says, and the service where that says nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal, TypeAlias

from services.tts.default_voices import default_voice
from services.tts.ports import VoiceParams
from shared.contract import Alignment, AudioFormat

if TYPE_CHECKING:
    from shared.contract import Speech, SpeechRequest

CodeBlocks: TypeAlias = Literal["skip", "announce"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The service's limits for each voice."""

    max_tries: int  # of one piece, on the same model, while the provider is there
    patience: float  # seconds for which one piece is tried while it is away
    max_executions: int  # workers that may begin one voice before it is given up
    fallback: tuple[str, str] | None  # model and voice
    recover_after: int  # pieces spoken by the fallback before the first model is tried again
    max_characters: int  # of a text
    code_blocks: CodeBlocks
    store_again: float  # seconds before a voice is taken up again that could not be stored
    store_give_up: float  # seconds that the store may be away; then the voice fails
    store_refused: float  # seconds that it may refuse; then the voice fails


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One voice, by one execution, for the message with that sequence in the queue.

    `taken_at`: when the stream took it, UTC. `redelivered`: another worker may have begun it.
    """

    conversation_id: str
    turn_id: str
    execution: str
    sequence: int
    taken_at: datetime
    params: VoiceParams
    format: AudioFormat
    redelivered: bool = False
    warnings: Sequence[str] = ()  # what the request may have misspelled

    @property
    def since(self) -> str:
        """RFC 3339; nothing of the voice is older."""
        return self.taken_at.isoformat(timespec="microseconds").replace("+00:00", "Z")


def seconds_between(since: str, now: str) -> float:
    """Of two times in RFC 3339."""
    return (datetime.fromisoformat(now) - datetime.fromisoformat(since)).total_seconds()


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """How a voice is spoken whose request does not say."""

    model: str
    voice: str
    language: str | None
    speed: float
    alignment: Alignment
    pronunciations: Mapping[str, str]
    max_partial_length: int
    format: AudioFormat

    def job(
        self,
        request: SpeechRequest,
        *,
        execution: str,
        sequence: int,
        taken_at: datetime,
        redelivered: bool = False,
        warnings: Sequence[str] = (),
    ) -> Job:
        return Job(
            conversation_id=str(request.conversation_id),
            turn_id=str(request.turn_id),
            execution=execution,
            sequence=sequence,
            taken_at=taken_at,
            params=self._params(request.speech),
            format=request.speech.format or self.format,
            redelivered=redelivered,
            warnings=warnings,
        )

    def _params(self, speech: Speech) -> VoiceParams:
        model = speech.model or self.model
        own = self.voice if model == self.model else default_voice(model)
        return VoiceParams(
            model=model,
            voice=speech.voice or own,
            language=speech.language or self.language,
            speed=speech.speed or self.speed,
            word_timestamps=(speech.alignment or self.alignment) is Alignment.WORD,
            pronunciations=tuple({**self.pronunciations, **(speech.pronunciations or {})}.items()),
            max_partial_length=speech.max_partial_length or self.max_partial_length,
        )
