"""Who cannot connect is told why; and what the package itself needs."""

from __future__ import annotations

import ast
import sys
import tomllib
from typing import TYPE_CHECKING, Any

import parley as p
import pytest
from parley import Parley
from parley.speaker import NoSpeaker, SoundCard

from local.process import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable

PACKAGE = ROOT / "clients" / "python"


def broken() -> str:
    raise RuntimeError("the shop is closed")


@pytest.mark.parametrize(
    ("url", "login", "error", "words"),
    [
        ("nats://127.0.0.1:1", {}, p.Unreachable, "nats://127.0.0.1:1 .*Connect call failed"),
        ("nats://ada:secret@127.0.0.1:1", {}, p.Unreachable, "nats://127.0.0.1:1 "),
        (["nats://127.0.0.1:1", "127.0.0.1:2"], {}, p.Unreachable, "127.0.0.1:1, nats://127"),
        ("nats://127.0.0.1:99999", {}, p.Unreachable, "invalid connect url"),
        ("nats://127.0.0.1:1", {"token": broken}, p.Unauthorized, "the shop is closed"),
        ("nats://127.0.0.1:1", {"nkey": "SUA"}, p.Unauthorized, "invalid seed"),
        ("", {}, p.InvalidRequest, "empty URL"),
        ([], {}, p.InvalidRequest, "empty URL"),
    ],
)
async def test_who_cannot_connect_is_told_why(
    url: str, login: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words) as caught:
        async with Parley.connect(url, timeout=0.2, **login):
            pass

    assert "secret" not in str(caught.value)


def test_a_login_does_not_print_its_secrets() -> None:
    client = Parley.connect("nats://h", token="hidden", password="hidden", nkey="hidden")

    assert "hidden" not in repr(vars(client.wire))


# ---------------------------------------------------------------- the sound card


class FakeStream:
    """As much of sounddevice's as is used."""

    latency = 0.1

    def __init__(self, **options: object) -> None:
        self.options, self.written, self.stopped = options, 0, False

    def start(self) -> None: ...

    def write(self, pcm: bytes) -> None:
        self.written += len(pcm)

    def stop(self) -> None:
        self.stopped = True

    abort = stop


class FakeSoundDevice:
    PortAudioError = ZeroDivisionError

    def __init__(self, stream: Callable[..., FakeStream] = FakeStream) -> None:
        self.RawOutputStream = stream


async def test_the_sound_card_tells_how_much_was_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", FakeSoundDevice())
    card = SoundCard()

    assert card.heard_ms == 0
    await card.write(bytes(48_000))
    assert card.heard_ms == 900
    card.stop()
    await card.write(bytes(48_000))
    assert card.heard_ms == 900
    other = SoundCard()
    await other.write(bytes(48_000))
    await other.drain()
    assert other.heard_ms == 1_000


def test_a_machine_without_sound_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(NoSpeaker, match="sounddevice"):
        SoundCard()

    def fail(**_: object) -> FakeStream:
        raise ZeroDivisionError

    monkeypatch.setitem(sys.modules, "sounddevice", FakeSoundDevice(fail))
    with pytest.raises(NoSpeaker, match="no sound card"):
        SoundCard()


# ---------------------------------------------------------------- what it needs


def imported(source: str) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found


def test_the_library_needs_nats_py_and_msgspec_only() -> None:
    files = [file for file in (PACKAGE / "parley").glob("*.py") if file.stem != "__main__"]
    found = set[str]().union(*(imported(file.read_text()) for file in files))
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]

    assert found - sys.stdlib_module_names <= {"parley", "nats", "msgspec", "nkeys"}
    names = {each.partition(">")[0].partition("[")[0] for each in project["dependencies"]}
    assert names == {"nats-py", "msgspec"}


def test_its_version_is_that_of_the_services() -> None:
    versions = {
        tomllib.loads((folder / "pyproject.toml").read_text())["project"]["version"]
        for folder in (ROOT, PACKAGE)
    }

    assert len(versions) == 1
