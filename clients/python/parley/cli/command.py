"""Every command: the options that all have, before or behind its name, and how it ends."""

from __future__ import annotations

import asyncio
import inspect
import os
import sys
import typing
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any, Concatenate, Final, ParamSpec, TypeAlias

import typer

from parley.cli.outcome import Exit, Failure
from parley.cli.screen import Screen
from parley.cli.settings import VARIABLES, Given, Settings
from parley.client import DEFAULT_URL

P = ParamSpec("P")
_PANEL: Final = "Connection and output"


def _option(*names: str, text: str, variable: str = "", metavar: str | None = None) -> Any:
    told = f"{text} (env: {variable})" if variable else text
    return typer.Option(*names, help=told, rich_help_panel=_PANEL, metavar=metavar)


def _text(name: str, text: str, metavar: str) -> Any:
    names = ["--nkey", "--nkey-seed"] if name == "nkey" else [f"--{name.replace('_', '-')}"]
    option = _option(*names, text=text, variable=VARIABLES[name], metavar=metavar)
    return Annotated[str | None, option]


_COMMON: Final[dict[str, Any]] = {
    "url": _text("url", f"NATS, or several with commas between; else {DEFAULT_URL}", "URL"),
    "user": _text("user", "a login", "NAME"),
    "password": _text("password", "its password", "TEXT"),
    "token": _text("token", "a conversation token, in the place of a login", "JWT"),
    "creds": _text("creds", "a file of credentials", "FILE"),
    "nkey": _text("nkey", "the seed of an nkey", "SEED"),
    "ca": _text("ca", "the authority of the server's certificate", "FILE"),
    "cert": _text("cert", "a certificate of our own", "FILE"),
    "key": _text("key", "its key", "FILE"),
    "inbox_prefix": _text("inbox_prefix", "where answers may come", "SUBJECT"),
    "timeout": Annotated[
        float | None,
        typer.Option(
            "--timeout", help="seconds for an answer; else 30", rich_help_panel=_PANEL, min=0.1
        ),
    ],
    "json": Annotated[bool, _option("--json", text="one JSON value a line, and nothing else")],
}


@dataclass(frozen=True, slots=True)
class Cli:
    """What a command is given besides its own options."""

    settings: Settings
    screen: Screen


Verb: TypeAlias = Callable[Concatenate[Cli, P], Awaitable[int | None]]


def group(app: typer.Typer, text: str, **more: Any) -> None:
    """Gives a group of commands the common options, too."""

    def callback(**values: Any) -> None:
        ctx: typer.Context = values["ctx"]
        ctx.obj = _given(values).over(_before(ctx))

    _sign(callback, [], text)
    app.callback(**more)(callback)


def command(app: typer.Typer, name: str) -> Callable[[Verb[P]], Verb[P]]:
    """Makes a command of a coroutine function, whose first argument is a `Cli`."""

    def register(verb: Verb[P]) -> Verb[P]:
        def runs(**values: Any) -> None:
            ctx: typer.Context = values["ctx"]
            given = _given(values).over(_before(ctx))
            own = {key: value for key, value in values.items() if key not in {*_COMMON, "ctx"}}
            status = run_to_end(lambda cli: verb(cli, **own), given)  # type: ignore[call-arg]
            raise typer.Exit(int(status))

        hints = typing.get_type_hints(verb, include_extras=True)
        own = [
            parameter.replace(annotation=hints[parameter.name])
            for parameter in list(inspect.signature(verb).parameters.values())[1:]
        ]
        _sign(runs, own, verb.__doc__ or "")
        app.command(name)(runs)
        return verb

    return register


def run_to_end(verb: Callable[[Cli], Awaitable[int | None]], given: Given) -> int:
    """The exit status; whatever goes wrong is told, never raised."""
    screen = Screen(json=given.json)

    async def work() -> int:
        return await verb(Cli(Settings.of(given, os.environ), screen)) or Exit.DONE

    try:
        status = asyncio.run(work())
        sys.stdout.flush()
    except KeyboardInterrupt:
        _quietly(screen.note, "interrupted")
        return Exit.INTERRUPTED
    except BrokenPipeError:
        return _nobody_reads()
    except Exception as exc:  # noqa: BLE001  the one place where everything is caught
        failure = Failure.of(exc)
        _quietly(screen.fail, failure)
        return failure.status
    return status


def _quietly(say: Callable[[Any], None], what: object) -> None:
    try:
        say(what)
    except OSError:
        _nobody_reads()


def _nobody_reads() -> int:
    """What is still buffered would be written at the very end, and complain."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    return Exit.PIPE


def _given(values: dict[str, Any]) -> Given:
    return Given(**{name: values[name] for name in _COMMON})


def _before(ctx: typer.Context) -> Given:
    """What stood in front of the command's name."""
    return ctx.obj if isinstance(ctx.obj, Given) else Given()


def _sign(function: Callable[..., None], own: list[inspect.Parameter], text: str) -> None:
    """Typer reads a signature: ours has the command's own parameters and the common ones."""
    keyword = inspect.Parameter.KEYWORD_ONLY
    common = [
        inspect.Parameter(name, keyword, default=False if name == "json" else None, annotation=hint)
        for name, hint in _COMMON.items()
    ]
    ctx = inspect.Parameter("ctx", keyword, annotation=typer.Context)
    parameters = [ctx, *(each.replace(kind=keyword) for each in own), *common]
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    function.__annotations__ = {each.name: each.annotation for each in parameters}
    function.__doc__ = text
