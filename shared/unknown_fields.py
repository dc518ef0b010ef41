"""Noun: the fields of a message that nothing knows, by path, with the nearest known name.

Unknown fields are ignored, so that a later version may add some; a misspelled one is ignored, too,
and its sender would look for the reason for long.
"""

from __future__ import annotations

import difflib
import functools
import itertools
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec
from msgspec import inspect

from shared.contract import UNREADABLE

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_NAMED: Final = 10
_MAX_NAME: Final = 64  # characters of a stranger's field that are repeated

# What is known of a type: the names of its fields with what is known of theirs, None for a value
# whose fields are anybody's, or a list of one for what stands in a list.
_Known: TypeAlias = "dict[str, _Known] | list[_Known] | None"


def unknown_fields(message: object, kind: type) -> list[str]:
    """A sentence for each field of a decoded message that its type does not have, ten at most."""
    found = itertools.islice(_walk(message, _of(kind), ""), MAX_NAMED)
    return [_sentence(path, nearest) for path, nearest in found]


def unknown_fields_of(data: bytes, kind: type) -> list[str]:
    """The same of a message as it arrived; of plain text there are none."""
    try:
        return unknown_fields(msgspec.json.decode(data), kind)
    except UNREADABLE:
        return []


@functools.cache
def _of(kind: type) -> _Known:
    return _known(inspect.type_info(kind))


def _known(info: inspect.Type) -> _Known:
    match info:
        case inspect.Metadata(type=described):
            return _known(described)
        case inspect.StructType(fields=fields):
            return {field.encode_name: _known(field.type) for field in fields}
        case inspect.ListType(item_type=item):
            return [_known(item)]
        case inspect.UnionType(types=types):
            return next((found for each in types if (found := _known(each)) is not None), None)
    return None


def _walk(value: Any, known: _Known, path: str) -> Iterator[tuple[str, str | None]]:
    if isinstance(known, dict) and isinstance(value, dict):
        for name, inner in value.items():
            where = f"{path}.{name[:_MAX_NAME]}" if path else name[:_MAX_NAME]
            if name in known:
                yield from _walk(inner, known[name], where)
            else:
                nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
                yield where, nearest[0] if nearest else None
    elif isinstance(known, list) and isinstance(value, list):
        for at, inner in enumerate(value):
            yield from _walk(inner, known[0], f"{path}[{at}]")


def _sentence(path: str, nearest: str | None) -> str:
    said = f"`{path}` is not known and was ignored"
    return f"{said}; did you mean `{nearest}`?" if nearest else said
