"""The options of settings classes as arguments of the command line."""

import argparse
import shlex
import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, TypeAlias

from trim.errors import SettingsError
from trim.runs.options import Option, options
from trim.runs.published import as_published
from trim.runs.settings import MACHINE, PruneSettings

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

# What `add_subparsers` returns; each command adds its own parser to it.
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add_json(parser: argparse.ArgumentParser, what: str = "one JSON object a line") -> None:
    """Add `--json`."""
    parser.add_argument("--json", action="store_true", help=f"for programs: {what}")


def refuse(chosen: argparse.Namespace, names: Iterable[str], why: str) -> None:
    """Refuse options that would have no effect.

    Args:
        chosen: options that were not given are missing, None or False.
        names: their names as attributes.
        why: the end of the message, which begins with the first such option.
    """
    for name in names:
        value = getattr(chosen, name, None)
        if value is not None and value is not False:  # 0 was given
            raise SettingsError(f"--{name.replace('_', '-')} {why}")


def add_machine(parser: argparse.ArgumentParser, *names: str) -> argparse._ArgumentGroup:
    """Add options of the machine, None by default, and return their group."""
    parser.set_defaults(**dict.fromkeys(names))
    return add_options(parser, names)[MACHINE]


def add_options(
    parser: argparse.ArgumentParser,
    names: Iterable[str],
    settings: "type[DataclassInstance]" = PruneSettings,
) -> dict[str, argparse._ArgumentGroup]:
    """Add options of a settings class under their headings, and return the groups by heading."""
    declared = options(settings)
    groups: dict[str, argparse._ArgumentGroup] = {}
    for name in names:
        each = declared[name]
        if each.group not in groups:
            groups[each.group] = parser.add_argument_group(each.group)
        _add(groups[each.group], each)
    return groups


def add_grid(group: argparse._ArgumentGroup, names: Iterable[str]) -> None:
    """Add options that accept several values, with the defaults of `prune`."""
    for name in names:
        each = options(PruneSettings)[name]
        switch = each.kind is bool
        group.add_argument(
            plural_flag(each),
            dest=f"grid_{name}",
            type=_yes_or_no if switch else each.kind,
            nargs="+",
            metavar="no|yes" if switch else _metavar(each),
            choices=_choices(each),
            help=_escape(_help(each) + (": no, yes, or both" if switch else "")),
        )


def add_as_published(parser: argparse.ArgumentParser) -> None:
    """Add `--as-published`; options that the user gives override it."""
    parser.add_argument(
        "--as-published",
        action="store_true",
        help="the run of TRIM's authors instead of our defaults; options given as well still count. It sets "
        + _escape(shlex.join(_flags(published_fields(())))),
    )


def published_fields(given: Iterable[str]) -> dict[str, object]:
    """Return the options of the TRIM authors' run, without those that the user gave, by name."""
    return {name: value for name, value in as_published().items() if name not in given}


def print_published(fields: Mapping[str, object]) -> None:
    """Print the options that `--as-published` changes from their defaults."""
    print(f"As published: {shlex.join(_flags(fields))}", file=sys.stderr)


def _flags(fields: Mapping[str, object]) -> list[str]:
    declared = options(PruneSettings)
    changed = {name: value for name, value in fields.items() if value != declared[name].default}
    return [
        word
        for name, value in changed.items()
        for word in ((declared[name].flag,) if isinstance(value, bool) else (declared[name].flag, f"{value}"))
    ]


def plural_flag(each: Option) -> str:
    """Return the flag of an option that accepts several values: "--targets", "--row-weights", "--refit"."""
    return each.flag if each.kind is bool or each.flag.endswith("s") else f"{each.flag}s"


def chosen_fields(chosen: argparse.Namespace, names: Iterable[str]) -> dict[str, object]:
    """Return the values of the given options, by name."""
    return {name: getattr(chosen, name) for name in names if hasattr(chosen, name)}


def chosen_grid(chosen: argparse.Namespace) -> dict[str, tuple]:
    """Return the values of the options of `add_grid` that were given."""
    return {
        name.removeprefix("grid_"): tuple(values)
        for name, values in vars(chosen).items()
        if name.startswith("grid_") and values is not None
    }


def _add(group: argparse._ArgumentGroup, each: Option) -> None:
    """Add one option; options that are not given leave no attribute, so that `chosen_fields` can tell."""
    if each.kind is bool:
        # The flag of a switch that is on by default turns it off.
        action, turns = ("store_false", "do not ") if each.default else ("store_true", "")
        group.add_argument(
            each.flag,
            dest=each.name,
            action=action,
            default=argparse.SUPPRESS,
            help=_escape(turns + _help(each)),
        )
        return
    group.add_argument(
        each.flag,
        dest=each.name,
        type=each.kind,
        default=argparse.SUPPRESS,
        nargs="*" if each.several else None,
        metavar=_metavar(each),
        choices=_choices(each),
        help=_escape(_help(each) + _default(each)),
    )


def _metavar(each: Option) -> str | None:
    if each.metavar or (each.choices and not each.others):
        return each.metavar or None
    return each.flag.rpartition("-")[2].upper()


def _choices(each: Option) -> tuple[str, ...] | None:
    return tuple(each.choices) if each.choices and not each.others else None


def _help(each: Option) -> str:
    listed = f": {', '.join(each.choices)}" if each.choices and (each.metavar or each.others) else ""
    return each.help + listed + (f", {each.others}" if each.others else "")


def _default(each: Option) -> str:
    if each.default is None:
        return f" (default: {each.unset})" if each.unset else ""
    return (
        f" (default: {' '.join(map(str, each.default)) if isinstance(each.default, tuple) else each.default})"
    )


def _escape(text: str) -> str:
    return text.replace("%", "%%")


def _yes_or_no(word: str) -> bool:
    if word not in ("yes", "no"):
        raise argparse.ArgumentTypeError(f"give yes, no or both, not {word!r}")
    return word == "yes"
