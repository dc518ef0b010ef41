"""nats-py's reading of the wire, so that nothing that anybody may send leaves us deaf.

nats-py 2.16 ends its read loop for good, and believes to be connected, on a message whose subject
or reply is no UTF-8, or whose header block is too short or begins with a line that is no UTF-8; it
splits a line at a form feed, which may stand in a subject, and takes the rest for another
subscription's number. The server passes all of that on, and a stream delivers it again and again.
There is no public way to read otherwise (to be filed upstream).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from nats.protocol import parser

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg

# Only these part the words of the protocol.
_WORD: Final = rb"([^ \t\r\n]+)"
_GAP: Final = rb"[ \t]+"
_TO: Final = rb"(" + _WORD + _GAP + rb")?"
_MSG: Final = rb"\AMSG" + _GAP + _WORD + _GAP + _WORD + _GAP + _TO + rb"([0-9]+)[ \t]*\r\n"
_HMSG: Final = _MSG.replace(rb"\AMSG", rb"\AHMSG").replace(
    rb"([0-9]+)", rb"([0-9]+)" + _GAP + rb"([0-9]+)"
)


def harden(client: Client) -> None:
    """Has what cannot be read come all the same: with marks in the place of bytes that are no
    UTF-8, without the headers that are none."""
    parser.MSG_RE, parser.HMSG_RE = re.compile(_MSG), re.compile(_HMSG)
    headers_of, message_of = client._process_headers, client._build_message  # noqa: SLF001

    async def headers(block: Any) -> dict[str, str] | None:
        try:
            return await headers_of(block)
        except (UnicodeDecodeError, IndexError):
            return None

    def message(sid: int, subject: bytes, reply: bytes, *rest: Any) -> Msg:
        try:
            found: Msg = message_of(sid, subject, reply, *rest)
        except UnicodeDecodeError:  # here, and not before: each token and frame passes by
            found = message_of(sid, _readable(subject), _readable(reply), *rest)
        return found

    client._process_headers = headers  # type: ignore[assignment]  # noqa: SLF001
    client._build_message = message  # type: ignore[assignment]  # noqa: SLF001


def _readable(name: bytes) -> bytes:
    return bytes(name).decode(errors="replace").encode()
