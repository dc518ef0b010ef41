"""What goes wrong, as an exit status and as words that say what to do."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

from parley.errors import (
    Busy,
    DeadlineExceeded,
    InvalidRequest,
    NotFound,
    ParleyError,
    ProviderError,
    StorageUnavailable,
    Unauthorized,
    Unreachable,
)
from parley.speaker import NoSpeaker


class Exit(enum.IntEnum):
    """The exit status of every command."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    UNAUTHORIZED = 4
    NOT_FOUND = 5
    BUSY = 6
    LATE = 7
    PROVIDER = 8
    STORAGE = 9
    INTERRUPTED = 130
    PIPE = 141


MEANINGS: Final = {
    Exit.DONE: "done",
    Exit.FAILED: "it failed, for another reason than those below; of doctor: something is red",
    Exit.USAGE: "an option, an argument or a request is wrong",
    Exit.UNREACHABLE: "NATS, or the service behind it, does not answer",
    Exit.UNAUTHORIZED: "the login or the token is refused, or may not do this",
    Exit.NOT_FOUND: "there is no such turn, voice or dead letter",
    Exit.BUSY: "the conversation is busy, or too many wait",
    Exit.LATE: "it took too long",
    Exit.PROVIDER: "the provider of the models failed",
    Exit.STORAGE: "a stream or the object store took nothing",
    Exit.INTERRUPTED: "Ctrl-C",
    Exit.PIPE: "whoever read the output has gone",
}
_LOGIN: Final = (
    "Look at the login (NATS_USER, NATS_PASSWORD …) or the token (PARLEY_TOKEN): a token opens its"
    " own conversations until it ends, over a WebSocket or TLS; `parley doctor` says more."
)
_BY_KIND: Final[tuple[tuple[type[ParleyError], Exit, str], ...]] = (
    (NoSpeaker, Exit.USAGE, "Save the voice with --save FILE, or install parley[play]."),
    (InvalidRequest, Exit.USAGE, ""),
    (
        Unreachable,
        Exit.UNREACHABLE,
        "Is it running, and is --url (NATS_URL) right? `parley doctor` looks at each part.",
    ),
    (
        Unauthorized,
        Exit.UNAUTHORIZED,
        _LOGIN,
    ),
    (NotFound, Exit.NOT_FOUND, ""),
    (Busy, Exit.BUSY, "Try again in a moment, or stop what runs with --on-busy interrupt."),
    (DeadlineExceeded, Exit.LATE, "Try again; `parley doctor` looks at each part."),
    (ProviderError, Exit.PROVIDER, "`parley doctor` asks the provider for a word."),
    (StorageUnavailable, Exit.STORAGE, "`parley doctor` looks at the streams and the store."),
)


@dataclass(frozen=True, slots=True)
class Failure:
    """What is told of an error."""

    status: Exit
    code: str
    message: str
    hint: str = ""
    retryable: bool = False

    @classmethod
    def of(cls, error: Exception) -> Failure:
        """Whatever was raised: nobody is shown a traceback."""
        if isinstance(error, ParleyError):
            if "aiohttp" in error.message:
                hint = "For ws:// and wss:// it takes the extra: pip install 'parley[websocket]'"
                return cls(Exit.USAGE, error.code, error.message, hint)
            for kind, status, hint in _BY_KIND:
                if isinstance(error, kind):
                    return cls(status, error.code, error.message, hint, error.retryable)
            return cls(Exit.FAILED, error.code, error.message, retryable=error.retryable)
        if isinstance(error, OSError):
            name = f"{error.filename}: " if error.filename else ""
            return cls(Exit.FAILED, "os_error", f"{name}{error.strerror or error}")
        said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        hint = "This is a bug of the command line; please report it with what you ran."
        return cls(Exit.FAILED, "internal", said, hint)

    def describe(self) -> dict[str, object]:
        """For --json."""
        told = {"code": self.code, "message": self.message, "retryable": self.retryable}
        return {"type": "error", "error": told, "exit": int(self.status)}
