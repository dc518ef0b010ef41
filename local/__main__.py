"""`python -m local`: starts NATS, an S3 server and the emulated provider, prints the environment.

The lines on standard output can be pasted into a shell, or sourced from a file:

    python -m local > environment &
    . ./environment && python -m services.chat
"""

from __future__ import annotations

import argparse
import asyncio
import shlex
import sys
from pathlib import Path
from typing import Any

from local.process import NotStarted
from local.stack import Ports, Stack, stop_signals

_SECRET = "TOGETHER_API_KEY"  # noqa: S105 - its name, not its value


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m local", description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, help="keep the data here; without it, it is temporary")
    parser.add_argument("--nats-port", type=int, default=0, help="0: a free one")
    parser.add_argument("--s3-port", type=int, default=0, help="0: a free one")
    parser.add_argument("--s3", choices=("minio", "seaweedfs"), help="else MinIO if there is one")
    parser.add_argument("--sound", choices=("audible", "computable"), default="audible")
    return parser.parse_args()


async def run(given: argparse.Namespace) -> int:
    stop = stop_signals()
    script: dict[str, Any] = {"speech": {"sound": given.sound}}
    ports = Ports(nats=given.nats_port, s3=given.s3_port)
    stack = Stack(data=given.data, script=script, s3=given.s3, ports=ports)
    starting = asyncio.ensure_future(stack.start())
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            await starting
            _tell(stack)
            await stopping
    except NotStarted as exc:
        print(exc, file=sys.stderr)
        return 1
    finally:
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await stack.close()
    return 0


def _tell(stack: Stack) -> None:
    for name, value in stack.environment().items():
        real = name == _SECRET and stack.emulator is None
        if not real:  # the caller has it already, and it belongs in no log
            print(f"export {name}={shlex.quote(value)}")
    print(f"# NATS for browsers: {stack.nats.ws_url}")
    print(f"# storage: {stack.s3.kind}; logs: {stack.logs}")
    if stack.emulator is not None:
        print(f"# the emulated provider's script: {stack.emulator.control_url}/script")
    print("# Ctrl-C stops everything.", flush=True)


if __name__ == "__main__":
    sys.exit(asyncio.run(run(arguments())))
