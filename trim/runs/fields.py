"""Read values from JSON and check them against the annotations of a dataclass."""

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar

from trim.errors import SettingsError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T")
D = TypeVar("D", bound="DataclassInstance")


def read_fields(kind: type[D], content: Mapping[str, object], name: str) -> D:
    """Make a dataclass of plain fields out of a JSON object; keys that it does not have are passed over.

    Raises:
        SettingsError: a field is missing or of the wrong type.
    """
    found = {}
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        if field.name in content:
            found[field.name] = read_value(content[field.name], hints[field.name], f"{name}.{field.name}")
        elif field.default is dataclasses.MISSING:
            raise SettingsError(f"{name}.{field.name} is missing")
    return kind(**found)


def read_value(value: object, hint: object, name: str) -> object:
    """Check a JSON value against an annotation made of str, int, float, bool, None, unions and tuples of these.

    Raises:
        SettingsError: it is of another type.
    """
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, list | tuple):
            raise SettingsError(f"{name} must be a list, not {value!r}")
        return tuple(read_value(each, typing.get_args(hint)[0], name) for each in value)
    allowed = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    wanted = {types.NoneType if each is None else each for each in allowed}
    if float in wanted and type(value) is int:
        return float(value)
    if type(value) not in wanted:
        words = " or ".join("null" if each is types.NoneType else each.__name__ for each in allowed)
        raise SettingsError(f"{name} must be {words}, not {value!r}")
    return value


def read_mapping(content: object, name: str, kind: type[T]) -> dict[str, T]:
    """Read an object whose values are all of a kind; any other raises SettingsError."""
    if not isinstance(content, dict):
        raise SettingsError(f"{name} must be an object, not {content!r}")
    return {
        str(key): typing.cast(T, read_value(value, kind, f"{name}.{key}")) for key, value in content.items()
    }
