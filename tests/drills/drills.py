"""What an operator meets most, made on purpose; and mended as docs/runbooks.md tells."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import nats.js.errors

from local.seaweedfs import SeaweedFS
from tests.drills.field import Field, Row, in_the_field
from tests.drills.runbook import command
from tests.operations.test_rotation import added, keys_of, logins, set_up

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

MIB: Final = 1024 * 1024
SMALL: Final = 64 * MIB  # the least that a service starts with
FAKETIME: Final = tuple(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Drill:
    """`alert` is the one that must come; `shows` are panels on which it must be seen."""

    name: str
    alert: str
    breaks: Callable[[Field], Awaitable[None]]
    mends: Callable[[Field], Awaitable[None]]
    shows: tuple[str, ...]
    settings: Mapping[str, str] = field(default_factory=dict)
    prepares: Callable[[Field], Awaitable[None]] | None = None


async def run(drill: Drill, folder: Path) -> Row:
    """Breaks, sees, mends; at the end nothing fires and turns are whole."""
    async with in_the_field(folder, drill.name, drill.settings) as field:
        row = field.row
        if drill.prepares is not None:
            await drill.prepares(field)
            await field.until_heard()
        first = len(field.asked)
        broken = time.monotonic()
        await drill.breaks(field)
        row.alert = drill.alert
        row.alert_seconds = await field.until_fires(drill.alert, broken)
        for title in drill.shows:
            await field.see(title)
        mended = time.monotonic()
        await drill.mends(field)
        await field.until_heard()
        last = len(field.asked)
        row.quiet_seconds = await field.until_quiet(mended)
    ends = [field.system.ears.turn(turn_id) for turn_id in field.asked[first:last]]
    row.asked = len(ends)
    row.failed = sum(any(_failed(end) for end in (t.end, t.voice_end)) for t in ends)
    return row


def _failed(end: Mapping[str, object] | None) -> bool:
    return end is not None and end["type"] == "failed"


# ------------------------------------------------------------ a stream is full


async def put_document(field: Field, key: str, value: bytes) -> None:
    """As the chat service does, which alone may."""
    js = (await field.chat()).jetstream()
    await js.publish(f"$KV.conversations.{key}", value, timeout=10)


async def fill_documents(field: Field) -> None:
    """To the last byte, with documents of conversations that nobody has."""
    size = 512 * 1024
    number = 0
    while size > 64:
        try:
            await put_document(field, f"filler{number}", bytes(size))
        except nats.js.errors.APIError:
            size //= 2
        number += 1


async def give_room(field: Field) -> None:
    line = command("ParleyStreamNearLimit", "RETENTION_CONVERSATIONS_BYTES=")
    await field.run(line, RETENTION_CONVERSATIONS_BYTES=str(2 * SMALL))


# ------------------------------------------------------------ keys are revoked


async def revoke_store_key(field: Field) -> None:
    system = field.system
    key = system.settings["MINIO_ACCESS_KEY"]
    if isinstance(system.s3, SeaweedFS):
        others = {k: v for k, v in keys_of(system.s3).items() if k != key}
        await logins(system.s3, others)
    else:
        await set_up(system, "--retire", key)


async def new_store_key(field: Field) -> None:
    await field.run(command("ParleyStoreAway", "deploy/secrets/make.sh"), FOLDER=field.folder)
    field.row.commands.append(command("ParleyStoreAway", "python deploy/store/setup.py"))
    field.system.settings |= await added(field.system)
    await field.rolled(command("ParleyStoreAway", "kubectl"), "tts")


async def revoke_provider_key(field: Field) -> None:
    field.system.provider_accepts("second-key")


async def new_provider_key(field: Field) -> None:
    field.system.new_provider_key("second-key")
    await field.rolled(command("ParleyProviderKeyRefused", "kubectl"), "chat", "tts")


# ------------------------------------------------------------ a request is poisoned


async def poison(field: Field) -> None:
    """One that nobody understands, and one of a conversation whose document is damaged."""
    await put_document(field, "poisoned", b"\x00 no document")
    await field.system.client.jetstream().publish("chat.request", b'{"content": 3}')
    await field.system.ask(conversation_id="poisoned", content="Who am I?")


async def clear_away(field: Field) -> None:
    alert = "ParleyDeadLetters"
    listed = (await field.run(command(alert, "parley dead list"))).splitlines()
    by_code = {line.split()[4].rstrip(":"): line.split()[0] for line in listed}
    assert set(by_code) == {"invalid_request", "internal"}, listed
    shown = await field.run(command(alert, "parley dead show"), NUMBER=by_code["internal"])
    assert "Who am I?" in shown
    drop = command(alert, "parley dead drop")
    await field.run(drop, NUMBER=by_code["invalid_request"])
    erase = command(alert, "parley delete")
    await field.run(erase, user="client", CONVERSATION="poisoned")
    again = await field.system.ask(conversation_id="poisoned", content="Who am I?")
    await field.system.ears.whole(again)
    end = field.system.ears.turn(again).end
    assert end is not None
    assert end["type"] == "done", end


# ------------------------------------------------------------ a replica


async def freeze(field: Field) -> None:
    field.system.of("tts")[-1].freeze()


async def replace_frozen(field: Field) -> None:
    field.row.commands.append(command("ParleyReplicaSilent", "kubectl"))
    await field.system.lost(field.system.of("tts")[-1])


def clock_file(field: Field) -> Path:
    return field.system.folder / "clock"


async def on_a_node_of_its_own(field: Field) -> None:
    """One more speech worker takes another's place; libfaketime reads its clock from a file."""
    assert FAKETIME, "libfaketime is not here: `apt-get install faketime` brings it"
    clock_file(field).write_text("+0\n")
    clock = {
        "LD_PRELOAD": str(FAKETIME[0]),
        "FAKETIME_TIMESTAMP_FILE": str(clock_file(field)),
        "FAKETIME_CACHE_DURATION": "1",  # seconds after which it looks again
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",  # nor do clocks that only count go wrong on a node
    }
    system = field.system
    old = system.of("tts")[-1]
    await system.start("tts", **clock).ready()
    await old.stop()
    system.services.remove(old)
    system.watched()


