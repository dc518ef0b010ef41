"""An authority of a test's own, and the certificates that it signs."""

from __future__ import annotations

import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

from shared.process.settings import NatsSettings


@dataclass(frozen=True)
class Authority:
    """Made by openssl, in a folder: `ca.crt`, and `<name>.crt` with `<name>.key` for each name."""

    folder: Path

    @classmethod
    def make(cls, folder: Path) -> Authority:
        folder.mkdir(parents=True, exist_ok=True)
        made = cls(folder)
        key, certificate = folder / "ca.key", folder / "ca.crt"
        _openssl(
            *("req", "-x509", *_NEW_KEY, "-days", "1", "-subj", "/CN=Parley"),
            *("-keyout", str(key), "-out", str(certificate)),
        )
        return made

    def sign(self, name: str) -> NatsSettings:
        """A new certificate of that name, for this machine's own address."""
        key, request = self.folder / f"{name}.key", self.folder / f"{name}.csr"
        _openssl(
            *("req", "-new", *_NEW_KEY, "-subj", f"/CN={name}"),
            *("-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"),
            *("-keyout", str(key), "-out", str(request)),
        )
        certificate = self.folder / f"{name}.crt"
        _openssl(
            *("x509", "-req", "-in", str(request), "-days", "1", "-copy_extensions", "copy"),
            *("-CA", str(self.ca), "-CAkey", str(self.folder / "ca.key")),
            *("-out", str(certificate)),
        )
        return NatsSettings(servers=(), ca=str(self.ca), cert=str(certificate), key=str(key))

    @property
    def ca(self) -> Path:
        return self.folder / "ca.crt"

    def trusted(self) -> ssl.SSLContext:
        """Of a client that shows no certificate."""
        return ssl.create_default_context(cafile=str(self.ca))


_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


def _openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)
