"""Who is connected by a token now, as the servers tell it; and the end of such a connection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec
import nats.errors

from shared.errors import NatsError
from shared.nats.connection import translated

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from nats.aio.client import Client

LIST: Final = "$SYS.REQ.SERVER.PING.CONNZ"  # every server of a cluster answers
PAGE: Final = 1_024
QUIET_SECONDS: Final = 1.0  # then every server has answered
KICK_SECONDS: Final = 2.0


class _Connected(msgspec.Struct, frozen=True):
    cid: int
    authorized_user: str = ""


class _Page(msgspec.Struct, frozen=True):
    server_id: str
    connections: list[_Connected] = []


class _Answer(msgspec.Struct, frozen=True):
    data: _Page | None = None
    error: dict[str, Any] | None = None


_decode = msgspec.json.Decoder(_Answer).decode


@dataclass(frozen=True, slots=True)
class NatsConnections:
    """Those of one account."""

    client: Client
    account: str

    async def end(self, is_over: Callable[[str], bool]) -> int:
        """Ends each whose user's name `is_over`; returns how many. Raises NatsError."""
        found = [
            (page.server_id, connected.cid)
            async for page in self._pages()
            for connected in page.connections
            if is_over(connected.authorized_user)
        ]
        for server_id, cid in found:
            body = msgspec.json.encode({"cid": cid})
            subject = f"$SYS.REQ.SERVER.{server_id}.KICK"
            await translated(self.client.request(subject, body, timeout=KICK_SECONDS), subject)
        return len(found)

    async def _pages(self) -> AsyncIterator[_Page]:
        offset, is_more = 0, True
        while is_more:
            is_more = False
            async for page in self._ask(offset):
                is_more = is_more or len(page.connections) == PAGE
                yield page
            offset += PAGE

    async def _ask(self, offset: int) -> AsyncIterator[_Page]:
        """One page of each server."""
        body = {"auth": True, "acc": self.account, "limit": PAGE, "offset": offset}
        inbox = self.client.new_inbox()
        answers = await self.client.subscribe(inbox)
        try:
            await self.client.publish(LIST, msgspec.json.encode(body), inbox)
            while True:
                page = _decode((await answers.next_msg(QUIET_SECONDS)).data).data
                if page is not None:
                    yield page
        except (nats.errors.TimeoutError, TimeoutError):
            return  # the last one has answered
        except (nats.errors.Error, msgspec.MsgspecError) as exc:
            raise NatsError(f"{LIST}: {exc}") from exc
        finally:
            await answers.unsubscribe()