async def an_hour_ahead(field: Field) -> None:
    clock_file(field).write_text("+3600\n")


async def on_another_node(field: Field) -> None:
    field.row.commands += [
        command("ParleyClockOff", "kubectl cordon"),
        command("ParleyClockOff", "kubectl -n parley delete pod"),
    ]
    await field.system.lost(field.system.of("tts")[-1])


DRILLS: Final = (
    Drill(
        name="a stream is full: `KV_conversations` has no byte left",
        alert="ParleyStreamNearLimit",
        breaks=fill_documents,
        mends=give_room,
        shows=("Streams, of their limit", "Failures by code"),
        settings={"RETENTION_CONVERSATIONS_BYTES": str(SMALL)},
    ),
    Drill(
        name="the store's key is revoked",
        alert="ParleyStoreAway",
        breaks=revoke_store_key,
        mends=new_store_key,
        shows=("Object store",),
        settings={"MINIO_PATIENCE": "3"},
    ),
    Drill(
        name="the provider's key is revoked",
        alert="ParleyProviderKeyRefused",
        breaks=revoke_provider_key,
        mends=new_provider_key,
        shows=("Failures by code", "Failed, of all"),
    ),
    Drill(
        name="poisoned requests: one nobody understands, one whose document is damaged",
        alert="ParleyDeadLetters",
        breaks=poison,
        mends=clear_away,
        shows=("Dead letters",),
    ),
    Drill(
        name="a replica is frozen (SIGSTOP)",
        alert="ParleyReplicaSilent",
        breaks=freeze,
        mends=replace_frozen,
        shows=("Up, draining",),
    ),
    Drill(
        name="the clock of a replica is an hour off",
        alert="ParleyClockOff",
        prepares=on_a_node_of_its_own,
        breaks=an_hour_ahead,
        mends=on_another_node,
        shows=("Clock off by", "Object store"),
    ),
)
