"""Where the command line connects and as whom: options first, then the environment."""

from __future__ import annotations

import os
import ssl
import urllib.parse
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from parley.client import DEFAULT_URL, Parley
from parley.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

OPERATOR: Final = "operator"
_OPERATORS_INBOX: Final = "_INBOX.parley-operator"
_TRUSTED: Final = "client"  # the application whose inboxes are everybody's default
_LOGINS: Final = ("token", "creds", "nkey", "user")


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What options say, None where they say nothing; secrets are not printed."""

    url: str | None = None
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    creds: str | None = None
    nkey: str | None = field(default=None, repr=False)
    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    inbox_prefix: str | None = None
    timeout: float | None = None
    json: bool = False

    def over(self, other: Given) -> Given:
        """These, and where they say nothing those of the other; of logins there is one."""
        if self._has_login:
            password = None if self.user is None else other.password
            other = replace(other, token=None, creds=None, nkey=None, user=None, password=password)
        found = {name: getattr(self, name) for name in Given.__dataclass_fields__}
        missing = [name for name, value in found.items() if value is None or value is False]
        return replace(self, **{name: getattr(other, name) for name in missing})

    @property
    def _has_login(self) -> bool:
        return any(getattr(self, name) is not None for name in _LOGINS)


# Each option and the variable that says the same.
VARIABLES: Final = {
    "url": "NATS_URL",
    "user": "NATS_USER",
    "password": "NATS_PASSWORD",
    "token": "PARLEY_TOKEN",
    "creds": "NATS_CREDS",
    "nkey": "NATS_NKEY_SEED",
    "ca": "NATS_CA",
    "cert": "NATS_CERT",
    "key": "NATS_KEY",
    "inbox_prefix": "NATS_INBOX_PREFIX",
}


def from_environment(environ: Mapping[str, str]) -> Given:
    """What the environment says; `<NAME>_FILE` reads a value from a file.

    Raises: InvalidRequest, for a file that cannot be read.
    """
    found: dict[str, Any] = {name: _variable(environ, said) for name, said in VARIABLES.items()}
    return Given(**found)


def _variable(environ: Mapping[str, str], name: str) -> str | None:
    if value := environ.get(name):
        return value
    file = environ.get(f"{name}_FILE")
    if not file:
        return None
    return read_file(file, f"{name}_FILE").strip()


def read_file(path: str | Path, what: str) -> str:
    """Raises: InvalidRequest."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as exc:
        raise InvalidRequest(f"{what}: {path} cannot be read: {exc.strerror}") from None
    except UnicodeDecodeError:
        raise InvalidRequest(f"{what}: {path} is no text in UTF-8") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Whatever a command needs to connect."""

    given: Given
    timeout: float = 30.0

    @classmethod
    def of(cls, given: Given, environ: Mapping[str, str]) -> Settings:
        """Raises: InvalidRequest."""
        found = given.over(from_environment(environ))
        timeout = 30.0 if found.timeout is None else found.timeout
        return cls(given=found, timeout=timeout)

    @property
    def url(self) -> str:
        return self.given.url or DEFAULT_URL

    @property
    def kind(self) -> str:
        """By what we are let in: `token`, `creds`, `nkey`, `user`, or "" without a login."""
        return next((name for name in _LOGINS if getattr(self.given, name) is not None), "")

    @property
    def user(self) -> str | None:
        """The one that is named, or the one of the URL."""
        if self.kind in {"user", ""}:
            return self.given.user or urllib.parse.urlsplit(self.url).username
        return None

    @property
    def who(self) -> str:
        """For people."""
        if self.user is not None:
            return f"user {self.user}"
        name = {"token": "a conversation token", "": "without a login"}
        return name.get(self.kind, f"by {self.kind}")

    @property
    def inbox_prefix(self) -> str | None:
        """Where answers come; each user of deploy/nats has inboxes of its own."""
        if self.given.inbox_prefix is not None or self.user is None:
            return self.given.inbox_prefix
        if self.user == OPERATOR:
            return _OPERATORS_INBOX
        return None if self.user == _TRUSTED else f"_INBOX_{self.user}"

    def client(self, *, idle: float = 120.0) -> Parley:
        """Not yet connected. Raises: InvalidRequest."""
        kind = self.kind
        return Parley.connect(
            self.url,
            token=self.given.token if kind == "token" else None,
            creds=self._file("creds") if kind == "creds" else None,
            nkey=self.given.nkey if kind == "nkey" else None,
            user=self.given.user if kind == "user" else None,
            password=self.given.password if kind == "user" else None,
            tls=self._tls(),
            inbox_prefix=self.inbox_prefix,
            name="parley-cli",
            timeout=self.timeout,
            idle=idle,
        )

    def _file(self, name: str) -> str:
        path: str = getattr(self.given, name)
        if not os.access(path, os.R_OK):
            raise InvalidRequest(f"--{name}: {path} cannot be read")
        return path

    def _tls(self) -> ssl.SSLContext | None:
        """None where nothing is said of it: the URL decides."""
        if self.given.ca is None and self.given.cert is None:
            return None
        try:
            context = ssl.create_default_context(cafile=self.given.ca)
            if self.given.cert is not None:
                context.load_cert_chain(self.given.cert, self.given.key)
        except (OSError, ssl.SSLError) as exc:
            raise InvalidRequest(f"--ca, --cert, --key: {exc.strerror or exc}") from None
        return context
