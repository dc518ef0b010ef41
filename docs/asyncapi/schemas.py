"""The JSON Schemas (draft-07, as AsyncAPI has them) of shared/contract.py."""

from __future__ import annotations

import enum
from typing import Any, Final

import msgspec

from shared import contract

COMPONENTS: Final = "#/components/schemas/"
DRAFT: Final = "http://json-schema.org/draft-07/schema#"


def structs() -> list[type[msgspec.Struct]]:
    """Every message of the contract, and what messages are made of; no mere base of others."""
    bases = {contract.DeltaEvent, contract.AudioEvent}
    return [
        each
        for each in vars(contract).values()
        if isinstance(each, type) and issubclass(each, msgspec.Struct)
        if each.__module__ == contract.__name__ and each not in bases
    ]


def schemas() -> dict[str, Any]:
    """By name, referring to each other under COMPONENTS."""
    kinds = [*structs(), *_enums()]
    _, found = msgspec.json.schema_components(kinds, ref_template=COMPONENTS + "{name}")
    return {name: _plain(found[name]) for name in sorted(found)}


def files() -> dict[str, dict[str, Any]]:
    """The same, each a file that refers to its neighbours."""
    return {
        f"{name}.json": {"$schema": DRAFT, "$id": f"{name}.json", **_beside(schema)}
        for name, schema in schemas().items()
    }


def _enums() -> list[type]:
    return [
        each
        for each in vars(contract).values()
        if isinstance(each, type) and issubclass(each, enum.Enum)
        if each.__module__ == contract.__name__
    ]


def _plain(schema: Any) -> Any:
    """In draft-07, and with no pattern that only Python knows."""
    if isinstance(schema, list):
        return [_plain(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: _plain(value) for key, value in schema.items()}
    if isinstance(found.get("description"), str):
        found["description"] = " ".join(found["description"].split())
    if "prefixItems" in found:
        found |= {"items": found.pop("prefixItems"), "additionalItems": False}
    if isinstance(found.get("pattern"), str):
        found["pattern"] = found["pattern"].replace(r"\Z", "$")
        if found.get("default") == "":  # which is no id: it stands for an absent one
            del found["default"]
    if isinstance(found.get("enum"), list):
        found = _constant(found) if len(found["enum"]) == 1 else {**found, "type": "string"}
    if isinstance(found.get("anyOf"), list):
        found["anyOf"] = _false_or_speech(found["anyOf"])
    if isinstance(found.get("$ref"), str) and len(found) > 1:  # draft-07 ignores what stands beside
        found = {"allOf": [{"$ref": found.pop("$ref")}], **found}
    return found


def _constant(schema: dict[str, Any]) -> dict[str, Any]:
    (only,) = schema.pop("enum")
    return {"const": only, "type": "string", **schema}


def _false_or_speech(choices: list[Any]) -> list[Any]:
    """Instead of an object only `false` stands; msgspec knows no `Literal[False]`."""
    if {"$ref": COMPONENTS + contract.Speech.__name__} not in choices:
        return choices
    return [
        {"const": False, "type": "boolean"} if each == {"type": "boolean"} else each
        for each in choices
    ]


def _beside(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_beside(each) for each in schema]
    if isinstance(schema, dict):
        return {
            key: f"{value.removeprefix(COMPONENTS)}.json" if key == "$ref" else _beside(value)
            for key, value in schema.items()
        }
    return schema
