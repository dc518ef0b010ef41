"""The same client for scripts without asyncio: the same names, without `await`.

>>> from parley.sync import Parley
>>> with Parley.connect(url) as parley:
...     print(parley.ask("Hello!", speech=False).text())
You said: Hello!

A thread of its own keeps the connection and hears what comes; a call waits for it and may be
interrupted by Ctrl-C. What it returns or raises is what `parley` says.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, Concatenate, Final, Generic, ParamSpec, Self, TypeVar

from parley import client, turn

if TYPE_CHECKING:
    from types import TracebackType

    from parley.events import Event
    from parley.follow import Position

P = ParamSpec("P")
T = TypeVar("T")
A = TypeVar("A")

CLOSE_SECONDS: Final = 10.0


class _Loop:
    """A thread with an event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._turn, name="parley", daemon=True)
        self._thread.start()

    def _turn(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Waits for it; whoever stops waiting stops it."""
        future: concurrent.futures.Future[T] = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CLOSE_SECONDS)


class _Facade(Generic[A]):
    """What has an asynchronous twin, and the loop in which that lives."""

    def __init__(self, twin: A, loop: _Loop) -> None:
        self.twin, self.thread = twin, loop


_END: Final = object()


def _waits(
    method: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Any, P], T]:
    """The method, waited for."""

    def call(self: _Facade[Any], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.thread.run(method(self.twin, *args, **kwargs))

    functools.update_wrapper(call, method)
    return call


def _each(
    method: Callable[Concatenate[Any, P], AsyncIterator[T]],
) -> Callable[Concatenate[Any, P], Iterator[T]]:
    """What the method gives, one after the other."""

    def call(self: _Facade[Any], /, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        stream: Any = method(self.twin, *args, **kwargs)
        try:
            while (found := self.thread.run(_next(stream))) is not _END:
                yield found
        finally:
            self.thread.run(stream.aclose())

    functools.update_wrapper(call, method)
    return call


async def _next(stream: Any) -> Any:
    return await anext(stream, _END)


def _turns(
    method: Callable[Concatenate[client.Parley, P], turn.Turn],
) -> Callable[Concatenate[Parley, P], Turn]:
    """The method, whose turn is one of ours."""

    def call(self: Parley, /, *args: P.args, **kwargs: P.kwargs) -> Turn:
        async def begin() -> turn.Turn:
            return method(self.twin, *args, **kwargs)

        return Turn(self.thread.run(begin()), self.thread)

    functools.update_wrapper(call, method)
    return call


def _connecting(method: Callable[P, client.Parley]) -> Callable[P, Parley]:
    """The method, whose client is one of ours, with a thread of its own."""

    def call(*args: P.args, **kwargs: P.kwargs) -> Parley:
        async def make() -> client.Parley:
            return method(*args, **kwargs)

        loop = _Loop()
        try:
            return Parley(loop.run(make()), loop)
        except BaseException:
            loop.close()
            raise

    functools.update_wrapper(call, method)
    return call


class Turn(_Facade[turn.Turn]):
    """As `parley.Turn`; give it to `for`."""

    def __repr__(self) -> str:
        return repr(self.twin)

    @property
    def conversation_id(self) -> str:
        return self.twin.conversation_id

    @property
    def turn_id(self) -> str:
        return self.twin.turn_id

    @property
    def position(self) -> Position | None:
        return self.twin.position

    @property
    def heard_ms(self) -> int | None:
        return self.twin.heard_ms

    def __iter__(self) -> Iterator[Event]:
        return self._all()

    _all = _each(turn.Turn.__aiter__)
    events = _each(turn.Turn.events)
    accepted = _waits(turn.Turn.accepted)
    text = _waits(turn.Turn.text)
    voice = _waits(turn.Turn.voice)
    save = _waits(turn.Turn.save)
    play = _waits(turn.Turn.play)
    cancel = _waits(turn.Turn.cancel)
    link = _waits(turn.Turn.link)


class Parley(_Facade[client.Parley]):
    """As `parley.Parley`; for `with`."""

    def __enter__(self) -> Self:
        try:
            self.thread.run(self.twin.open())
        except BaseException:
            self.thread.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        try:
            self.thread.run(self.twin.close())
        finally:
            self.thread.close()

    connect = staticmethod(_connecting(client.Parley.connect))
    open = __enter__
    ask = _turns(client.Parley.ask)
    follow = _turns(client.Parley.follow)
    say = _turns(client.Parley.say)
    tail = _each(client.Parley.tail)
    listen = _each(client.Parley.listen)
    history = _each(client.Parley.history)
    cancel = _waits(client.Parley.cancel)
    delete = _waits(client.Parley.delete)
    link = _waits(client.Parley.link)
