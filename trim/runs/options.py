"""The description of an option beside its name, type and default: its words, choices, unit, and when it is idle.

A settings class declares each option once, with `option(…)` in place of the bare default; the command line, sweeps, the
form of the app, comparisons and labels read it with `options(Class)`.
"""

import dataclasses
import types
import typing
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from trim.errors import SettingsError
from trim.names import closest_matches

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T")
S = TypeVar("S", bound="DataclassInstance")
_KEY = "option"


def _never(settings: object) -> bool:
    return False


@dataclass(frozen=True)
class Words:
    """The arguments of `option`; see there."""

    help: str
    label: str
    group: str
    choices: Collection[str] = ()
    meanings: Mapping[str, str] = dataclasses.field(default_factory=dict)
    others: str = ""
    unset: str = ""
    unit: str = ""
    limits: tuple[float, float] | None = None
    step: float = 1
    metavar: str = ""
    flag: str = ""
    short: str = ""
    mark: str = ""
    idle: Callable[..., bool] = _never
    varies: bool = False
    takes_time: bool = True


@dataclass(frozen=True)
class Option(Words):
    """One option: its words, and what the dataclass says of it.

    Attributes:
        name, default: the field's.
        kind: str, int, float or bool: the type of the value, or of each of several.
        several: whether it holds a tuple.
    """

    name: str = ""
    default: object = None
    kind: type = str
    several: bool = False

    def text(self, value: object) -> str:
        """Format a value: "70%", "yes", "0.01, 0.02", "-" where there is none."""
        if value is None:
            return self.unset or "–"
        if isinstance(value, bool):
            return "yes" if value else "no"
        if isinstance(value, tuple | list):
            return ", ".join(map(self.text, value)) or "none"
        if self.unit == "%" and isinstance(value, float):
            return f"{100 * value:g}%"
        return f"{value:g}" if isinstance(value, float) else str(value)

    @property
    def sentence(self) -> str:
        """The help as a sentence, with the meaning of each choice below it."""
        lines = [f"{self.help[:1].upper()}{self.help[1:]}."]
        lines += [f"- `{name}`: {meaning}" for name, meaning in self.meanings.items()]
        return "\n".join(lines)


def option(
    default: T,
    *,
    help: str,
    label: str,
    group: str,
    choices: Collection[str] = (),
    meanings: Mapping[str, str] | None = None,
    others: str = "",
    unset: str = "",
    unit: str = "",
    limits: tuple[float, float] | None = None,
    step: float = 1,
    metavar: str = "",
    flag: str = "",
    short: str = "",
    mark: str = "",
    idle: Callable[..., bool] = _never,
    varies: bool = False,
    takes_time: bool = True,
) -> T:
    """Declare a field of a frozen dataclass as an option of the user's.

    Args:
        default: its default.
        help: one phrase without a full stop; begins in lower case.
        label: what a form and a comparison call it.
        group: the heading above it.
        choices: the names that it may have; may be a table that grows.
        meanings: what each of them does.
        others: what else it may be, apart from `choices`, such as "or a JSON file".
        unset: what None means.
        unit: "%": a form shows the share as percent.
        limits: the smallest and largest number in a form, in the form's unit.
        step: the step of the number in a form, in the form's unit.
        metavar: what the command line calls the value.
        flag: the command line's option; "": the field's name.
        short: in labels of curves, "λ {}"; of a switch, what it says where it is on; "": made from the name.
        mark: in names of cells where a switch is on; "": the flag.
        idle: whether it cannot change what is left of the model, given all settings.
        varies: whether a sweep may have several values of it.
        takes_time: whether it may change how long a run takes.
    """
    words = Words(
        help, label, group, choices, meanings or {}, others, unset, unit, limits, step, metavar, flag, short, mark,
        idle, varies, takes_time,
    )  # fmt: skip
    return dataclasses.field(default=default, metadata={_KEY: words})


_read: dict[type, dict[str, Option]] = {}


def options(settings: "type[DataclassInstance]") -> Mapping[str, Option]:
    """Return the options of a settings class by their names, in the order of their declaration."""
    if settings not in _read:
        _read[settings] = _read_options(settings)
    return _read[settings]


def settings_of(settings: type[S], fields: Mapping[str, object]) -> S:
    """Make settings from fields by their names, as a call, a grid or a file gives them.

    Raises:
        SettingsError: a name is not an option, or as for the class itself.
    """
    if unknown := [name for name in fields if name not in settings.__dataclass_fields__]:
        raise SettingsError(
            f"{unknown[0]!r} is not an option; closest names: {closest_matches(unknown[0], options(settings))}"
        )
    return settings(**fields)


def _read_options(settings: "type[DataclassInstance]") -> dict[str, Option]:
    hints = typing.get_type_hints(settings)
    found = {}
    for field in dataclasses.fields(settings):
        if (words := field.metadata.get(_KEY)) is None:
            continue
        hint = hints[field.name]
        several = typing.get_origin(hint) is tuple
        if several or isinstance(hint, types.UnionType):
            hint = typing.get_args(hint)[0]
        plain = {each.name: getattr(words, each.name) for each in dataclasses.fields(Words)}
        plain["flag"] = "--" + (words.flag or field.name).replace("_", "-")
        plain["mark"] = words.mark or plain["flag"].strip("-")
        switch = hint is bool
        plain["short"] = words.short or field.name.replace("_", " ") + ("" if switch else " {}")
        found[field.name] = Option(
            **plain, name=field.name, default=field.default, kind=hint, several=several
        )
    return found


def idle_options(settings: "DataclassInstance") -> frozenset[str]:
    """Return the options that cannot change what is left of the model, given the others."""
    return frozenset(name for name, each in options(type(settings)).items() if each.idle(settings))
