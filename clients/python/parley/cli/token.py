"""`parley token`: a conversation token for a client that is not trusted."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer

from parley.cli.command import Cli
from parley.cli.outcome import Exit
from parley.cli.settings import read_file
from parley.errors import InvalidRequest
from parley.tokens import MAX_SECONDS, RIGHTS, claims_of, mint

_VARIABLE: Final = "ACCESS_KEYS_FILE"


async def token(
    cli: Cli,
    *,
    conversation: Annotated[
        list[str],
        typer.Option("-c", "--conversation", help="That it opens; may be repeated.", metavar="C"),
    ],
    seed_file: Annotated[
        Path,
        typer.Option(
            help="The key of a backend: the first line of it that is a seed.",
            envvar=_VARIABLE,
            metavar="FILE",
        ),
    ],
    sub: Annotated[str, typer.Option(help="Who it is for, as it stands in logs.")] = "parley",
    may: Annotated[
        list[str] | None,
        typer.Option(
            help=f"What it allows, of {', '.join(RIGHTS)}; may be repeated. Else all but delete.",
            metavar="RIGHT",
        ),
    ] = None,
    seconds: Annotated[
        int, typer.Option("--seconds", "--ttl", min=1, max=MAX_SECONDS, help="How long it is good.")
    ] = 3600,
) -> int:
    """Mint a conversation token, signed with a backend's seed; nothing is connected."""
    rights = [name for each in may or RIGHTS[:-1] for name in each.split(",")]
    made = mint(_seed(seed_file), conversation, sub=sub, may=rights, seconds=seconds)
    claims = claims_of(made)
    cli.screen.value({"type": "token", "token": made, "claims": msgspec.to_builtins(claims)})
    cli.screen.line(made)
    return Exit.DONE


def _seed(path: Path) -> str:
    """Raises InvalidRequest."""
    for line in read_file(path, "--seed-file").splitlines():
        key = line.partition("#")[0].strip()
        if key.startswith("S"):
            return key
    raise InvalidRequest(f"--seed-file: {path} has no seed (a line that begins with S)")
