"""`python -m tests.forkserver <fd> <module>`: forks processes that run the module.

An interpreter that starts and imports a service takes more than a second of processor; here that is
done once, and a fork of it takes a hundredth. What is forked belongs to whoever asked (who is a
subreaper for that moment), so that it is waited for, frozen and killed as any child is.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import sys
import time
from typing import Any

gc.disable()  # as the services do: what is imported is no garbage, and stays shared by the forks

_PR_SET_PDEATHSIG = 1
_REQUEST_BYTES = 1 << 20
_FILES = 3
# Imported beforehand, as far as that runs nothing.
_IMPORTS = {"parley": ("parley.__main__", "parley.cli.main")}


def _asked(connection: socket.socket, parent: int) -> dict[str, Any]:
    """What to become; it returns in a child only, and ends with whoever asks."""
    while True:
        data, files, _, _ = socket.recv_fds(connection, _REQUEST_BYTES, _FILES)
        if not data:
            os._exit(0)
        if middle := os.fork():
            for file in files:
                os.close(file)
            os.waitpid(middle, 0)
            continue
        middle = os.getpid()
        if os.fork():
            os._exit(0)  # from now on the child's parent is who asked
        while os.getppid() == middle:
            time.sleep(0.0002)
        # It never outlives its parent.
        request: dict[str, Any] = json.loads(data)
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, request["orphan_signal"], 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)
        os.setsid()
        for number, file in enumerate(files):
            os.dup2(file, number)
        connection.send(str(os.getpid()).encode())
        os.closerange(_FILES, max(*files, connection.fileno()) + 1)
        connection.detach()
        return request


def main() -> None:
    descriptor, module = int(sys.argv[1]), sys.argv[2]
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    for name in _IMPORTS.get(module, (f"{module}.__main__",)):
        importlib.import_module(name)
    sys.modules.pop(f"{module}.__main__")  # it runs as the program, not as a module
    gc.freeze()
    request = _asked(socket.socket(fileno=descriptor), parent)
    os.environ.clear()
    os.environ.update(request["environ"])
    if request["cwd"]:
        os.chdir(request["cwd"])
    sys.argv = [module, *request["words"]]
    gc.enable()
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
