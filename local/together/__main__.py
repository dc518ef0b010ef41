"""A stand-in for the provider's two endpoints, written from its documents alone.

    python -m local.together --port 0 --script script.json

prints one line of JSON with its addresses when it listens, and runs until SIGTERM. What it answers
and what goes wrong is a script (script.py), which can be changed while it runs (control.py).
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import signal
import sys
from pathlib import Path

from local.together import script as scripts
from local.together.control import json_object
from local.together.emulator import Emulator
from local.together.script import BadScript, Script


def _script(arguments: argparse.Namespace) -> Script:
    """From the file, else from EMULATOR_SCRIPT, else the defaults."""
    text = "{}"
    if arguments.script:
        text = Path(arguments.script).read_text(encoding="utf-8")
    elif given := os.environ.get("EMULATOR_SCRIPT"):
        text = given
    script = scripts.script(json_object(text.encode()))
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
    parser = argparse.ArgumentParser(prog="python -m local.together")
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
