"""Both endpoints of the emulated provider in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from aiohttp import web

from local.together import script
from local.together.chat import EmulatedChat
from local.together.control import routes
from local.together.distance import Distance
from local.together.provider import Provider
from local.together.script import Script
from local.together.speech import EmulatedSpeech

if TYPE_CHECKING:
    from types import TracebackType

    from local.together.faults import Faults
    from local.together.record import Record

_SHUTDOWN_SECONDS = 1.0
_LARGEST_BODY = 64 * 1024 * 1024
_MODELS = (
    ("meta-llama/Llama-3.3-70B-Instruct-Turbo", "chat"),
    ("hexgrad/Kokoro-82M", "audio"),
    ("canopylabs/orpheus-3b-0.1-ft", "audio"),
    ("cartesia/sonic-2", "audio"),
)


class Emulator:
    """Both endpoints in this process.

    async with Emulator({"speech": {"done": "context"}}) as emulator:
        emulator.base_url, emulator.tts_url
        emulator.change({"faults": [{"kind": "chat.status", "status": 429, "times": 1}]})
        emulator.record.chats
    """

    def __init__(
        self,
        first: Script | dict[str, Any] | None = None,
        *,
        port: int = 0,
        host: str = "127.0.0.1",
    ) -> None:
        self._first = first if isinstance(first, Script) else script.script(first or {})
        self.script = self._first
        self._provider = Provider()
        self._chat = EmulatedChat(self._provider)
        self._speech = EmulatedSpeech(self._provider)
        self._distance = Distance(self._provider)
        self._host, self._port = host, port
        self._runner: web.AppRunner | None = None
        self.reset()

    @property
    def record(self) -> Record:
        """What it was asked."""
        return self._provider.record

    @property
    def faults(self) -> Faults:
        """What goes wrong, and how often it did."""
        return self._provider.faults

    # ------------------------------------------------------------ addresses

    @property
    def base_url(self) -> str:
        """For TOGETHER_BASE_URL."""
        return f"http://{self._host}:{self._port}/v1"

    @property
    def tts_url(self) -> str:
        """For TTS_URL."""
        return f"ws://{self._host}:{self._port}/v1/audio/speech/websocket"

    @property
    def port(self) -> int:
        return self._port

    @property
    def control_url(self) -> str:
        return f"http://{self._host}:{self._port}/emulator"

    # ------------------------------------------------------------ behaviour

    def change(self, data: dict[str, Any]) -> None:
        """Changes what `data` names; faults are replaced as a whole, and their counts begin anew.

        Raises: BadScript.
        """
        new = script.changed(self.script, data)
        self._load(new, faults=bool({"faults", "seed"} & set(data)))

    def _load(self, new: Script, *, faults: bool) -> None:
        if new.chat.replies != self.script.chat.replies:
            self._chat.rewind()
        self.script = new
        self._provider.chat, self._provider.speech = new.chat, new.speech
        self._provider.connect_ms = new.connect_ms
        if faults:
            self.faults.load(new.faults, new.seed)

    def add_fault(self, fault: dict[str, Any]) -> int:
        """One more fault, after all others; the answer is its id.

        Raises: BadScript.
        """
        return self.faults.add(script.fault(fault))

    def play_dead(self) -> None:
        """Every speech socket that is open reads, sends and pongs no more, and stays open."""
        self._speech.play_dead()

    def break_sockets(self) -> None:
        """Every speech socket that is open is reset."""
        self._speech.break_all()

    def reset(self) -> None:
        """The first script again, all counts at zero, the record empty."""
        self._chat.rewind()
        self._load(self._first, faults=True)
        self.record.clear()

    # ------------------------------------------------------------ life

    async def start(self) -> None:
        """Returns when it listens."""
        runner = web.AppRunner(
            self._app(),
            handler_cancellation=True,  # a client that goes away is noticed
            access_log=None,
            shutdown_timeout=_SHUTDOWN_SECONDS,
        )
        await runner.setup()
        site = web.TCPSite(runner, self._host, self._port)
        await site.start()
        self._runner = runner
        self._port = int(runner.addresses[0][1])

    async def close(self) -> None:
        """Closes every connection; may be called more than once."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await self._speech.close()
            await runner.cleanup()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    def _app(self) -> web.Application:
        app = web.Application(client_max_size=_LARGEST_BODY, middlewares=[self._distance.late])
        app.add_routes(
            [
                web.post("/v1/chat/completions", self._chat.handle),
                web.get("/v1/audio/speech/websocket", self._speech.handle),
                web.get("/v1/models", _models),
                web.get("/healthz", _healthy),
                *routes(self),
            ]
        )
        return app


async def _models(_request: web.Request) -> web.Response:
    return web.json_response(
        [{"id": name, "object": "model", "type": kind} for name, kind in _MODELS]
    )


async def _healthy(_request: web.Request) -> web.Response:
    return web.json_response({"status": "ok"})
