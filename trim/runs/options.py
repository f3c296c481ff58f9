"""The description of an option: its help, choices, unit, and when it is idle.

A settings class declares each option once, with `option(…)` in place of the bare default; the command line, sweeps, the
form of the app, comparisons and labels read it with `options(Class)`.
"""

import dataclasses
import functools
import types
import typing
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

from trim.errors import SettingsError
from trim.names import closest_matches

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

P = ParamSpec("P")
T = TypeVar("T")
S = TypeVar("S", bound="DataclassInstance")
_KEY = "option"


@dataclass(frozen=True, kw_only=True)
class OptionSpec:
    """The arguments of `option` after the default.

    Attributes:
        help: one phrase without a full stop; begins in lower case.
        label: its title in forms and comparisons.
        group: the heading above it.
        choices: the allowed names; may be a mapping to which extensions add names.
        meanings: the meaning of each choice.
        others: further values besides `choices`, such as "or a JSON file".
        unset: the meaning of None.
        unit: "%": a form shows the share as percent.
        limits: the smallest and largest number in a form, in the form's unit.
        step: the step of the number in a form, in the form's unit.
        metavar: stands for the value in the help of the command line.
        flag: the name on the command line; "": the field's name.
        short: the label in curves, with {} for the value, such as "λ {}"; "": made from the name.
        mark: stands for a switch that is on, or precedes a value, in the names of a sweep's cells; "": the flag.
        idle: receives the settings, and returns whether the option cannot change the pruned model under them.
        varies: whether a sweep may have several values of the option.
        affects_time: whether the option may change how long a run takes.
    """

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
    idle: Callable[..., bool] = lambda settings: False
    varies: bool = False
    affects_time: bool = True


def _field_with(spec: Callable[P, OptionSpec]) -> Callable[Concatenate[T, P], T]:
    """Return `option`, typed as the field that it declares, with the arguments of `OptionSpec` after the default."""

    def declare(default: T, *args: P.args, **kwargs: P.kwargs) -> T:
        return dataclasses.field(default=default, metadata={_KEY: spec(*args, **kwargs)})

    return declare


# option(default, help=…, label=…, …) declares a dataclass field that the user can set.
option = _field_with(OptionSpec)


@dataclass(frozen=True, kw_only=True)
class Option(OptionSpec):
    """One option: its description, with the name, default and type of its field.

    Attributes:
        name, default: the field's.
        kind: str, int, float or bool: the type of the value, or of each value of a tuple.
        several: whether the value is a tuple.
    """

    name: str
    default: object
    kind: type
    several: bool

    def text(self, value: object) -> str:
        """Format a value: "70%", "yes", "0.01, 0.02", "–" for None."""
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


def make_settings(settings: type[S], fields: Mapping[str, object]) -> S:
    """Make settings from fields by name, as calls, grids and files give them.

    Raises:
        SettingsError: a name is not an option, or the class refuses a value.
    """
    if unknown := [name for name in fields if name not in settings.__dataclass_fields__]:
        raise SettingsError(
            f"{unknown[0]!r} is not an option; closest names: {closest_matches(unknown[0], options(settings))}"
        )
    return settings(**fields)


@functools.cache
def options(settings: "type[DataclassInstance]") -> Mapping[str, Option]:
    """Return the options of a settings class by their names, in the order of their declaration."""
    hints = typing.get_type_hints(settings)
    declared = {}
    for field in dataclasses.fields(settings):
        if (spec := field.metadata.get(_KEY)) is None:
            continue
        hint = hints[field.name]
        several = typing.get_origin(hint) is tuple
        if several or isinstance(hint, types.UnionType):
            hint = typing.get_args(hint)[0]
        plain = {each.name: getattr(spec, each.name) for each in dataclasses.fields(OptionSpec)}
        plain["flag"] = "--" + (spec.flag or field.name).replace("_", "-")
        plain["mark"] = spec.mark or plain["flag"].strip("-")
        switch = hint is bool
        plain["short"] = spec.short or field.name.replace("_", " ") + ("" if switch else " {}")
        declared[field.name] = Option(
            **plain, name=field.name, default=field.default, kind=hint, several=several
        )
    return declared


def idle_options(settings: "DataclassInstance") -> frozenset[str]:
    """Return the options that cannot change the pruned model, given the others."""
    return frozenset(name for name, each in options(type(settings)).items() if each.idle(settings))
