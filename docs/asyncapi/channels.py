"""Every channel: its address, who may use it, what is kept of it; and every operation on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from docs.asyncapi.messages import MESSAGES
from shared import contract

# Users of account PARLEY.
CHAT, TTS, OPERATOR = "chat", "tts", "operator"
DELTAS: Final = ("Started", "Text", "Reasoning", "Done", "Failed")
AUDIO: Final = ("AudioStarted", "Piece", "Chunk", "PieceDone", "Stored", "AudioFailed")
_ACKED: Final = ("PubAck", "PubRefused", "Refusal")


@dataclass(frozen=True, kw_only=True)
class Channel:
    """What crosses one subject, literal or with a conversation behind it.

    `sends`: Parley publishes there; else it answers there what `replies` says. `applications`:
    whether account APPS may do the other half; `right`: which claim of a conversation token may.
    """

    subject: str
    title: str
    description: str
    messages: tuple[str, ...]
    tag: str
    sends: bool = False
    replies: tuple[str, ...] = ()
    stream: str = ""
    of_all: bool = True  # there is the literal subject
    of_conversation: bool = True
    publishers: tuple[str, ...] = (OPERATOR,)  # of PARLEY, where the subject names a conversation
    publishers_of_all: tuple[str, ...] = (OPERATOR,)
    listeners: tuple[str, ...] = ()
    listeners_of_all: tuple[str, ...] | None = None  # the same
    applications: bool = True
    right: str = ""


CHANNELS: Final[dict[str, Channel]] = {
    "chatRequest": Channel(
        subject=contract.CHAT_REQUEST,
        title="Questions",
        description="One message, and the assistant answers: words on `chat.delta`, the voice on"
        " `tts.audio`. Those of one conversation are answered strictly first-in first-out. A body"
        " that does not begin with `{` is taken as the text of a new conversation.",
        messages=("ChatRequest", "PlainText"),
        replies=_ACKED,
        stream=contract.CHAT_REQUESTS_STREAM,
        publishers=(CHAT, OPERATOR),
        listeners=(CHAT, OPERATOR),
        tag="text",
    ),
    "chatAsk": Channel(
        subject=contract.CHAT_ASK,
        title="Questions, with an answer",
        description="The same for who wants to know that the question is kept, and the only way"
        " for who is not trusted. A turn id that is known already is not asked again.",
        messages=("ChatRequest", "PlainText"),
        replies=("Asked", "Refusal"),
        of_all=False,
        listeners=(CHAT, OPERATOR),
        right="ask",
        tag="text",
    ),
    "chatCancel": Channel(
        subject=contract.CHAT_CANCEL,
        title="Stop a turn",
        description="Model and voice stop, and the history keeps what was heard.",
        messages=("CancelRequest",),
        replies=("Cancelled", "Refusal"),
        publishers_of_all=(CHAT, OPERATOR),
        listeners=(CHAT, TTS, OPERATOR),
        right="cancel",
        tag="text",
    ),
    "chatDelta": Channel(
        subject=contract.CHAT_DELTA,
        title="The assistant's words",
        description="Events of the text, in the order of `attempt` and `seq`; `type` in the body"
        " tells the kind. Exactly one `done` or `failed` ends a turn. The literal subject is"
        " republished by the server and has all of them.",
        messages=DELTAS,
        sends=True,
        stream=contract.CHAT_DELTAS_STREAM,
        publishers=(CHAT, OPERATOR),
        listeners=(CHAT, TTS, OPERATOR),
        listeners_of_all=(OPERATOR,),
        right="listen",
        tag="text",
    ),
    "ttsRequest": Channel(
        subject=contract.TTS_REQUEST,
        title="Speak",
        description="Speak a given text, or follow the words of a turn. A body that does not begin"
        " with `{` is the text.",
        messages=("SpeechRequest", "PlainText"),
        replies=_ACKED,
        stream=contract.TTS_REQUESTS_STREAM,
        of_all=False,
        publishers=(CHAT, OPERATOR),
        listeners=(TTS, OPERATOR),
        tag="voice",
    ),
    "ttsAudio": Channel(
        subject=contract.TTS_AUDIO,
        title="The assistant's voice",
        description="Events of the voice and its audio; `Parley-Type` in the headers tells the"
        " kind. Exactly one `stored` or `failed` ends the voice of a turn. The literal subject is"
        " republished by the server and has all of them.",
        messages=AUDIO,
        sends=True,
        stream=contract.TTS_AUDIO_STREAM,
        publishers=(CHAT, TTS, OPERATOR),
        listeners=(OPERATOR,),
        right="listen",
        tag="voice",
    ),
    "ttsLink": Channel(
        subject=contract.TTS_LINK,
        title="A link to a stored voice",
        description="Signs the links of a stored voice anew.",
        messages=("LinkRequest",),
        replies=("Link", "Refusal"),
        of_all=False,
        listeners=(TTS, OPERATOR),
        right="listen",
        tag="voice",
    ),
    "historyGet": Channel(
        subject=contract.HISTORY_GET,
        title="Show the history",
        description="One page, the newest first; an unknown conversation has no messages.",
        messages=("HistoryRequest",),
        replies=("History", "Refusal"),
        listeners=(CHAT, OPERATOR),
        right="history",
        tag="history",
    ),
    "historyDelete": Channel(
        subject=contract.HISTORY_DELETE,
        title="Erase a conversation",
        description="Everywhere: what runs is stopped, what waits is dropped; document, requests,"
        " events, dead letters and stored objects go.",
        messages=("DeleteRequest",),
        replies=("Deleted", "Refusal"),
        listeners=(CHAT, TTS, OPERATOR),
        right="delete",
        tag="history",
    ),
    "chatReplay": Channel(
        subject=contract.CHAT_REPLAY,
        title="Say again",
        description="What the streams hold of the conversation, for who may not read streams: the"
        " events as they were stored, one answer after the other, each with `Parley-Sequence`,"
        " until an empty one with `Parley-Next`; at most 4 MiB a request.",
        messages=("ReplayRequest",),
        replies=(*DELTAS, *AUDIO, "ReplayEnd", "Refusal"),
        of_all=False,
        listeners=(CHAT, OPERATOR),
        right="listen",
        tag="history",
    ),
    "chatDead": Channel(
        subject=contract.CHAT_DEAD,
        title="Questions that could not be answered",
        description="The original with the reason, with the conversation in the subject where it"
        " is known. Whoever followed the turn has had its `failed` event before.",
        messages=("ChatDeadLetter",),
        sends=True,
        stream=contract.DEAD_LETTERS_STREAM,
        publishers=(CHAT, OPERATOR),
        publishers_of_all=(CHAT, OPERATOR),
        listeners=(CHAT, OPERATOR),
        applications=False,
        tag="dead letters",
    ),
    "ttsDead": Channel(
        subject=contract.TTS_DEAD,
        title="What could not be spoken",
        description="The same for the voice.",
        messages=("SpeechDeadLetter",),
        sends=True,
        stream=contract.DEAD_LETTERS_STREAM,
        publishers=(TTS, OPERATOR),
        publishers_of_all=(TTS, OPERATOR),
        listeners=(TTS, OPERATOR),
        applications=False,
        tag="dead letters",
    ),
}
ADVISORY: Final = "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.{stream}.{consumer}"
_CONVERSATION: Final = "conversation_id"
_PARAMETER: Final = {"$ref": f"#/components/parameters/{_CONVERSATION}"}
PARAMETERS: Final = {
    _CONVERSATION: {
        "description": f"The conversation, one NATS token: {contract.ID_RULE}.",
        "examples": ["c1", "V0yBDmX3cUzCiUGmVYMV9w"],
    }
}


def channels() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, channel in CHANNELS.items():
        for each, address in _addresses(name, channel):
            found[each] = _channel(channel, address)
        if channel.replies:
            found[f"{name}Reply"] = _reply_channel(channel)
    return found | {"maxDeliveries": _advisory()}


def operations() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, channel in CHANNELS.items():
        for each, _ in _addresses(name, channel):
            verb = "send" if channel.sends else "take"
            found[verb + each[0].upper() + each[1:]] = _operation(name, each, channel)
    return found | {
        "sendMaxDeliveries": {
            "action": "send",
            "channel": {"$ref": "#/channels/maxDeliveries"},
            "title": "A message was handed out too often",
            "summary": "The NATS server says it, not Parley.",
            "tags": _tags("dead letters"),
            "messages": [{"$ref": "#/channels/maxDeliveries/messages/MaxDeliveries"}],
        }
    }


def _addresses(name: str, channel: Channel) -> list[tuple[str, str]]:
    literal = [(name, channel.subject)] if channel.of_all else []
    if not channel.of_conversation:
        return literal
    address = contract.of_conversation(channel.subject, f"{{{_CONVERSATION}}}")
    return [*literal, (f"{name}OfConversation" if literal else name, address)]


def _is_of_conversation(address: str) -> bool:
    return address.endswith(f"{{{_CONVERSATION}}}")


def _channel(channel: Channel, address: str) -> dict[str, Any]:
    named = _is_of_conversation(address)
    accounts = _accounts(channel, in_conversation=named)
    found: dict[str, Any] = {
        "address": address,
        "title": channel.title + (" of one conversation" if named and channel.of_all else ""),
        "description": f"{channel.description}\n\n{_in_words(accounts)}",
        "messages": _messages(channel.messages),
    }
    if named:
        found["parameters"] = {_CONVERSATION: _PARAMETER}
    if channel.stream:
        republished = channel.sends and not named and channel.applications
        found["x-parley-stream"] = {
            "name": channel.stream,
            "kept": not republished,
        }
    return found | {"x-parley-accounts": accounts}


def _accounts(channel: Channel, *, in_conversation: bool) -> dict[str, Any]:
    """Who may publish there, or ask; who may hear it."""
    publishers = channel.publishers if in_conversation else channel.publishers_of_all
    listeners = channel.listeners
    if not in_conversation and channel.listeners_of_all is not None:
        listeners = channel.listeners_of_all
    publish: dict[str, Any] = {"PARLEY": list(publishers)}
    hear: dict[str, Any] = {"PARLEY": list(listeners)}
    other = hear if channel.sends else publish
    if channel.applications:
        other["APPS"] = ["client"]
        if channel.right and in_conversation:
            other["token"] = channel.right
    return {"publish": publish, "subscribe": hear}


def _in_words(accounts: dict[str, Any]) -> str:
    return " ".join(f"May {verb}: {_who(accounts[verb])}." for verb in ("publish", "subscribe"))


def _who(may: dict[str, Any]) -> str:
    services = ", ".join(f"`{user}`" for user in may["PARLEY"])
    said = [f"{services} of account PARLEY"] if services else []
    if "APPS" in may:
        said.append("every application of account APPS")
    if "token" in may:
        said.append(f"who shows a conversation token with the right `{may['token']}`")
    return "; ".join(said) or "nobody but the server"


def _messages(names: tuple[str, ...]) -> dict[str, Any]:
    assert MESSAGES.keys() >= set(names)
    return {name: {"$ref": f"#/components/messages/{name}"} for name in names}


def _reply_channel(channel: Channel) -> dict[str, Any]:
    return {
        "address": None,
        "title": f"{channel.title}: what is answered",
        "description": "The inbox that the request named as its reply subject.",
        "messages": _messages(channel.replies),
    }


def _operation(name: str, each: str, channel: Channel) -> dict[str, Any]:
    found: dict[str, Any] = {
        # AsyncAPI speaks from the application's side, and the application is Parley.
        "action": "send" if channel.sends else "receive",
        "channel": {"$ref": f"#/channels/{each}"},
        "title": channel.title,
        "summary": "Parley publishes, you listen."
        if channel.sends
        else "You publish, Parley listens" + (" and answers." if channel.replies else "."),
        "tags": _tags(channel.tag),
        "messages": [{"$ref": f"#/channels/{each}/messages/{m}"} for m in channel.messages],
    }
    if channel.replies:
        reply = f"{name}Reply"
        found["reply"] = {
            "address": {"$ref": "#/components/replyAddresses/inbox"},
            "channel": {"$ref": f"#/channels/{reply}"},
            "messages": [{"$ref": f"#/channels/{reply}/messages/{m}"} for m in channel.replies],
        }
    return found


def _tags(name: str) -> list[dict[str, Any]]:
    return [{"name": name}]


def _advisory() -> dict[str, Any]:
    accounts = {"publish": {"PARLEY": []}, "subscribe": {"PARLEY": [OPERATOR]}}
    return {
        "address": ADVISORY,
        "title": "Messages that were handed out too often",
        "description": "The server's advisories, kept beside the dead letters. A healthy system has"
        f" none: work that fails is ended by its worker.\n\n{_in_words(accounts)}",
        "messages": _messages(("MaxDeliveries",)),
        "parameters": {
            "stream": {
                "description": "Whose message it was.",
                "enum": [contract.CHAT_REQUESTS_STREAM, contract.TTS_REQUESTS_STREAM],
            },
            "consumer": {
                "description": "Who was handed it.",
                "enum": [contract.CHAT_INTAKE, contract.CHAT_WORKERS, contract.TTS_WORKERS],
            },
        },
        "x-parley-stream": {"name": contract.DEAD_LETTERS_STREAM, "kept": True},
        "x-parley-accounts": accounts,
    }
