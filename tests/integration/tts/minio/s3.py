"""What the tests of the object store share: settings, and a server that answers as told."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from local.s3_server import S3Server
from services.tts.config import MinioSettings

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator

BUCKET = "parley-audio"


def settings(endpoint: str, **changes: object) -> MinioSettings:
    whole = MinioSettings(
        endpoint=endpoint,
        public_endpoint=None,
        access_key=S3Server.access_key,
        secret_key=S3Server.secret_key,
        bucket=BUCKET,
        secure=False,
        public_secure=False,
        region="us-east-1",
        presign=60,
        patience=2,
        give_up=3600,
    )
    return replace(whole, **changes)  # type: ignore[arg-type]  # each test knows its fields


@contextmanager
def answering(
    answer: Callable[[str], tuple[int, bytes]],
    bytes_per_second: int = 0,
    tls: ssl.SSLContext | None = None,
) -> Iterator[str]:
    """A server that takes every PUT in and answers as it is told, by path; gives its address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def respond(self) -> None:
            left = int(self.headers.get("Content-Length", 0))
            pace = bytes_per_second // 50
            while left > 0:
                left -= len(self.rfile.read(min(left, pace or left)))
                if pace:
                    threading.Event().wait(0.02)
            status, body = answer(self.path)
            self.send_response(status)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_PUT = do_POST = do_HEAD = respond  # noqa: N815

        def log_message(self, *args: object) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        # What the kernel takes in for a slow reader would hide that it is slow.
        httpd.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        if tls is not None:
            httpd.socket = tls.wrap_socket(httpd.socket, server_side=True)
        thread = threading.Thread(target=httpd.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"127.0.0.1:{httpd.server_address[1]}"
        finally:
            httpd.shutdown()
            thread.join()
