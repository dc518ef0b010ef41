"""docs/asyncapi.json, held against messages as they stand on the wire."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from jsonschema import Draft7Validator

ROOT: Final = Path(__file__).parent.parent
JSON: Final = "application/json"


def _strict(schema: Any) -> Any:
    """With no field that the schema does not name."""
    if isinstance(schema, list):
        return [_strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: _strict(value) for key, value in schema.items()}
    if isinstance(found.get("properties"), dict) and found.get("type") == "object":
        found.setdefault("additionalProperties", False)
    return found


def validator(schema: Mapping[str, Any], **options: Any) -> Draft7Validator:
    # Loaded here: it builds parsers for three seconds, and every worker of a run loads every test.
    from jsonschema import Draft7Validator  # noqa: PLC0415

    return Draft7Validator(schema, **options)


@dataclass(frozen=True)
class Document:
    whole: dict[str, Any]

    @property
    def channels(self) -> dict[str, Any]:
        return dict(self.whole["channels"])

    @property
    def messages(self) -> dict[str, Any]:
        return dict(self.whole["components"]["messages"])

    @property
    def taken(self) -> set[str]:
        """The channels where Parley listens."""
        return {
            operation["channel"]["$ref"].rpartition("/")[2]
            for operation in self.whole["operations"].values()
            if operation["action"] == "receive"
        }

    @cached_property
    def _schemas(self) -> Mapping[bool, Mapping[str, Any]]:
        """The shared ones; by whether they are strict."""
        found = {"schemas": self.whole["components"]["schemas"]}
        return {False: found, True: _strict(found)}

    def complaints(self, schema: Mapping[str, Any], value: object, *, strict: bool) -> list[str]:
        """What is wrong with a value; `strict`: a field that nobody has described, too."""
        schemas = self._schemas[strict]
        whole = {"allOf": [_strict(schema) if strict else schema], "components": schemas}
        errors = validator(whole).iter_errors(value)
        return [f"{error.json_path}: {error.message}" for error in errors]

    def wrong(
        self, name: str, headers: Mapping[str, str], data: bytes, *, strict: bool = True
    ) -> list[str]:
        """Why these bytes are no message of that name."""
        message = self.messages[name]
        ours = strict and "Dead" not in name  # where the original's own stand beside ours
        found = self.complaints(message.get("headers", {}), dict(headers), strict=ours)
        try:
            body = _body(message["contentType"], data)
        except ValueError as exc:
            return [*found, str(exc)]
        return found + self.complaints(message["payload"], body, strict=strict)

    def kind_of(self, channel: str, headers: Mapping[str, str], data: bytes) -> str:
        """The one message of the channel that it is."""
        names = list(self.channels[channel]["messages"])
        strict = channel not in self.taken  # what others send may have fields that nobody knows
        wrong = {name: self.wrong(name, headers, data, strict=strict) for name in names}
        fits = [name for name in names if not wrong[name]]
        assert len(fits) == 1, f"{channel}: {fits or wrong}: {dict(headers)} {data[:200]!r}"
        return str(fits[0])

    def channel_of(self, subject: str) -> str:
        for name, channel in self.channels.items():
            if channel["address"] is not None and _pattern(channel["address"]).fullmatch(subject):
                return name
        raise AssertionError(f"no channel has the subject {subject}")


def _body(content_type: str, data: bytes) -> Any:
    if content_type == JSON:
        return json.loads(data)
    return data.decode("latin-1")


def _pattern(address: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\\{\w+\\\}", "[A-Za-z0-9_-]+", re.escape(address)))


def references(node: object) -> set[str]:
    """Every `$ref` below a node."""
    below: Iterable[object] = ()
    own: set[str] = set()
    if isinstance(node, dict):
        own = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
        below = node.values()
    elif isinstance(node, list):
        below = node
    return own.union(*map(references, below))


def document() -> Document:
    return Document(json.loads((ROOT / "docs" / "asyncapi.json").read_text(encoding="utf-8")))
