"""How a process ends: by a signal, with a status, and a wrong setting in one line."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import sys
from typing import TYPE_CHECKING, Any, Final

from shared.nats.provision import Mismatch
from shared.process.settings import BadSetting

if sys.platform == "win32":
    from asyncio import new_event_loop
else:
    from uvloop import new_event_loop

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_SETTINGS: Final = 2


def set_by_signals(stop: asyncio.Event) -> None:
    """SIGTERM and SIGINT set it, from now on."""
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)


async def unless_stopped(work: Awaitable[Any], stop: asyncio.Event) -> bool:
    """Runs `work` unless `stop` comes first; True when it was done."""
    task = asyncio.ensure_future(work)
    stopped = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            await task
            return True
        return False
    finally:
        for each in (task, stopped):
            if not each.done():
                each.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await each


def run(main: Callable[[], Coroutine[Any, Any, int]]) -> int:
    """Runs `main` to its exit status; a bad setting is one line and status 2."""
    gc.freeze()  # what is there by now stays for good: no collection has to walk it again
    gc.enable()
    try:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            return runner.run(main())
    except (BadSetting, Mismatch) as exc:
        # Standard error, one line, also when logs are JSON: a person is reading this.
        sys.stderr.write(f"{exc}\n")
        return EXIT_SETTINGS
    except KeyboardInterrupt:
        return EXIT_OK
