"""The AsyncAPI document of the whole contract, put together; no file is written here."""

from __future__ import annotations

from typing import Any, Final

from docs.asyncapi.channels import PARAMETERS, channels, operations
from docs.asyncapi.messages import components
from docs.asyncapi.schemas import schemas

# Of the contract, not of a release: counted up when something is added.
VERSION: Final = "1.0.0"

_DESCRIPTION: Final = """\
An assistant that talks, as services on NATS. Publish one message to `chat.request`: the words come
back on `chat.delta` as the model produces them, the voice on `tts.audio` as the speech model does.

**Subjects.** `{conversation_id}` and turn ids are 1 to 64 letters (A to Z, a to z), digits, `_` and
`-`. What is published with a conversation in the subject is republished on the literal one.
Where a subject names a conversation and the body another one, the request is refused.

**Bodies** are JSON, decoded strictly; unknown fields are ignored; an empty body of a
request that is answered is `{}`. The exceptions are chunks of
audio, plain text in the place of a request, and dead letters, which are what somebody published.

**Headers.** `Parley-Conversation` and `Parley-Turn` let a subscriber filter without parsing,
`Nats-Msg-Id` makes a publish idempotent, `traceparent` is carried through. On `tts.audio` the
header `Parley-Type` tells the kind of event, on `chat.delta` the field `type` in the body.

**Replies.** Whatever takes an answer is asked with a reply subject in `_INBOX`; a request that
cannot be done is answered with `{"error": {"code", "message", "retryable"}}`. A publish that a
stream keeps is acked by the stream.

**The past** of `chat.delta` and `tts.audio` is in streams `CHAT_DELTAS` and `TTS_AUDIO`: by direct
get for who has a login, by `chat.replay` for everybody. Join live and past by `attempt` and `seq`;
whatever carries a lower attempt than the highest one seen is a leftover: ignore it.

**Accounts.** `PARLEY` holds the streams, the services (`chat`, `tts`) and the `operator`; `APPS`
holds the applications (`client`, and one user for each trusted backend) and whoever shows a
conversation token, who reaches the conversations that it names and nothing else.
`x-parley-accounts` says for each channel who may publish and who may subscribe."""

_SERVERS: Final[dict[str, Any]] = {
    "nats": {
        "host": "{host}:4222",
        "protocol": "nats",
        "title": "NATS over TCP",
        "description": "Within a trusted network. URL `nats://…`.",
        "variables": {"host": {"default": "localhost", "description": "Where the server is."}},
        "security": [
            {"$ref": "#/components/securitySchemes/password"},
            {"$ref": "#/components/securitySchemes/nkey"},
        ],
    },
    "tls": {
        "host": "{host}:4222",
        "protocol": "tls",
        "title": "NATS over TLS",
        "description": "URL `tls://…`. The server asks for a certificate besides the login.",
        "variables": {"host": {"default": "nats.example.com", "description": "Where it is."}},
        "security": [
            {"$ref": "#/components/securitySchemes/certificate"},
            {"$ref": "#/components/securitySchemes/password"},
            {"$ref": "#/components/securitySchemes/nkey"},
            {"$ref": "#/components/securitySchemes/token"},
        ],
    },
    "wss": {
        "host": "{host}",
        "pathname": "/{path}",
        "protocol": "wss",
        "title": "NATS over a WebSocket, for browsers",
        "description": "URL `wss://…`, `ws://…` on one machine. Only the origins that the server"
        " names get in.",
        "variables": {
            "host": {"default": "parley.example.com", "description": "Where the page is."},
            "path": {"default": "nats", "description": "What leads to NATS there."},
        },
        "security": [
            {"$ref": "#/components/securitySchemes/token"},
            {"$ref": "#/components/securitySchemes/password"},
        ],
    },
}
_SECURITY: Final[dict[str, Any]] = {
    "password": {
        "type": "userPassword",
        "description": "A user of account PARLEY (`chat`, `tts`, `operator`) or of APPS (`client`,"
        " and each backend), with its password: `user` and `pass` of CONNECT.",
    },
    "token": {
        "type": "apiKey",
        "in": "password",
        "description": "A conversation token: `auth_token` of CONNECT. A short-lived signed JWT"
        " whose claims `conversations` and `may` (`ask`, `cancel`, `history`, `listen`, `delete`)"
        " say what it opens, in account APPS. Its holder's inbox prefix is `_INBOX_` and the first"
        " 22 characters of the token's last part.",
    },
    "nkey": {
        "type": "asymmetricEncryption",
        "description": "An nkey (Ed25519), alone or in a credentials file: the client signs the"
        " server's nonce. For the users of both accounts in the place of passwords.",
    },
    "certificate": {
        "type": "X509",
        "description": "A client's certificate of the deployment's own authority.",
    },
}


def document() -> dict[str, Any]:
    return {
        "asyncapi": "3.1.0",
        "id": "urn:parley:contract",
        "info": {
            "title": "Parley",
            "version": VERSION,
            "description": _DESCRIPTION,
            "license": {
                "name": "Apache-2.0",
                "url": "https://www.apache.org/licenses/LICENSE-2.0",
            },
            "tags": [
                {"name": "text", "description": "Questions and the assistant's words."},
                {"name": "voice", "description": "What is spoken, live and stored."},
                {"name": "history", "description": "What a conversation has been."},
                {"name": "dead letters", "description": "What could not be done."},
            ],
        },
        "defaultContentType": "application/json",
        "servers": _SERVERS,
        "channels": channels(),
        "operations": operations(),
        "components": {
            "schemas": schemas(),
            "messages": components(),
            "parameters": PARAMETERS,
            "securitySchemes": _SECURITY,
            "replyAddresses": {
                "inbox": {
                    "location": "$message.header#/reply",
                    "description": "The reply subject of the request (a field of the NATS protocol,"
                    " no header of the message): an inbox.",
                }
            },
        },
    }
