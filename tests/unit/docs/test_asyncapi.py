"""docs/asyncapi.yaml, docs/schemas, docs/asyncapi.html: of this contract, whole, and true."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from typing import Any

import pytest
import yaml
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT7

from docs.asyncapi.messages import MESSAGES
from services.access.permissions import permissions_of
from services.access.token import May, Token
from shared import contract
from tests.asyncapi import ROOT, document, references, validator
from tests.test_contract import GOLDEN, KINDS, WRONG_IN_CHAT_REQUEST, changed, golden
from tests.unit.access.keys import claims

DOCS = ROOT / "docs"
DOCUMENT = document()
EXAMPLES = [
    (name, example["name"], example)
    for name, message in DOCUMENT.messages.items()
    for example in message["examples"]
]


# ---------------------------------------------------------------- of this contract


def test_what_is_generated_is_of_this_contract() -> None:
    made = subprocess.run(
        [sys.executable, str(DOCS / "asyncapi" / "generate.py"), "--check"],
        capture_output=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr.decode()


def test_the_page_is_of_this_document() -> None:
    page = (DOCS / "asyncapi.html").read_text(encoding="utf-8")
    built = re.search(r'<meta name="sources" content="(\w+)"', page)
    names = ["nothing.cjs", "package-lock.json", "page.mjs", "parser-models.mjs", "render.mjs"]
    files = [DOCS / "asyncapi.yaml", *(DOCS / "asyncapi" / name for name in names)]
    wanted = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()

    assert built is not None
    assert built[1] == wanted, "docs/asyncapi.html is stale: run `make asyncapi`"


def test_the_page_is_one_file_that_loads_nothing_and_can_be_read_without_a_script() -> None:
    page = (DOCS / "asyncapi.html").read_text(encoding="utf-8")
    without, _, _ = page.partition('<script id="document"')

    assert len(page.encode()) < 1_000_000
    assert not re.search(r'<(script|link|img)[^>]*(src|href)="(?!data:)', without)
    assert "default-src 'none'" in without
    for address in addresses():
        assert address in without


def test_the_two_forms_of_the_document_say_the_same() -> None:
    assert yaml.safe_load((DOCS / "asyncapi.yaml").read_text("utf-8")) == DOCUMENT.whole


# ---------------------------------------------------------------- whole


def addresses() -> set[str]:
    return {channel["address"] for channel in DOCUMENT.channels.values()} - {None}


def test_it_names_every_subject() -> None:
    either = {
        *("chat.request", "chat.cancel", "chat.delta", "tts.audio"),
        *("chat.history.get", "chat.history.delete", "chat.dead", "tts.dead"),
    }
    in_conversation = either | {"chat.ask", "chat.replay", "tts.request", "tts.link"}

    assert addresses() == either | {f"{each}.{{conversation_id}}" for each in in_conversation} | {
        "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.{stream}.{consumer}"
    }


def test_every_golden_message_is_an_example_of_its_kind() -> None:
    shown = {
        name: each.payload["$ref"].rpartition("/")[2]
        for each in MESSAGES.values()
        for name in each.golden
    }

    assert shown == {name: kind.__name__ for name, kind in KINDS.items()}
    assert {path.stem for path in GOLDEN.glob("*.json")} - shown.keys() == {"audio_chunk_headers"}


def test_every_message_has_a_payload_an_example_and_a_place() -> None:
    used = references(DOCUMENT.whole["channels"])

    for name, message in DOCUMENT.messages.items():
        assert message["payload"], name
        assert message["examples"], name
        assert f"#/components/messages/{name}" in used


def test_every_reference_leads_somewhere() -> None:
    for reference in references(DOCUMENT.whole):
        node: Any = DOCUMENT.whole
        for step in reference.removeprefix("#/").split("/"):
            node = node[step]
        assert node


def test_every_operation_that_is_answered_says_where_and_with_what() -> None:
    answered = {
        operation["channel"]["$ref"].rpartition("/")[2]: {
            each["$ref"].rpartition("/")[2] for each in operation["reply"]["messages"]
        }
        for operation in DOCUMENT.whole["operations"].values()
        if "reply" in operation
    }

    assert answered["chatAsk"] == {"Asked", "Refusal"}
    assert answered["chatRequest"] == {"PubAck", "PubRefused", "Refusal"}
    assert answered["chatCancelOfConversation"] == {"Cancelled", "Refusal"}
    assert answered["historyGet"] == {"History", "Refusal"}
    assert answered["historyDelete"] == {"Deleted", "Refusal"}
    assert answered["ttsLink"] == {"Link", "Refusal"}
    assert {"Text", "Chunk", "ReplayEnd", "Refusal"} <= answered["chatReplay"]


# ---------------------------------------------------------------- true


@pytest.mark.parametrize(("message", "example"), [(m, e) for m, _, e in EXAMPLES], ids=repr)
def test_an_example_is_what_its_message_says(message: str, example: dict[str, Any]) -> None:
    described = DOCUMENT.messages[message]
    wrong: list[str] = []
    if "headers" in example:
        wrong += DOCUMENT.complaints(described["headers"], example["headers"], strict=True)
    if "payload" in example:
        wrong += DOCUMENT.complaints(described["payload"], example["payload"], strict=True)

    assert not wrong


def test_parley_type_alone_tells_the_kind_of_an_event_of_the_voice() -> None:
    told: dict[str, list[str]] = {}
    for name, message in DOCUMENT.messages.items():
        known = message.get("headers", {}).get("properties", {}).get(contract.H_TYPE)
        if known:
            assert contract.H_TYPE in message["headers"]["required"]
            assert known["enum"] == [known["const"]]
            told.setdefault(known["const"], []).append(name)

    assert {kind: len(names) for kind, names in told.items()} == {
        kind.value: 1 for kind in contract.Kind
    }


def test_no_two_messages_of_a_channel_are_taken_for_each_other() -> None:
    for name, channel in DOCUMENT.channels.items():
        for message in channel["messages"]:
            if message in {"PlainText", "ReplayEnd", "Chunk"}:
                continue
            for example in DOCUMENT.messages[message]["examples"]:
                data = example["payload"]
                body = data.encode() if isinstance(data, str) else json.dumps(data).encode()
                assert DOCUMENT.kind_of(name, example.get("headers", {}), body) == message


LOOSE = [("max_tokens", 5.0)]  # a whole number as JSON Schema counts


@pytest.mark.parametrize(
    ("field", "wrong"), [each for each in WRONG_IN_CHAT_REQUEST if each not in LOOSE]
)
def test_what_a_service_refuses_is_not_in_the_schema(field: str, wrong: object) -> None:
    body = json.loads(changed("chat_request", **{field: wrong}))
    schema = DOCUMENT.messages["ChatRequest"]["payload"]

    assert DOCUMENT.complaints(schema, body, strict=False)


def test_no_pattern_is_one_that_only_python_knows() -> None:
    text = (DOCS / "asyncapi.json").read_text("utf-8")

    assert r"\\Z" not in text
    assert "{1,64}$" in text


def test_speech_is_an_object_or_false() -> None:
    schema = DOCUMENT.messages["ChatRequest"]["payload"]

    assert not DOCUMENT.complaints(schema, {"speech": False}, strict=True)
    assert DOCUMENT.complaints(schema, {"speech": True}, strict=True)


# ---------------------------------------------------------------- JSON Schemas


@pytest.mark.parametrize("name", KINDS)
def test_a_golden_message_is_what_its_schema_file_says(name: str) -> None:
    files = {
        path.name: json.loads(path.read_text("utf-8")) for path in (DOCS / "schemas").iterdir()
    }
    known = ((n, Resource.from_contents(each, DRAFT7)) for n, each in files.items())
    registry: Any = Registry().with_resources(known)
    schema = files[f"{KINDS[name].__name__}.json"]
    validated = validator(schema, registry=registry)
    validated.check_schema(schema)

    assert not list(validated.iter_errors(json.loads(golden(name))))


# ---------------------------------------------------------------- who may do what

OURS = re.compile(r'"((?:chat|tts)\.[^"]*)"')


def subject_of(address: str) -> str:
    return address.replace("{conversation_id}", "*")


def may(user: str, verb: str) -> set[str]:
    """The subjects that deploy/nats lets a service publish or subscribe to."""
    text = re.sub(r"#.*", "", (ROOT / "deploy/nats/permissions.conf").read_text())
    block = text[text.index(f"{user.upper()}_MAY {{") :]
    block = block[block.index(f"{verb} {{") :]
    allowed = block[block.index("allow: [") : block.index("]")]
    return {each.split()[0] for each in OURS.findall(allowed)}


@pytest.mark.parametrize("verb", ["publish", "subscribe"])
@pytest.mark.parametrize("user", ["chat", "tts"])
def test_what_a_service_may_is_what_the_server_lets_it(user: str, verb: str) -> None:
    said = {
        subject_of(channel["address"])
        for channel in DOCUMENT.channels.values()
        if user in channel.get("x-parley-accounts", {}).get(verb, {}).get("PARLEY", ())
    }
    internal = {subject for subject in may(user, verb) if subject.startswith("tts.erase")}

    assert said == may(user, verb) - internal


def test_what_an_application_may_is_what_the_server_lets_it() -> None:
    text = (ROOT / "deploy/nats/application.conf").read_text()
    said = {
        verb: {
            subject_of(channel["address"])
            for channel in DOCUMENT.channels.values()
            if "APPS" in channel.get("x-parley-accounts", {}).get(verb, {})
        }
        for verb in ("publish", "subscribe")
    }

    assert said["publish"] == set(OURS.findall(text))
    assert said["subscribe"] == {"chat.delta", "chat.delta.*", "tts.audio", "tts.audio.*"}


@pytest.mark.parametrize("right", list(May))
def test_what_a_token_may_is_what_it_opens(right: May) -> None:
    opened = permissions_of(Token(claims(may=[right], conversations=["c"]), "A", "_INBOX_x"))
    said = {
        verb: {
            channel["address"].replace("{conversation_id}", "c")
            for channel in DOCUMENT.channels.values()
            if channel.get("x-parley-accounts", {}).get(verb, {}).get("token") == right.value
        }
        for verb in ("publish", "subscribe")
    }

    assert said["publish"] == set(opened.publish)
    assert said["subscribe"] == set(opened.subscribe) - {"_INBOX_x.>"}
