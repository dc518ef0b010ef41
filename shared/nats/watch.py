"""Watches what a service needs of JetStream: says what is missing, and makes again what is gone."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from shared.errors import ApiError, NatsError
from shared.nats.provision import NOT_FOUND, ensure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from shared.nats.connection import Connection
    from shared.nats.provision import Asset

log = logging.getLogger(__name__)

EVERY_SECONDS: Final = 3.0  # what is deleted is noticed, and made again, within this time
FRESH_SECONDS: Final = 1.0  # probes that come faster are told what the last look found
ANSWER_SECONDS: Final = 2.0
GIVE_UP_SECONDS: Final = 20.0  # something is gone and cannot be made again
# What was made again is waited for so much longer: who held on to the old one must find the new.
HEALING_SECONDS: Final = 5.0
_SILENT: Final = ""  # nobody answers


class Gone(NatsError):
    """Something that the service needs was deleted and could not be made again."""


@dataclass(frozen=True, slots=True)
class Look:
    """What a look found: when each asset was made; None where it is missing."""

    at: float
    made: Mapping[Asset, str | None]
    silent: Sequence[Asset] = ()  # nobody answered for them

    @property
    def missing(self) -> list[Asset]:
        return [asset for asset, made in self.made.items() if made is None]


class Watch:
    """One look for all who ask: a few small requests that the server answers."""

    def __init__(
        self,
        connection: Connection,
        assets: Sequence[Asset],
        *,
        every: float = EVERY_SECONDS,
        fresh: float = FRESH_SECONDS,
        give_up: float = GIVE_UP_SECONDS,
        healing: float = HEALING_SECONDS,
    ) -> None:
        self._connection, self._assets = connection, tuple(assets)
        self._every, self._fresh, self._give_up = every, fresh, give_up
        self._healing_seconds = healing
        self._last = Look(float("-inf"), {})
        self._made: dict[Asset, str] = {}  # when, as it was seen last
        self._healing: dict[Asset, float] = {}  # until when
        self._looking: asyncio.Task[Look] | None = None

    async def waiting(self) -> dict[str, str]:
        """By name what is waited for, and why; empty when everything is there."""
        look = await self.look()
        if len(look.silent) == len(self._assets):
            return {"NATS": "does not answer"}
        healing = [asset for asset, until in self._healing.items() if until > time.monotonic()]
        lines = [f"{asset.label} is missing" for asset in look.missing]
        lines += [f"{asset.label} does not answer" for asset in look.silent]
        lines += [f"{asset.label} was made again" for asset in healing if look.made.get(asset)]
        return {"streams": ", ".join(lines)} if lines else {}

    async def look(self) -> Look:
        """The last one, where it is fresh enough; a look that is under way is joined."""
        if time.monotonic() - self._last.at < self._fresh:
            return self._last
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())
        return await asyncio.shield(self._looking)  # others wait for it, too

    async def _look(self) -> Look:
        answers = await asyncio.gather(*(self._ask(asset) for asset in self._assets))
        found = dict(zip(self._assets, answers, strict=True))
        self._last = Look(
            time.monotonic(),
            {asset: made for asset, made in found.items() if made != _SILENT},
            [asset for asset, made in found.items() if made == _SILENT],
        )
        for asset, made in self._last.made.items():
            if made is None or self._made.get(asset, made) != made:
                self._healing[asset] = self._last.at + self._healing_seconds
            if made is not None:
                self._made[asset] = made
        return self._last

    async def _ask(self, asset: Asset) -> str | None:
        """When it was made; None when it is not there."""
        try:
            info = await self._connection.api(asset.info, seconds=ANSWER_SECONDS)
        except ApiError as exc:
            return None if exc.code == NOT_FOUND else _SILENT
        except NatsError:
            return _SILENT
        return str(info["created"])

    async def run(self) -> None:
        """Makes again what is gone, until cancelled.

        Raises:
            Gone: it could not be made for too long.
            Mismatch: somebody else made it, with other settings.
        """
        since = None
        while True:
            missing = (await self.look()).missing
            if missing and await self._make(missing):
                missing = []
            if not missing:
                since = None
            elif since is None:
                since = time.monotonic()
            elif time.monotonic() - since > self._give_up:
                raise Gone(f"{missing[0].label} is gone, and cannot be made again")
            await asyncio.sleep(self._every if not missing else self._fresh)

    async def _make(self, missing: Sequence[Asset]) -> bool:
        for asset in missing:
            log.error("streams.gone", extra={"what": asset.label})
            try:
                await ensure(self._connection, asset)
            except NatsError as exc:
                extra = {"what": asset.label, "reason": str(exc)}
                log.warning("streams.not_made", extra=extra)
                return False
            log.warning("streams.made_again", extra={"what": asset.label})
        return True
