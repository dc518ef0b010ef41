"""`python -m services.access`; with `token` it mints one, with `seed` it makes a key."""

from __future__ import annotations

import argparse
import os
import secrets
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from services.access.app import serve
from services.access.config import Config, keys_in
from services.access.nkey import SigningKey, account_seed
from services.access.token import Claims, May, mint
from shared.contract import ID_RULE, is_id
from shared.process.ending import EXIT_OK, EXIT_SETTINGS, run
from shared.process.settings import BadSetting, Env

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ID_BYTES: Final = 16  # nobody guesses the id of a conversation
MINUTES: Final = 60
# What a page needs; to delete has to be said.
USUAL: Final = (May.ASK, May.CANCEL, May.HISTORY, May.LISTEN)


async def main() -> int:
    return await serve(Config.from_env(os.environ))


def arguments(given: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m services.access", description=__doc__)
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("seed", help="a new key: its seed, and in a comment what is public of it")
    token = commands.add_parser(
        "token", help="a conversation token, signed with the first seed of ACCESS_KEYS_FILE"
    )
    token.add_argument("--sub", default="somebody", help="who it is for; it stands in logs")
    token.add_argument(
        "--conversation", action="append", metavar="ID", help="may be repeated; else a new one"
    )
    token.add_argument("--may", action="append", choices=[*May], help="may be repeated")
    token.add_argument("--minutes", type=float, default=MINUTES)
    return parser.parse_args(given)


def new_seed() -> str:
    seed = account_seed(secrets.token_bytes(32))
    return f"{seed}  # {SigningKey.from_seed(seed).public}"


def new_token(given: argparse.Namespace, environ: Mapping[str, str]) -> str:
    """Raises BadSetting."""
    signing = keys_in(Path(Env(environ).text("ACCESS_KEYS_FILE"))).signing
    if signing is None:
        raise BadSetting("ACCESS_KEYS_FILE: it holds no seed (S…), only public keys")
    conversations = given.conversation or [secrets.token_hex(ID_BYTES)]
    if not all(is_id(each) for each in conversations):
        raise BadSetting(f"--conversation: an id is {ID_RULE}")
    exp = int(time.time() + given.minutes * 60)
    may = [May(each) for each in given.may or USUAL]
    return mint(Claims(given.sub, exp, conversations, may), signing)


def command(given: argparse.Namespace, environ: Mapping[str, str]) -> int:
    try:
        print(new_seed() if given.command == "seed" else new_token(given, environ))  # noqa: T201  a command line
    except BadSetting as exc:
        print(exc, file=sys.stderr)  # noqa: T201  a command line
        return EXIT_SETTINGS
    return EXIT_OK


if __name__ == "__main__":
    asked = arguments(sys.argv[1:])
    sys.exit(command(asked, os.environ) if asked.command else run(main))
