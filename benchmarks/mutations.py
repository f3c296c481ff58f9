"""Mutations of a JSON file, of a header, or of bytes, as an attacker would make them."""

import copy
import json
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


NUMBERS = (
    0, -1, 1, 2**31 - 1, 2**31, 2**63, 10**12, 10**400, 1e-320, 0.5, 1e308, float("nan"), float("inf"), 3.5,
)  # fmt: skip
TEXTS = (
    "", " ", "x", "<b>", "../..", "\0", "\ud7ff", "É" * 200, "x" * 300_000, "nan", "org/name", "9" * 30,
    "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+14:00",
)  # fmt: skip


def hostile(random: random.Random, old: object) -> object:
    """Return a hostile value in place of `old`."""
    deep = json.loads("[" * 900 + "]" * 900)
    others: list[object] = [None, True, [], {}, [[]], {"": 0}, [old], [old, old], deep]
    if isinstance(old, bool | None):
        return random.choice([*others, *NUMBERS, *TEXTS])
    if isinstance(old, int | float):
        return random.choice(
            [*NUMBERS, -old, old * 2, old + 1, old * 10**6, str(old), *others, random.choice(TEXTS)]
        )
    return random.choice([*TEXTS, *others, random.choice(NUMBERS)])


def mutate(random: random.Random, content: T) -> T:
    """Return the JSON with one value replaced, removed, or added."""
    content = copy.deepcopy(content)
    places: list[tuple] = []

    def collect(part: object) -> None:
        for key in part if isinstance(part, dict) else range(len(part)) if isinstance(part, list) else ():
            places.append((part, key))
            collect(part[key])

    collect(content)
    if not places:
        return content
    part, key = random.choice(places)
    match random.randrange(8):
        case 0:
            del part[key]
        case 1 if isinstance(part, dict):
            part[random.choice(["x", "0", "٣", "0.<b>", "x" * 200])] = part[key]
        case _:
            part[key] = hostile(random, part[key])
    return content


def damage(random: random.Random, content: bytes) -> bytes:
    """Return bytes with some replaced, cut off, doubled or zeroed; mostly near the beginning."""
    at = int(random.random() ** 4 * len(content))
    match random.randrange(5):
        case 0:
            return content[:at]
        case 1:
            more = random.randbytes(random.randrange(1, 9))
            return content[:at] + more + content[at + random.randrange(9) :]
        case 2:
            return content[:at] + content[at // 2 :]
        case 3:
            number = random.choice([2**63, 2**32, 2**20, 0, 2**64 - 1])
            return content[:at] + struct.pack("<Q", number) + content[at + 8 :]
        case _:
            flipped = bytearray(content)
            for _ in range(random.randrange(1, 20)):
                if flipped:
                    flipped[int(random.random() ** 2 * len(flipped))] ^= 1 << random.randrange(8)
            return bytes(flipped)


def write_json(path: Path, content: object) -> None:
    """Write JSON, including NaN and infinity."""
    path.write_text(json.dumps(content), encoding="utf-8", errors="surrogatepass")


def change_json(
    random: random.Random, file: Path, fingerprint_of: Callable[[dict], str] | None = None
) -> None:
    """Change a value of a JSON file, and update the fingerprint of its settings if it has one."""
    content = mutate(random, json.loads(file.read_text()))
    if fingerprint_of and isinstance(content, dict) and isinstance(content.get("settings"), dict):
        content["fingerprint"] = fingerprint_of(content["settings"])
    write_json(file, content)


def change_header(random: random.Random, file: Path) -> None:
    """Change a value in the header of a safetensors file."""
    header, rest = read_header_of(file)
    write_header(file, mutate(random, header), rest)


def change_bytes(random: random.Random, file: Path) -> None:
    """Damage the bytes of a file."""
    file.write_bytes(damage(random, file.read_bytes()))


def read_header_of(path: Path) -> tuple[dict, bytes]:
    """Return the header of a safetensors file, and the bytes after it."""
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    return json.loads(raw[8 : 8 + length]), raw[8 + length :]


def write_header(path: Path, header: object, rest: bytes) -> None:
    """Write a header and the bytes after it."""
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + rest)
