"""Noun: why a message was not decoded, in words: the field, its value, what is allowed."""

from __future__ import annotations

import functools
import re
from typing import Any, Final

import msgspec
from msgspec import inspect

from shared.contract import ID_PATTERN, ID_RULE, NO_SLASH, NO_SLASH_RULE, UNREADABLE

MAX_SHOWN: Final = 40  # characters of a value that are repeated
_WHERE: Final = re.compile(r" - at (`key` in )?`\$(.*)`\Z", re.DOTALL)
_STEP: Final = re.compile(r"\.([^.\[]+)|\[(\d+|\.\.\.)\]")
_MISSING: Final = re.compile(r"Object missing required field `(.*)`\Z", re.DOTALL)
_RULES: Final = {ID_PATTERN: ID_RULE, NO_SLASH: NO_SLASH_RULE}
_ABSENT: Final = object()


def explain(error: Exception, data: bytes, kind: type) -> str:
    """What msgspec says of `data`, for who wrote it, with no more of its contents than needed."""
    if not isinstance(error, msgspec.ValidationError):
        return f"the body is not JSON: {error}"
    found = _WHERE.search(str(error))
    path, is_key = (found[2], bool(found[1])) if found else ("", False)
    missing = _MISSING.match(str(error)[: found.start()] if found else str(error))
    try:
        value = msgspec.json.decode(data)
    except UNREADABLE:
        value = _ABSENT
    name, value, info = _follow(path, value, _of(kind), is_key=is_key)
    if missing:
        field = f"{name}.{missing[1]}" if name else missing[1]
        return f"`{field}` is missing"
    what = f"`{name}`" if name else "the body"
    return f"{what} {_is(value)}must be {_allowed(info)}"


@functools.cache
def _of(kind: type) -> inspect.Type:
    return inspect.type_info(kind)


def _follow(
    path: str, value: Any, info: inspect.Type, *, is_key: bool
) -> tuple[str, Any, inspect.Type]:
    """The field's name with its path, its value, what is known of its type."""
    name = ""
    for step, index in _STEP.findall(path):
        info = _without_null(info)
        if step:
            name = f"{name}.{step}" if name else step
            info = _field(info, step)
            value = value.get(step, _ABSENT) if isinstance(value, dict) else _ABSENT
        elif index == "...":
            inner = info.value_type if isinstance(info, inspect.DictType) else inspect.AnyType()
            key = _first_unfit(value, inner)
            name = f"{name}.{_shortened(key)}" if isinstance(key, str) else name
            info = inner
            value = value[key] if isinstance(key, str) else _ABSENT
        else:
            name = f"{name}[{index}]"
            info = info.item_type if isinstance(info, inspect.ListType) else inspect.AnyType()
            value = value[int(index)] if isinstance(value, list) else _ABSENT
    if is_key and isinstance(info := _without_null(info), inspect.DictType):
        keys, info = value if isinstance(value, dict) else (), info.key_type
        value = next((key for key in keys if not _fits(key, info)), _ABSENT)
        name = f"{name} (a key)"
    return name, value, info


def _field(info: inspect.Type, name: str) -> inspect.Type:
    for each in info.types if isinstance(info, inspect.UnionType) else (info,):
        if isinstance(each, inspect.StructType):
            for field in each.fields:
                if field.encode_name == name:
                    return field.type
    return inspect.AnyType()


def _without_null(info: inspect.Type) -> inspect.Type:
    if isinstance(info, inspect.Metadata):  # what describes it
        return _without_null(info.type)
    if isinstance(info, inspect.UnionType):
        types = tuple(each for each in info.types if not isinstance(each, inspect.NoneType))
        return types[0] if len(types) == 1 else inspect.UnionType(types)
    return info


def _first_unfit(value: Any, info: inspect.Type) -> str | None:
    found = value.items() if isinstance(value, dict) else ()
    return next((key for key, inner in found if not _fits(inner, info)), None)


def _fits(value: Any, info: inspect.Type) -> bool:
    """Of texts, the only type whose maps we have."""
    if not isinstance(info, inspect.StrType):
        return True
    return (
        isinstance(value, str)
        and len(value) >= (info.min_length or 0)
        and (info.max_length is None or len(value) <= info.max_length)
        and (info.pattern is None or re.search(info.pattern, value) is not None)
    )


def _is(value: Any) -> str:
    """The value in a few characters, and never what is inside of it."""
    if value is _ABSENT:
        return ""
    match value:
        case dict():
            shown = "an object"
        case list():
            shown = f"a list of {len(value)}"
        case _:
            shown = _shortened(msgspec.json.encode(value).decode())
    return f"is {shown}, but "


def _shortened(text: str) -> str:
    return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "…"


def _allowed(info: inspect.Type) -> str:  # noqa: C901, PLR0911  a table of types
    match _without_null(info):
        case inspect.EnumType(cls=cls):
            return "one of " + ", ".join(each.value for each in cls)
        case inspect.StrType(pattern=str(pattern)):
            return _RULES.get(pattern, "text of another form")
        case inspect.StrType(min_length=low, max_length=high):
            return "text" + _between(low, high, " characters")
        case inspect.IntType(ge=low, le=high):
            return "a whole number" + _between(low, high, "")
        case inspect.FloatType(ge=low, le=high):
            return "a number" + _between(low, high, "")
        case inspect.ListType(min_length=low, max_length=high):
            return "a list" + _between(low, high, "")
        case inspect.DictType(key_type=key, value_type=value, max_length=high):
            inside = f" of {_allowed(key)} to {_allowed(value)}"
            return "an object" + inside + (f", at most {high}" if high else "")
        case inspect.BoolType():
            return "false"  # the only one that we have: instead of an object
        case inspect.StructType():
            return "an object"
        case inspect.UnionType(types=types):
            return " or ".join(dict.fromkeys(map(_allowed, types)))
    return "something else"


def _between(low: float | None, high: float | None, unit: str) -> str:
    if low is None and high is None:
        return ""
    if low is None:
        return f" of at most {high}{unit}"
    return f" of {low} and more{unit}" if high is None else f" of {low} to {high}{unit}"
