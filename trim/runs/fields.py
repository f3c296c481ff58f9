"""Read JSON from outside, and check it against annotations: types, ranges, lengths, depth."""

import dataclasses
import functools
import json
import math
import re
import types
import typing
from collections.abc import Collection, Container, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar

from trim.errors import SettingsError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

D = TypeVar("D", bound="DataclassInstance")

MAX_JSON_DEPTH = 24
MAX_TEXT_CHARACTERS = 100_000
_MAX_INTEGER_DIGITS = 18
_SHOWN = 60  # characters of a wrong value in a message


@dataclass(frozen=True)
class Limits:
    """Bounds in an `Annotated`, of a number, or of the length of a collection."""

    least: float = 0
    most: float = math.inf

    def __contains__(self, value: object) -> bool:
        size = value if isinstance(value, int | float) else len(typing.cast(Collection, value))
        return self.least <= size <= self.most

    def __str__(self) -> str:
        return f"between {self.least:g} and {self.most:g}"


def parse_json(text: str | bytes) -> object:
    """Parse JSON whose numbers are finite, and whose depth and strings have a limit.

    Raises:
        ValueError: the text is not such JSON.
    """
    try:
        content = json.loads(
            text, parse_constant=_refuse_constant, parse_int=_parse_int, parse_float=_parse_float
        )
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    _check_size(content, MAX_JSON_DEPTH)
    return content


def _refuse_constant(word: str) -> float:
    """Refuse NaN and infinity, which Python writes as words that JSON does not have."""
    raise ValueError(f"{word} is not a number")


def _parse_int(digits: str) -> int:
    if len(digits) > _MAX_INTEGER_DIGITS:
        raise ValueError(f"a number has {len(digits):,} digits")
    return int(digits)


def _parse_float(digits: str) -> float:
    if not math.isfinite(value := float(digits)):
        raise ValueError(f"{digits[:_SHOWN]} is too large")
    return value


def _check_size(content: object, depth: int) -> None:
    """Refuse content that is nested too deeply, or has too long strings."""
    if isinstance(content, str):
        if len(content) > MAX_TEXT_CHARACTERS:
            raise ValueError(f"a text has {len(content):,} characters")
    elif isinstance(content, dict | list):
        if not depth:
            raise ValueError("it is nested too deeply")
        for each in content:
            _check_size(each, depth - 1)
        if isinstance(content, dict):
            for each in content.values():
                _check_size(each, depth - 1)


def number_to_json(value: float) -> float | Literal["nan", "inf", "-inf"]:
    """Convert a number for JSON: NaN and infinity become words that `float` reads."""
    if math.isnan(value):
        return "nan"
    return value if math.isfinite(value) else "inf" if value > 0 else "-inf"


def read_fields(kind: type[D], content: Mapping[str, object], name: str) -> D:
    """Make a dataclass of plain fields from a JSON object; unknown keys are ignored.

    Raises:
        SettingsError: a field is missing, or does not match its annotation.
    """
    hints = _hints(kind)
    needed = {field.name for field in dataclasses.fields(kind) if field.default is dataclasses.MISSING}
    return kind(**_read_keys(content, hints, needed, name))


@functools.cache
def _hints(kind: type) -> dict[str, object]:
    return typing.get_type_hints(kind, include_extras=True)


def _read_keys(
    content: Mapping[str, object], hints: Mapping[str, object], needed: Collection[str], name: str
) -> dict[str, object]:
    if missing := [key for key in hints if key in needed and key not in content]:
        raise SettingsError(f"{name}.{missing[0]} is missing")
    return {
        key: read_value(content[key], hint, f"{name}.{key}") for key, hint in hints.items() if key in content
    }


def read_value(value: object, hint: object, name: str) -> object:
    """Check a JSON value against an annotation.

    An annotation may consist of str, int, float, bool, None, literals, unions, tuples, lists, dictionaries, typed
    dictionaries and dataclasses. `Annotated` restricts the values by `Limits`, another container, or a regular
    expression.

    Raises:
        SettingsError: the value does not match the annotation.
    """
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        value = read_value(value, inside[0], name)
        for allowed in inside[1:]:
            _check_allowed(value, allowed, name)
        return value
    if origin in (typing.Required, typing.NotRequired):
        return read_value(value, inside[0], name)
    if origin is typing.Literal:
        if not any(value == each and type(value) is type(each) for each in inside):
            raise _mismatch(value, " or ".join(map(repr, inside)), name)
        return value
    if origin in (types.UnionType, typing.Union):
        return _read_union(value, inside, name)
    if origin in (tuple, list):
        return _read_list(value, origin, inside, name)
    if origin is dict or hint is dict:
        table = _require_object(value, name)
        inside = inside or (str, object)
        return {
            read_value(key, inside[0], f"a name in {name}"): read_value(each, inside[1], f"{name}.{key}")
            for key, each in table.items()
        }
    if dataclasses.is_dataclass(hint):
        table = _require_object(value, name)
        reader = getattr(hint, "from_json", None)
        return reader(table) if reader else read_fields(typing.cast("type", hint), table, name)
    if typing.is_typeddict(hint):
        table, shape = _require_object(value, name), typing.cast("type", hint)
        return table | _read_keys(table, _hints(shape), vars(shape)["__required_keys__"], name)
    if hint is float and type(value) is int:
        return float(value)
    if hint is not object and type(value) is not (types.NoneType if hint is None else hint):
        raise _mismatch(value, _name_of_type(hint), name)
    return value


def _read_union(value: object, kinds: tuple, name: str) -> object:
    for kind in kinds:
        try:
            return read_value(value, kind, name)
        except SettingsError:
            continue
    raise _mismatch(value, " or ".join(map(_name_of_type, kinds)), name)


def _read_list(value: object, kind: type, inside: tuple, name: str) -> object:
    if not isinstance(value, list | tuple):
        raise _mismatch(value, "a list", name)
    if kind is list or inside[-1] is Ellipsis:
        inside = (inside[0],) * len(value)
    if len(value) != len(inside):
        raise _mismatch(value, f"a list of {len(inside)}", name)
    return kind(read_value(each, hint, name) for each, hint in zip(value, inside, strict=True))


def _require_object(value: object, name: str) -> dict:
    if not isinstance(value, dict):
        raise _mismatch(value, "an object", name)
    return value


def _check_allowed(value: object, allowed: re.Pattern | Container, name: str) -> None:
    if isinstance(allowed, re.Pattern):
        if not allowed.fullmatch(str(value)):
            raise SettingsError(f"{name} cannot be {_short_repr(value)}")
    elif value not in allowed:
        characters = " characters" if isinstance(allowed, Limits) and isinstance(value, str) else ""
        raise _mismatch(value, f"{allowed}{characters}", name)


def _name_of_type(hint: object) -> str:
    if hint in (None, types.NoneType):
        return "null"
    return getattr(hint, "__name__", None) or str(hint)


def _mismatch(value: object, wanted: str, name: str) -> SettingsError:
    return SettingsError(f"{name} must be {wanted}, not {_short_repr(value)}")


def _short_repr(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
