"""Who may do what on the stack's nats-server: the accounts of deploy/nats, with secrets of its own.

A program on this machine needs no login and may do everything, as on a bare server. By WebSocket
there comes any page that a browser shows: without a login that is an application like others.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from typing import TYPE_CHECKING, Final

from local.process import ROOT, NotStarted

if TYPE_CHECKING:
    from pathlib import Path

WEBSOCKET: Final = "no_auth_user: client"
_DEPLOY: Final = ROOT / "deploy"
_PARLEY: Final = "PARLEY {\n    jetstream: enabled\n    users: ["
_ANYBODY: Final = "local"  # what a program without a login is called
_MAKE_SECONDS: Final = 30.0


class Accounts:
    """The files that the server includes, in `folder`, which nobody else may look into."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.secrets = folder / "secrets"

    @property
    def config(self) -> str:
        """For NatsServer, whose own file is in a folder below the one for temporary ones."""
        users = os.path.relpath(self._folder / "users.conf", tempfile.gettempdir())
        return f'include "../{users}"\nno_auth_user: {_ANYBODY}'

    def prepare(self) -> None:
        """Writes them; secrets that are there stay.

        Raises: NotStarted.
        """
        made = self.secrets / "callout.conf"
        words = ["--app", "client"] if made.exists() else []
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        ended = subprocess.run(
            [_DEPLOY / "secrets" / "make.sh", *words, self.secrets],
            capture_output=True,
            text=True,
            check=False,
            timeout=_MAKE_SECONDS,
        )
        if ended.returncode:
            raise NotStarted(f"no secrets could be made for NATS: {ended.stderr.strip()}")
        for file in (_DEPLOY / "nats").glob("*.conf"):
            shutil.copy(file, self._folder)
        self._let_programs_in()

    def _let_programs_in(self) -> None:
        """A user more, without limits; its password is nobody's, for it needs none."""
        users = self._folder / "users.conf"
        text = users.read_text(encoding="utf-8")
        if _PARLEY not in text:
            raise NotStarted(f"{_DEPLOY}/nats/users.conf has no account PARLEY as it used to be")
        callout = self.secrets / "callout.conf"
        told = callout.read_text(encoding="utf-8")
        if f" {_ANYBODY}," not in told:  # who is not named here has to show a token
            told = told.replace("auth_users: [", f"auth_users: [ {_ANYBODY}, ")
            callout.chmod(0o600)
            callout.write_text(told, encoding="utf-8")
        login = f'{{ user: {_ANYBODY}, password: "{os.urandom(16).hex()}" }}'
        users.write_text(text.replace(_PARLEY, f"{_PARLEY}\n      {login}"), encoding="utf-8")

    def login(self, user: str) -> dict[str, str]:
        """What the environment of a service says of it."""
        password = (self.secrets / f"nats_{user}").read_text(encoding="utf-8").strip()
        return {"NATS_USER": user, "NATS_PASSWORD": password}
