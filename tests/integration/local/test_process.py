"""One server process: what is said when it fails, and that it ends whatever it does."""

from __future__ import annotations

import signal
import socket
import sys
from typing import TYPE_CHECKING

import pytest

from local.process import NotStarted, Process, until
from local.wheel import program

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

LASTING = "import time; print('listening', flush=True); time.sleep(60)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {LASTING}"
LISTENING = """
import socket, sys, time
server = socket.socket()
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
try:
    server.bind(("127.0.0.1", int(sys.argv[1])))
    server.listen()
except OSError as exc:
    sys.exit(str(exc).lower())
print("listening", flush=True)
time.sleep(60)
"""


class Python(Process):
    """A program that is ready when it says so."""

    def __init__(self, folder: Path, *words: str) -> None:
        super().__init__("server", log=folder / "logs" / "server.log")
        self.words = ["-c", *words]
        self.taken: list[str] = []

    def _command(self) -> Sequence[str]:
        return [sys.executable, *self.words]

    async def _is_ready(self) -> bool:
        return "listening" in self.said()

    def _may_move(self, taken: str) -> bool:
        self.taken.append(taken)
        return super()._may_move(taken)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Callable[..., Python]]:
    made: list[Python] = []

    def new(*words: str) -> Python:
        made.append(Python(tmp_path, *words))
        return made[-1]

    yield new
    for one in made:
        await one.kill()
        await one.close()


async def test_one_that_ignores_the_request_to_end_is_killed(
    server: Callable[..., Python],
) -> None:
    one = server(STUBBORN)
    await one.start()
    with pytest.raises(NotStarted, match="runs already"):
        one.spawn()
    await one.stop(0.1)
    assert one.status == -signal.SIGKILL
    await one.stop(0.1)  # again does no harm


async def test_one_that_is_frozen_is_stopped_all_the_same(
    server: Callable[..., Python],
) -> None:
    one = server(LASTING)
    await one.start()
    one.freeze()
    await one.stop(5)
    assert await one.ended(5) == -signal.SIGTERM


async def test_one_that_ends_early_says_its_last_words(server: Callable[..., Python]) -> None:
    one = server("raise SystemExit('no disk')")
    with pytest.raises(NotStarted, match=r"ended with status 1[\s\S]*no disk"):
        await one.start()


async def test_what_an_earlier_run_said_is_not_taken_for_ready(
    server: Callable[..., Python],
) -> None:
    one = server(LASTING)
    await one.start()
    await one.kill()
    one.words = ["-c", "raise SystemExit('no disk')"]
    with pytest.raises(NotStarted, match="no disk") as caught:
        await one.restart()
    assert "listening" not in str(caught.value)
    assert "listening" in one.log.read_text()


async def test_one_that_is_never_ready_is_stopped(server: Callable[..., Python]) -> None:
    one = server("import time; time.sleep(60)")
    one.spawn()
    with pytest.raises(NotStarted, match=r"not ready within 0\.1 s"):
        await one.ready(0.1)
    assert not one.running


async def test_its_folder_goes_with_it(server: Callable[..., Python]) -> None:
    one = server(LASTING)
    async with one:
        assert one.folder.is_dir()
        pid = one.pid
        await one.restart()
        assert one.pid != pid
    assert not one.folder.exists()
    assert not one.running


async def test_a_port_that_it_had_is_asked_for_until_it_is_free(
    server: Callable[..., Python],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        newcomer = server(LISTENING, str(port))
        with pytest.raises(NotStarted, match="address already in use"):
            await newcomer.start()
        assert len(newcomer.taken) == 1
    await newcomer.start()
    await newcomer.kill()
    with socket.create_server(("127.0.0.1", port)) as other:

        def leave(taken: str) -> bool:
            assert "address already in use" in taken
            other.close()
            return True

        newcomer._may_move = leave  # type: ignore[method-assign]  # it goes at the first try
        await newcomer.restart()
    assert newcomer.running


async def test_a_program_that_does_not_exist_is_named(tmp_path: Path) -> None:
    class Nowhere(Python):
        def _command(self) -> Sequence[str]:
            return ["/nowhere/server"]

    one = Nowhere(tmp_path)
    with pytest.raises(NotStarted, match="cannot execute /nowhere/server"):
        await one.start()
    with pytest.raises(NotStarted, match="start it first"):
        _ = one.pid
    assert await until(lambda: not one.running, 1)
    await one.close()


def test_a_wheel_that_is_missing_is_named() -> None:
    with pytest.raises(NotStarted, match="pip install no-such-wheel"):
        program("no-such-program", "no-such-wheel")
