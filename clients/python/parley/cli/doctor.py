"""`parley doctor`: each part in turn, green or red, with what to do.

It sees as much as the login does: the operator's the streams and consumers, an application's the
services and a whole turn, a token's its own conversation.
"""

from __future__ import annotations

import asyncio
import enum
import time
import urllib.parse
import urllib.request
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Final

import typer

from parley.cli.command import Cli
from parley.cli.jetstream import JetStream, StreamInfo
from parley.cli.outcome import Exit, Failure
from parley.cli.screen import Screen
from parley.client import Parley
from parley.contract import (
    CHAT_DELTA,
    CHAT_DELTAS_STREAM,
    CHAT_INTAKE,
    CHAT_REQUESTS_STREAM,
    CHAT_WORKERS,
    CONVERSATIONS_BUCKET,
    DEAD_LETTERS_STREAM,
    SPEECH_BUCKET,
    TTS_AUDIO_STREAM,
    TTS_REQUESTS_STREAM,
    TTS_WORKERS,
    AudioFailed,
    Done,
    Failed,
    Stored,
    Text,
    of_conversation,
)
from parley.errors import InvalidRequest, NotFound, ParleyError, Unauthorized, from_error
from parley.events import Chunk
from parley.tokens import Claims, claims_of
from parley.wire import NotNow

_REACH_SECONDS: Final = 3.0
_SERVICE_SECONDS: Final = 5.0
_FETCH_SECONDS: Final = 10.0
_FULL, _NEARLY = 0.95, 0.8  # of a stream's limit
_STREAMS: Final = (
    *(CHAT_REQUESTS_STREAM, CHAT_DELTAS_STREAM, TTS_REQUESTS_STREAM, TTS_AUDIO_STREAM),
    *(DEAD_LETTERS_STREAM, f"KV_{CONVERSATIONS_BUCKET}", f"KV_{SPEECH_BUCKET}"),
)
_REFUSES_WHEN_FULL: Final = {
    *(CHAT_REQUESTS_STREAM, TTS_REQUESTS_STREAM),
    *(f"KV_{CONVERSATIONS_BUCKET}", f"KV_{SPEECH_BUCKET}"),
}
_CONSUMERS: Final = (
    (CHAT_REQUESTS_STREAM, CHAT_INTAKE, "chat"),
    (CHAT_REQUESTS_STREAM, CHAT_WORKERS, "chat"),
    (TTS_REQUESTS_STREAM, TTS_WORKERS, "tts"),
)
_LAG: Final = 100  # requests that nobody has taken up
_PORTS: Final = {"ws": 80, "wss": 443}
_PORT: Final = 4222  # of all other schemes
_WORD: Final = "Answer with the single word: ok"


