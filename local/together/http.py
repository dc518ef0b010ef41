"""What both endpoints share of HTTP: who asks, how one is refused, how a connection breaks."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import TYPE_CHECKING, Any

from aiohttp import web

if TYPE_CHECKING:
    from local.together.faults import Fault

# The words that the provider uses for a status, and the type of the error.
_CODES = {
    400: ("invalid_request", "invalid_request_error"),
    401: ("invalid_api_key", "invalid_request_error"),
    402: ("spending_limit_exceeded", "billing_error"),
    403: ("forbidden", "invalid_request_error"),
    404: ("model_not_found", "invalid_request_error"),
    408: ("request_timeout", "server_error"),
    409: ("conflict", "invalid_request_error"),
    422: ("unprocessable_entity", "invalid_request_error"),
    429: ("dynamic_request_limited", "rate_limit_error"),
    500: ("internal_error", "server_error"),
    503: ("service_unavailable", "server_error"),
    504: ("gateway_timeout", "server_error"),
}


def error_body(
    status: int, code: str = "", message: str = "", param: str | None = None
) -> dict[str, Any]:
    """The JSON of an error as the provider writes it."""
    usual, kind = _CODES.get(status, ("error", "server_error"))
    text = message or f"The emulator was told to answer {status}."
    return {"error": {"message": text, "type": kind, "param": param, "code": code or usual}}


class Refused(Exception):
    """A request that the provider answers with an error."""

    def __init__(self, status: int, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.error = error_body(status, code, message, param)["error"]

    def response(self) -> web.Response:
        return web.json_response({"error": self.error}, status=self.status)


def refusal(fault: Fault) -> web.Response:
    """The answer of a fault that is an HTTP status."""
    headers = {}
    if fault.retry_after is not None:
        headers["Retry-After"] = f"{fault.retry_after:g}"
    if fault.ratelimit_reset is not None:
        headers["x-ratelimit-reset"] = f"{fault.ratelimit_reset:g}"
    body = error_body(fault.status, fault.code, fault.message)
    return web.json_response(body, status=fault.status, headers=headers)


def bearer(request: web.Request) -> str:
    """The key in the header, or nothing."""
    kind, _, key = request.headers.get("Authorization", "").partition(" ")
    return key.strip() if kind.lower() == "bearer" else ""


def reset(request: web.Request) -> None:
    """Ends the TCP connection as a broken network does: RST, no farewell."""
    transport = request.transport
    if transport is None:
        return
    raw = transport.get_extra_info("socket")
    if raw is not None:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


async def for_ever() -> None:
    """Until the client goes away, or the emulator."""
    await asyncio.Event().wait()
