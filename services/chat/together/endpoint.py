"""Nouns: where an endpoint is, and whether it has to be asked for its usage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit, urlunsplit

if TYPE_CHECKING:
    from shared.contract import Usage

_PATH: Final = "/chat/completions"
_TOGETHER: Final = ("together.ai", "together.xyz")  # there usage comes by itself


class Endpoint:
    """`urls`: where chat completions are, the first one to be tried first.

    That is the base URL as it is written. One without any path means /v1 to the SDK, whose own
    variable it is: that is tried where nothing is found as written.
    """

    def __init__(self, base_url: str) -> None:
        parts = urlsplit(base_url)
        path = parts.path.rstrip("/")
        paths = (path,) if path else ("", "/v1")
        self.host = parts.hostname or ""
        urls = [urlunsplit(parts._replace(path=path + _PATH)) for path in paths]
        self.urls: tuple[str, ...] = tuple(urls)

    def settle(self, url: str) -> None:
        """Somebody answered there."""
        self.urls = (url,)


class UsageAsked:
    """Whether a request asks for its usage by `stream_options`.

    Not where it comes by itself, and not where the endpoint refuses to be asked.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        by_itself = endpoint.host.endswith(_TOGETHER)
        self.wanted = not by_itself
        self.taken = False  # a request that asked was answered
        self._refused = False

    def answered(self, *, asked: bool, refused: bool) -> None:
        """A request was answered; `refused`: only after it did not ask any more."""
        self.taken = self.taken or asked
        if refused:
            self._refused, self.wanted = True, False

    def finished(self, usage: Usage) -> None:
        """An answer came to its end and told this usage."""
        if usage.prompt_tokens is None and usage.completion_tokens is None:
            self.wanted = not self._refused
