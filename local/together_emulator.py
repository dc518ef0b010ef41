"""A stand-in for the provider's two endpoints, written from its documents alone.

    python -m local.together_emulator --port 0 --script script.json

prints one line of JSON with its addresses when it listens, and runs until SIGTERM. What it
answers and what goes wrong is a script (scripts.py), which can be changed while it runs:

    GET, PUT  /emulator/script         the script; PUT changes what it names
    POST      /emulator/faults         one more fault; answers its id
    GET       /emulator/faults         all of them, with how often each hit
    DELETE    /emulator/faults/{id}
    POST      /emulator/reset          the first script again, everything else forgotten
    GET       /emulator/record         what it was asked (?match=text, ?totals=1)
    DELETE    /emulator/record
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from aiohttp import web

from local import scripts
from local.emulated_chat import EmulatedChat
from local.emulated_speech import EmulatedSpeech
from local.record import Record
from local.scripts import BadScript, Fault, Faults, Script

if TYPE_CHECKING:
    from types import TracebackType

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
        script: Script | dict[str, Any] | None = None,
        *,
        port: int = 0,
        host: str = "127.0.0.1",
    ) -> None:
        self._first = script if isinstance(script, Script) else scripts.script(script or {})
        self.script = self._first
        self.record = Record()
        self.faults = Faults()
        self._chat = EmulatedChat(self.faults, self.record)
        self._speech = EmulatedSpeech(self.faults, self.record)
        self._host, self._port = host, port
        self._runner: web.AppRunner | None = None
        self.reset()

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

    def change(self, data: dict[str, Any] | Script) -> None:
        """Changes what `data` names; faults are replaced as a whole, and their counts begin anew.

        Raises: BadScript.
        """
        if isinstance(data, Script):
            self._load(data, faults=True)
        else:
            self._load(
                scripts.changed(self.script, data), faults=bool({"faults", "seed"} & set(data))
            )

    def _load(self, script: Script, *, faults: bool) -> None:
        if script.chat.replies != self.script.chat.replies:
            self._chat.rewind()
        self.script = script
        self._chat.load(script.chat)
        self._speech.load(script.speech)
        if faults:
            self.faults.load(script.faults, script.seed)

    def add_fault(self, fault: Fault | dict[str, Any]) -> int:
        """One more fault, after all others; the answer is its id.

        Raises: BadScript.
        """
        return self.faults.add(fault if isinstance(fault, Fault) else scripts.fault(fault))

    def remove_fault(self, number: int) -> bool:
        return self.faults.remove(number)

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
        app = web.Application(client_max_size=_LARGEST_BODY)
        app.add_routes(
            [
                web.post("/v1/chat/completions", self._chat.handle),
                web.get("/v1/audio/speech/websocket", self._speech.handle),
                web.get("/v1/models", _models),
                web.get("/healthz", _healthy),
                web.get("/emulator/script", self._get_script),
                web.put("/emulator/script", self._put_script),
                web.get("/emulator/faults", self._get_faults),
                web.post("/emulator/faults", self._post_fault),
                web.delete("/emulator/faults/{id:[0-9]+}", self._delete_fault),
                web.post("/emulator/reset", self._post_reset),
                web.get("/emulator/record", self._get_record),
                web.delete("/emulator/record", self._delete_record),
            ]
        )
        return app

    # ------------------------------------------------------------ control

    async def _get_script(self, _request: web.Request) -> web.Response:
        return web.json_response({**self.script.as_json(), "faults": self.faults.as_json()})

    async def _put_script(self, request: web.Request) -> web.Response:
        try:
            self.change(_object(await request.read()))
        except BadScript as exc:
            return web.json_response({"error": str(exc)}, status=400)
        return await self._get_script(request)

    async def _get_faults(self, _request: web.Request) -> web.Response:
        return web.json_response(self.faults.as_json())

    async def _post_fault(self, request: web.Request) -> web.Response:
        try:
            number = self.add_fault(_object(await request.read()))
        except BadScript as exc:
            return web.json_response({"error": str(exc)}, status=400)
        return web.json_response({"id": number}, status=201)

    async def _delete_fault(self, request: web.Request) -> web.Response:
        found = self.remove_fault(int(request.match_info["id"]))
        return web.json_response({"removed": found}, status=200 if found else 404)

    async def _post_reset(self, request: web.Request) -> web.Response:
        self.reset()
        return await self._get_script(request)

    async def _get_record(self, request: web.Request) -> web.Response:
        if request.query.get("totals"):
            return web.json_response(asdict(self.record.totals))
        return web.json_response(self.record.as_json(request.query.get("match", "")))

    async def _delete_record(self, _request: web.Request) -> web.Response:
        self.record.clear()
        return web.json_response({})


def _object(body: bytes) -> dict[str, Any]:
    try:
        data = json.loads(body)
    except ValueError as exc:
        raise BadScript(f"not JSON: {exc}") from exc
    if not isinstance(data, dict):
        raise BadScript("must be an object")
    return data


async def _models(_request: web.Request) -> web.Response:
    return web.json_response(
        [{"id": name, "object": "model", "type": kind} for name, kind in _MODELS]
    )


async def _healthy(_request: web.Request) -> web.Response:
    return web.json_response({"status": "ok"})


def _script(arguments: argparse.Namespace) -> Script:
    """From the file, else from EMULATOR_SCRIPT, else the defaults."""
    text = "{}"
    if arguments.script:
        text = Path(arguments.script).read_text(encoding="utf-8")
    elif given := os.environ.get("EMULATOR_SCRIPT"):
        text = given
    script = scripts.script(_object(text.encode()))
    if arguments.sound:
        return scripts.changed(script, {"speech": {"sound": arguments.sound}})
    return script


async def _run(arguments: argparse.Namespace, script: Script) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with Emulator(script, port=arguments.port, host=arguments.host) as emulator:
        # What is loaded by now lives as long as the process: no need to look at it again.
        gc.freeze()
        addresses = {
            "base_url": emulator.base_url,
            "tts_url": emulator.tts_url,
            "control_url": emulator.control_url,
            "port": emulator.port,
            "pid": os.getpid(),
        }
        print(json.dumps(addresses), flush=True)
        await stop.wait()


def main() -> int:
    """Exit status 2 with one line for a script that is wrong or a port that is taken."""
    parser = argparse.ArgumentParser(prog="python -m local.together_emulator")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: a free one")
    parser.add_argument("--script", help="JSON file; without it the variable EMULATOR_SCRIPT")
    parser.add_argument("--sound", choices=("audible", "computable"))
    arguments = parser.parse_args()
    try:
        script = _script(arguments)
    except (BadScript, OSError) as exc:
        print(f"the emulator's script: {exc}", file=sys.stderr)
        return 2
    try:
        asyncio.run(_run(arguments, script))
    except OSError as exc:
        print(f"the emulator cannot listen on port {arguments.port}: {exc}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
