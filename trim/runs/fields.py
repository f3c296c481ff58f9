"""Read JSON from outside, and check it against annotations: types, ranges, lengths, depth."""

import dataclasses
import functools
import json
import math
import re
import types
import typing
from collections.abc import Callable, Collection, Container, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

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
    return kind(**_read_keys(kind, content, name))


def read_value(value: object, hint: object, name: str) -> object:
    """Check a JSON value against an annotation.

    An annotation may consist of str, int, float, bool, None, literals, unions, tuples, lists, dictionaries, typed
    dictionaries and dataclasses. `Annotated` restricts the values by `Limits`, another container, or a regular
    expression.

    Raises:
        SettingsError: the value does not match the annotation.
    """
    return _reader(hint)(value, name)


# A value's name in messages: that of the outer value and its own (None: the value is a key), joined where one is shown.
_Name: typing.TypeAlias = "str | tuple[_Name, str | None]"
_Reader: typing.TypeAlias = Callable[[Any, _Name], Any]


@functools.cache
def _reader(hint: Any) -> _Reader:
    """Return the function that reads values of an annotation; a run may have 18,000 layers, so each is made once."""
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return functools.partial(_read_restricted, _reader(inside[0]), inside[1:])
    if origin in (typing.Required, typing.NotRequired):
        return _reader(inside[0])
    if origin is typing.Literal:
        return functools.partial(_read_literal, inside)
    if origin in (types.UnionType, typing.Union):
        return functools.partial(_read_union, inside)
    if origin is list or (origin is tuple and inside[-1] is Ellipsis):
        return functools.partial(_read_list, origin, _reader(inside[0]))
    if origin is tuple:
        return functools.partial(_read_tuple, tuple(map(_reader, inside)))
    if origin is dict or hint is dict:
        key, each = inside or (str, object)
        return functools.partial(_read_table, _reader(key), _reader(each))
    if dataclasses.is_dataclass(hint):
        return functools.partial(_read_dataclass, hint)
    if typing.is_typeddict(hint):
        return functools.partial(_read_typed_table, hint)
    return functools.partial(_read_plain, types.NoneType if hint is None else hint)


def _read_restricted(read: _Reader, limits: tuple, value: object, name: _Name) -> object:
    value = read(value, name)
    for allowed in limits:
        _check_allowed(value, allowed, name)
    return value


def _read_literal(words: tuple, value: object, name: _Name) -> object:
    if not any(value == each and type(value) is type(each) for each in words):
        raise _mismatch(value, " or ".join(map(repr, words)), name)
    return value


def _read_union(kinds: tuple, value: object, name: _Name) -> object:
    for kind in kinds:
        try:
            return _reader(kind)(value, name)
        except SettingsError:
            continue
    raise _mismatch(value, " or ".join(map(_name_of_type, kinds)), name)


def _read_list(kind: type, read: _Reader, value: object, name: _Name) -> object:
    if not isinstance(value, list | tuple):
        raise _mismatch(value, "a list", name)
    return kind(read(each, name) for each in value)


def _read_tuple(readers: tuple[_Reader, ...], value: object, name: _Name) -> object:
    if not isinstance(value, list | tuple) or len(value) != len(readers):
        raise _mismatch(value, f"a list of {len(readers)}", name)
    return tuple(read(each, name) for read, each in zip(readers, value, strict=True))


def _read_table(read_key: _Reader, read: _Reader, value: object, name: _Name) -> object:
    table = _require_object(value, name)
    return {read_key(key, (name, None)): read(each, (name, key)) for key, each in table.items()}


def _read_dataclass(kind: Any, value: object, name: _Name) -> object:
    table = _require_object(value, name)
    reader = getattr(kind, "from_json", None)
    return reader(table) if reader else kind(**_read_keys(kind, table, name))


def _read_typed_table(shape: type, value: object, name: _Name) -> object:
    table = _require_object(value, name)
    return table | _read_keys(shape, table, name)


def _read_plain(kind: type, value: object, name: _Name) -> object:
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind and kind is not object:
        raise _mismatch(value, _name_of_type(kind), name)
    return value


def _read_keys(kind: type, content: Mapping[str, object], name: _Name) -> dict[str, object]:
    readers, needed = _readers_of_keys(kind)
    if missing := [key for key in needed if key not in content]:
        raise SettingsError(f"{_joined(name)}.{missing[0]} is missing")
    return {key: read(content[key], (name, key)) for key, read in readers.items() if key in content}


@functools.cache
def _readers_of_keys(kind: Any) -> tuple[dict[str, _Reader], list[str]]:
    """Return how the fields of a dataclass, or the keys of a typed dictionary, are read, and which must be there."""
    hints = typing.get_type_hints(kind, include_extras=True)
    if typing.is_typeddict(kind):
        needed = kind.__required_keys__
    else:
        needed = {field.name for field in dataclasses.fields(kind) if field.default is dataclasses.MISSING}
    return {key: _reader(hint) for key, hint in hints.items()}, [key for key in hints if key in needed]


def _require_object(value: object, name: _Name) -> dict:
    if not isinstance(value, dict):
        raise _mismatch(value, "an object", name)
    return value


def _check_allowed(value: object, allowed: re.Pattern | Container, name: _Name) -> None:
    if isinstance(allowed, re.Pattern):
        if not allowed.fullmatch(str(value)):
            raise SettingsError(f"{_joined(name)} cannot be {_short_repr(value)}")
    elif value not in allowed:
        characters = " characters" if isinstance(allowed, Limits) and isinstance(value, str) else ""
        raise _mismatch(value, f"{allowed}{characters}", name)


def _joined(name: _Name) -> str:
    if isinstance(name, str):
        return name
    outer, own = _joined(name[0]), name[1]
    return f"a name in {outer}" if own is None else f"{outer}.{own}"


def _name_of_type(hint: object) -> str:
    if hint in (None, types.NoneType):
        return "null"
    return getattr(hint, "__name__", None) or str(hint)


def _mismatch(value: object, wanted: str, name: _Name) -> SettingsError:
    return SettingsError(f"{_joined(name)} must be {wanted}, not {_short_repr(value)}")


def _short_repr(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
