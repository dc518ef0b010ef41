"""Who may do what on the stack's nats-server: the accounts of deploy/nats, with secrets of its own.

A program on this machine needs no login and may do everything, as on a bare server. By WebSocket
there comes any page that a browser shows: it has to be one of ours, and to show a token.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from typing import TYPE_CHECKING, Final

from local.process import ROOT, NotStarted
from local.tokens import mint

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_DEPLOY: Final = ROOT / "deploy"
_PARLEY: Final = "PARLEY {\n    jetstream: enabled\n    users: ["
_ANYBODY: Final = "local"  # what a program without a login is called
_MAKE_SECONDS: Final = 30.0


def websocket(origins: Sequence[str]) -> str:
    """Of that part of the server's configuration: whose pages may connect; without any, no page."""
    if not origins:
        return "same_origin: true"  # the server itself has no pages
    return f"allowed_origins: {json.dumps(list(origins))}"


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
        password = os.urandom(16).hex()
        login = f'{{ user: {_ANYBODY}, password: "{password}", allowed_connection_types: $BY_TCP }}'
        users.write_text(text.replace(_PARLEY, f"{_PARLEY}\n      {login}"), encoding="utf-8")

    def login(self, user: str) -> dict[str, str]:
        """What the environment of a service says of it."""
        password = (self.secrets / f"nats_{user}").read_text(encoding="utf-8").strip()
        return {"NATS_USER": user, "NATS_PASSWORD": password}

    def guard(self) -> dict[str, str]:
        """What the access service needs besides."""
        return {
            "ACCESS_KEYS_FILE": str(self.secrets / "access_keys"),
            "ACCESS_ISSUER_SEED_FILE": str(self.secrets / "access_issuer_seed"),
        }

    def token(self, conversation_id: str) -> str:
        """What the page shows in the place of a login."""
        seed = (self.secrets / "access_keys").read_text(encoding="utf-8").split()[0]
        return mint(seed, conversation_id)
