"""`python -m services.chat`"""

from __future__ import annotations

import gc
import os
import sys

gc.disable()  # until `run`: modules are no garbage, and looking for some is a sixth of the start

from services.chat.app import ChatWorker
from services.chat.config import Config
from shared.process import failpoints
from shared.process.ending import run
from shared.process.lifecycle import serve


async def main() -> int:
    config = Config.from_env(os.environ)
    failpoints.arm(os.environ)
    return await serve(
        "chat",
        ChatWorker(config),
        process=config.process,
        nats_settings=config.nats,
        retention=config.retention,
    )


if __name__ == "__main__":
    sys.exit(run(main))
