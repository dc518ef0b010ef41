"""The commands, put together."""

from __future__ import annotations

import os
import sys
from typing import Final

import typer

from parley.cli import ask, bench, chat, dead, doctor, history, tail, token
from parley.cli.command import command, group
from parley.cli.outcome import MEANINGS, Exit, Failure
from parley.cli.screen import Screen

_HELP: Final = """Talk to Parley over NATS: ask, listen, interrupt, and look after it.

Options for the connection may stand before or behind the command's name, or in the environment.
"""
_EPILOG: Final = "Exit status: " + "; ".join(
    f"{status.value} {meaning}" for status, meaning in MEANINGS.items()
)

app = typer.Typer(
    name="parley",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=_EPILOG,
)
group(app, _HELP)
command(app, "ask")(ask.ask)
command(app, "chat")(chat.chat)
command(app, "say")(ask.say)
command(app, "history")(history.history)
command(app, "delete")(history.delete)
command(app, "tail")(tail.tail)
command(app, "token")(token.token)
command(app, "doctor")(doctor.doctor)
command(app, "bench")(bench.bench)

_dead = typer.Typer(no_args_is_help=True)
group(_dead, "What could not be done: list, show, retry, drop (with the operator's login).")
command(_dead, "list")(dead.list_dead)
command(_dead, "show")(dead.show)
command(_dead, "retry")(dead.retry)
command(_dead, "drop")(dead.drop)
app.add_typer(_dead, name="dead")


def run() -> int:
    """The exit status, whatever happens."""
    _open_streams()
    try:
        app(prog_name="parley")
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except SystemExit as exc:
        return exc.code if isinstance(exc.code, int) else Exit.FAILED
    except Exception as exc:  # noqa: BLE001  nobody is shown a traceback
        failure = Failure.of(exc)
        Screen(json="--json" in sys.argv).fail(failure)
        return failure.status
    return Exit.DONE


def _open_streams() -> None:
    """Whoever closed one of the three for us, means nobody by it."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            mode = "r" if name == "stdin" else "w"
            nowhere = os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, os.fdopen(nowhere, mode, encoding="utf-8", closefd=nowhere > 2))
            if nowhere != number:
                os.dup2(nowhere, number)
