#!/usr/bin/env python3
"""Writes src/contract.ts from shared/contract.py; `--check` only says whether it is stale."""

from __future__ import annotations

import enum
import json
import sys
from inspect import getdoc
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

CLIENT = Path(__file__).resolve().parent
sys.path.insert(0, str(CLIENT.parents[1]))

from msgspec import Struct, inspect  # noqa: E402

from shared import contract  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterable

TARGET = CLIENT / "src" / "contract.ts"
HEAD = """\
// Generated from shared/contract.py by clients/typescript/contract.py (`make web`): do not edit.
"""
_END = r"\Z"  # of a pattern; "$" in JavaScript
_PLAIN = {
    inspect.StrType: "string",
    inspect.IntType: "number",
    inspect.FloatType: "number",
    inspect.BoolType: "boolean",
    inspect.NoneType: "null",
}


def constants() -> Iterable[str]:
    for name, value in vars(contract).items():
        if name.isupper() and not name.startswith("_") and isinstance(value, str | int):
            yield f"export const {name} = {literal(value)};"


def literal(value: object) -> str:
    if isinstance(value, str) and value.endswith(_END):
        value = value.removesuffix(_END) + "$"
    return json.dumps(value)


def members(module: object, base: type) -> list[type]:
    return [
        found
        for found in vars(module).values()
        if isinstance(found, type)
        and issubclass(found, base)
        and found.__module__ == contract.__name__
    ]


def enums() -> Iterable[str]:
    for kind in members(contract, enum.StrEnum):
        values = [literal(str(member)) for member in kind]  # type: ignore[attr-defined]
        lines = [*told(getdoc(kind)), f"export type {kind.__name__} ="]
        yield "\n".join([*lines, *(f"  | {v}" for v in values)]) + ";"


def structs() -> Iterable[str]:
    found = members(contract, Struct)
    bases = {base for kind in found for base in kind.__mro__[1:]}
    for info in inspect.multi_type_info([kind for kind in found if kind not in bases]):
        assert isinstance(info, inspect.StructType)
        lines = [*told(getdoc(info.cls)), f"export interface {info.cls.__name__} {{"]
        if info.tag is not None:
            lines.append(f"  {info.tag_field}: {literal(info.tag)};")
        for field in info.fields:
            mark = "" if field.required else "?"
            lines += told(described(field.type), indent="  ")
            lines.append(f"  {field.encode_name}{mark}: {typescript(field.type)};")
        yield "\n".join([*lines, "}"])


def told(text: str | None, indent: str = "") -> list[str]:
    """A comment that editors show; none where there is nothing to say."""
    lines = (text or "").splitlines()
    if len(lines) < 2:
        return [f"{indent}/** {line} */" for line in lines]
    return [f"{indent}/**", *(f"{indent} * {line}".rstrip() for line in lines), f"{indent} */"]


def described(kind: Any) -> str:
    """What the contract says of a field."""
    more = kind.extra_json_schema if isinstance(kind, inspect.Metadata) else None
    return str((more or {}).get("description", ""))


def typescript(kind: Any) -> str:  # noqa: PLR0911
    """The TypeScript of what msgspec knows of a type."""
    if type(kind) in _PLAIN:
        return _PLAIN[type(kind)]
    match kind:  # one line for each kind that the contract uses
        case inspect.Metadata():  # what describes it
            return typescript(kind.type)
        case inspect.EnumType() | inspect.StructType():
            return str(kind.cls.__name__)
        case inspect.UnionType():
            names = [typescript(t) for t in kind.types]
            # A bool beside an object stands for its absence: `true` is refused.
            is_object = any(isinstance(t, inspect.StructType) for t in kind.types)
            return " | ".join("false" if is_object and n == "boolean" else n for n in names)
        case inspect.LiteralType():
            return " | ".join(literal(v) for v in kind.values)
        case inspect.ListType():
            inner = typescript(kind.item_type)
            return f"({inner})[]" if "|" in inner else f"{inner}[]"
        case inspect.TupleType():
            return "[" + ", ".join(typescript(t) for t in kind.item_types) + "]"
        case inspect.DictType():
            return f"Record<string, {typescript(kind.value_type)}>"
    raise TypeError(f"no TypeScript for {kind}")


def unions() -> Iterable[str]:
    names = " | ".join(kind.__name__ for kind in get_args(contract.Delta))
    yield f"export type Delta = {names};"


def generated() -> str:
    parts = ["\n".join(constants()), *enums(), *structs(), *unions()]
    return HEAD + "\n" + "\n\n".join(parts) + "\n"


def main(arguments: list[str]) -> int:
    if "--check" in arguments:
        if TARGET.is_file() and TARGET.read_text(encoding="utf-8") == generated():
            return 0
        sys.stderr.write(
            "clients/typescript/src/contract.ts is stale: run contract.py there, or `make web`\n"
        )
        return 1
    TARGET.write_text(generated(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