class State(enum.StrEnum):
    """Of a part: `skipped` is what this login cannot see."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


_MARKS: Final = {
    State.OK: ("✔", "green"),
    State.WARNING: ("!", "yellow"),
    State.FAILED: ("✘", "bold red"),
    State.SKIPPED: ("-", "dim"),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """Of one part. `todo`: what to do, where something is wrong."""

    part: str
    state: State
    said: str
    todo: str = ""

    def describe(self) -> dict[str, object]:
        told = {"part": self.part, "state": self.state.value, "said": self.said}
        return {"type": "finding", **told, "todo": self.todo or None}


Findings = AsyncIterator[Finding]


async def doctor(
    cli: Cli,
    *,
    turn: Annotated[
        bool | None,
        typer.Option(
            "--turn/--no-turn",
            help="Ask for one word and have it spoken; else unless it is by a token.",
        ),
    ] = None,
) -> int:
    """Look at each part: reach, login, accounts, streams, consumers, services, provider, store."""
    worst = Exit.DONE
    async for finding in _findings(cli, turn=turn):
        _show(cli.screen, finding)
        if finding.state is State.FAILED:
            worst = Exit.FAILED
    cli.screen.line()
    if worst is Exit.DONE:
        cli.screen.line("All is well, as far as this login sees.", "green")
    else:
        cli.screen.line("Something is wrong; what to do stands above.", "bold red")
    return worst


def _show(screen: Screen, finding: Finding) -> None:
    screen.value(finding.describe())
    mark, style = _MARKS[finding.state]
    screen.line(f"{mark} {finding.part:<34} {finding.said}", style)
    if finding.todo:
        screen.line(f"  {'':<34} → {finding.todo}")


async def _findings(cli: Cli, *, turn: bool | None) -> Findings:
    reached = False
    for server in cli.settings.url.split(","):
        finding = await _reach(server.strip())
        reached |= finding.state is State.OK
        yield finding
    if not reached:
        return
    parley = cli.settings.client()
    parley.timeout = min(parley.timeout, _SERVICE_SECONDS)
    try:
        await parley.open()
    except ParleyError as exc:
        yield Finding("login", State.FAILED, f"{cli.settings.who}: {exc.message}", _login_todo(cli))
        return
    try:
        said = f"{cli.settings.who}, nats-server {parley.wire.server}"
        yield Finding("login", State.OK, said)
        claims = claims_of(cli.settings.given.token or "") if cli.settings.kind == "token" else None
        parts = _seen_by_a_token(parley, claims) if claims else _seen_by_a_login(parley)
        async for finding in parts:
            yield finding
        if turn if turn is not None else claims is None:
            async for finding in _whole_turn(parley, claims):
                yield finding
        else:
            yield Finding("provider, store", State.SKIPPED, "no turn was asked for", "--turn")
    finally:
        await parley.close()


async def _reach(server: str) -> Finding:
    url = urllib.parse.urlsplit(server if "//" in server else f"nats://{server}")
    try:
        port = url.port or _PORTS.get(url.scheme, _PORT)
    except ValueError:
        return Finding("reach", State.FAILED, "the port of --url is none", "nats://HOST:4222")
    part = f"reach {url.hostname}:{port}"
    began = time.monotonic()
    try:
        async with asyncio.timeout(_REACH_SECONDS):
            _, writer = await asyncio.open_connection(url.hostname, port)
    except (OSError, TimeoutError) as exc:
        todo = "Start NATS, or say where it is: --url, NATS_URL; `make demo` starts one here."
        return Finding(part, State.FAILED, exc.strerror or "nobody answers", todo)
    writer.close()
    return Finding(part, State.OK, f"{(time.monotonic() - began) * 1000:.1f} ms")


def _login_todo(cli: Cli) -> str:
    token = cli.settings.given.token if cli.settings.kind == "token" else None
    if token is not None:
        claims = claims_of(token)
        if claims is None:
            return "That is no conversation token: `parley token` makes one."
        if claims.exp < time.time():
            return "The token has ended: have a new one made."
        if cli.settings.url.startswith("nats:") and cli.settings.given.ca is None:
            return "A token is taken over a WebSocket or TLS only: --url wss://… or tls://…"
        return "Is services.access running, and is the key of the token in its ACCESS_KEYS_FILE?"
    return "Look at --user and --password (NATS_USER, NATS_PASSWORD), --creds, --nkey, --ca."


# ---------------------------------------------------------------- what a login sees


async def _seen_by_a_login(parley: Parley) -> Findings:
    jetstream = JetStream(parley)
    try:
        account = await jetstream.account()
    except ParleyError:
        said = "of an application, without JetStream"
        yield Finding("account", State.OK, said)
        yield await _direct(parley)
        hint = "--user operator shows them"
        yield Finding("streams, consumers", State.SKIPPED, "not for this login", hint)
    else:
        said = f"with JetStream: {account.streams} streams, {_bytes(account.storage)} in files"
        yield Finding("account", State.OK, said)
        for name in _STREAMS:
            yield await _stream(jetstream, name)
        for stream, name, service in _CONSUMERS:
            yield await _consumer(jetstream, stream, name, service)
    probe = f"doctor-{uuid.uuid4().hex}"
    yield await _chat(parley, probe)
    yield await _tts(parley, probe)


async def _direct(parley: Parley) -> Finding:
    """An application may read deltas back by direct get, and nothing else of JetStream."""
    subject = f"$JS.API.DIRECT.GET.{CHAT_DELTAS_STREAM}"
    body = f'{{"last_by_subj": "{of_conversation(CHAT_DELTA, "doctor")}"}}'.encode()
    try:
        answer = await parley.wire.ask_once(subject, body, {}, _SERVICE_SECONDS)
    except (NotNow, ParleyError) as exc:
        todo = "The application's account has to import it: deploy/nats/permissions.conf."
        return Finding(f"stream {CHAT_DELTAS_STREAM}", State.WARNING, str(exc), todo)
    status = answer.headers.get("Status", "200")
    return Finding(f"stream {CHAT_DELTAS_STREAM}", State.OK, f"answers a direct get ({status})")


async def _stream(jetstream: JetStream, name: str) -> Finding:
    try:
        info = await jetstream.stream(name)
    except NotFound:
        todo = "A service makes it at its start; or: python -m shared.provision --apply"
        return Finding(f"stream {name}", State.FAILED, "is missing", todo)
    except ParleyError as exc:
        return Finding(f"stream {name}", State.FAILED, exc.message, "Does NATS have a leader?")
    return _judged(name, info)


def _judged(name: str, info: StreamInfo) -> Finding:
    limit = info.config.max_bytes
    share = info.state.bytes / limit if limit > 0 else 0.0
    room = f"{_bytes(info.state.bytes)} of {_bytes(limit)}" if limit > 0 else "without a limit"
    said = f"{info.state.messages:,} messages, {room}"
    if info.config.num_replicas > 1:
        said += f", {info.config.num_replicas} replicas"
    away = [each.name for each in info.cluster.replicas if each.offline or not each.current]
    if away:
        todo = "Look at those servers: until they are back one more must not fail."
        return Finding(f"stream {name}", State.WARNING, f"{said}; behind: {', '.join(away)}", todo)
    if name in _REFUSES_WHEN_FULL and share >= _NEARLY:
        todo = "It refuses what is new when it is full: raise its RETENTION_…_BYTES, and apply it."
        state = State.FAILED if share >= _FULL else State.WARNING
        return Finding(f"stream {name}", state, f"{said} ({share:.0%})", todo)
    if name == DEAD_LETTERS_STREAM and info.state.messages:
        todo = "`parley dead list` says what could not be done, and why."
        return Finding(f"stream {name}", State.WARNING, said, todo)
    return Finding(f"stream {name}", State.OK, said)


async def _consumer(jetstream: JetStream, stream: str, name: str, service: str) -> Finding:
    part = f"consumer {name}"
    try:
        info = await jetstream.consumer(stream, name)
    except NotFound:
        todo = f"services.{service} makes it at its start: is it running?"
        return Finding(part, State.FAILED, "is missing", todo)
    except ParleyError as exc:
        return Finding(part, State.FAILED, exc.message, "Does NATS have a leader?")
    said = f"{info.num_pending} waiting, {info.num_ack_pending} in work"
    if not info.num_waiting and not info.num_ack_pending:
        todo = f"Nobody takes work: start services.{service}, or look at its log."
        return Finding(part, State.FAILED, said, todo)
    if info.num_pending > _LAG:
        todo = f"More replicas of services.{service}, or look at its log and at the provider."
        return Finding(part, State.WARNING, said, todo)
    return Finding(part, State.OK, said)


async def _chat(parley: Parley, conversation: str) -> Finding:
    began = time.monotonic()
    try:
        async for _ in parley.history(conversation, limit=1):
            break
    except ParleyError as exc:
        todo = "Start services.chat, or look at its log and at /readyz."
        return Finding("service chat", State.FAILED, exc.message, todo)
    return Finding("service chat", State.OK, _ms(time.monotonic() - began))


async def _tts(parley: Parley, conversation: str) -> Finding:
    began = time.monotonic()
    try:
        await parley.link(conversation, "doctor")
    except (NotFound, InvalidRequest):
        return Finding("service tts", State.OK, _ms(time.monotonic() - began))
    except ParleyError as exc:
        todo = "Start services.tts, or look at its log and at /readyz."
        return Finding("service tts", State.FAILED, exc.message, todo)
    return Finding("service tts", State.OK, _ms(time.monotonic() - began))


# ---------------------------------------------------------------- what a token sees


async def _seen_by_a_token(parley: Parley, claims: Claims) -> Findings:
    ends = datetime.fromtimestamp(claims.exp, UTC).isoformat(timespec="seconds")
    said = f"{', '.join(claims.conversations)}: {', '.join(claims.may)}; until {ends}"
    yield Finding("token", State.OK, said)
    first = claims.conversations[0]
    if "history" in claims.may:
        yield await _chat(parley, first)
    else:
        yield Finding("service chat", State.SKIPPED, "the token does not allow `history`")
    if "listen" in claims.may:
        yield await _tts(parley, first)
    else:
        yield Finding("service tts", State.SKIPPED, "the token does not allow `listen`")
    yield Finding("streams, consumers", State.SKIPPED, "not for a token")


# ---------------------------------------------------------------- a whole turn


@dataclass(slots=True)
class _Heard:
    began: float
    word: float | None = None
    sound: float | None = None
    text: Done | None = None
    stored: Stored | None = None
    text_error: ParleyError | None = None
    voice_error: ParleyError | None = None


async def _whole_turn(parley: Parley, claims: Claims | None) -> Findings:
    """One word, spoken, of which nothing is kept."""
    conversation = claims.conversations[0] if claims else f"doctor-{uuid.uuid4().hex}"
    heard = _Heard(time.monotonic())
    try:
        async with asyncio.timeout(parley.idle):
            await _listen(parley, conversation, heard)
    except (ParleyError, TimeoutError) as exc:
        failure = Failure.of(exc)
        todo = failure.hint or "Look at the logs of services.chat and services.tts."
        yield Finding("turn", State.FAILED, failure.message, todo)
        return
    yield _words(heard)
    yield _voice(heard)
    yield await _store(heard)
    if claims is None:
        yield await _forgotten(parley, conversation)


async def _listen(parley: Parley, conversation: str, heard: _Heard) -> None:
    messages = [{"role": "user", "content": _WORD}]
    turn = parley.ask(
        conversation=conversation, messages=messages, history="none", max_tokens=16, speech={}
    )
    async for event in turn.events():
        since = time.monotonic() - heard.began
        match event:
            case Text():
                heard.word = heard.word or since
            case Chunk():
                heard.sound = heard.sound or since
            case Done():
                heard.text = event
            case Stored():
                heard.stored = event
            case Failed(error=error):
                heard.text_error = from_error(error)
            case AudioFailed(error=error):
                heard.voice_error = from_error(error)
            case _:
                continue


def _words(heard: _Heard) -> Finding:
    part = "provider, model"
    if heard.text is None or heard.text_error is not None:
        error = heard.text_error
        said = "no answer" if error is None else f"{error.code}: {error.message}"
        todo = "Look at TOGETHER_API_KEY, TOGETHER_BASE_URL and CHAT_MODEL of services.chat."
        return Finding(part, State.FAILED, said, todo)
    return Finding(part, State.OK, f"first word after {_ms(heard.word or 0)}")


def _voice(heard: _Heard) -> Finding:
    part = "provider, voice"
    if heard.sound is None:
        error = heard.voice_error
        said = "nothing was spoken" if error is None else f"{error.code}: {error.message}"
        todo = "Look at TTS_URL, TTS_MODEL and TTS_VOICE of services.tts."
        return Finding(part, State.FAILED, said, todo)
    return Finding(part, State.OK, f"first sound after {_ms(heard.sound)}")


async def _store(heard: _Heard) -> Finding:
    todo = "Look at MINIO_ENDPOINT, its keys and MINIO_BUCKET of services.tts."
    if heard.stored is None or heard.stored.url is None:
        error = heard.voice_error
        said = "nothing was stored" if error is None else f"{error.code}: {error.message}"
        return Finding("store", State.FAILED, said, todo)
    url = heard.stored.url
    try:
        size = await asyncio.to_thread(_fetched, url)
    except (OSError, ValueError) as exc:
        host = urllib.parse.urlsplit(url).netloc
        todo = f"Links name {host}: MINIO_PUBLIC_ENDPOINT is for what clients can reach."
        return Finding("store", State.WARNING, f"stored, but its link is not reached: {exc}", todo)
    return Finding("store", State.OK, f"stored, and fetched by its link: {size:,} bytes")


def _fetched(url: str) -> int:
    with urllib.request.urlopen(url, timeout=_FETCH_SECONDS) as answer:  # noqa: S310  of `stored`
        return len(answer.read())


async def _forgotten(parley: Parley, conversation: str) -> Finding:
    parley.timeout = max(parley.timeout, _SERVICE_SECONDS)
    try:
        await parley.delete(conversation)
    except Unauthorized:
        return Finding("delete", State.SKIPPED, "not for this login")
    except ParleyError as exc:
        todo = f"Later: parley delete {conversation} --yes"
        return Finding("delete", State.WARNING, exc.message, todo)
    return Finding("delete", State.OK, "the turn is erased everywhere")


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"


def _bytes(count: int) -> str:
    size = float(max(count, 0))
    for unit in ("bytes", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
