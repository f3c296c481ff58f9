"""Text from users, models and corpora on its way into a page."""

import re
from collections import Counter
from collections.abc import Mapping

from app.services.server.access import SEMINAR

# Streamlit replaces these after Markdown has removed backslashes: addresses, icons, arrows and dashes.
_READ_LATER = re.compile(
    r"(?<=:/)(?=/)|(?<=www)(?=\.)|(?<=@)(?=[-\w])|(?<=:)(?=material/|streamlit:)|(?<=[<~>-])(?=[->=])", re.I
)
_WORD_JOINER = "\u2060"  # has no width and breaks no line


def literal(text: object) -> str:
    """Escape text so that Markdown shows it literally: no emphasis, link, picture, formula, colour or icon.

    White space becomes single blanks, as on any page. Readers of a seminar see no path on the server.
    """
    line = _READ_LATER.sub(_WORD_JOINER, " ".join(SEMINAR.without_paths(str(text)).split()))
    return re.sub(r"([\\`*_{}\[\]()<>#+\-.!|$:~^&\"'=])", r"\\\1", line)


def distinct(labels: Mapping[str, str]) -> dict[str, str]:
    """Return distinct labels of choices by their keys; a label that several share gets the key added.

    Streamlit finds a choice by its label: the second of two equal labels could not be chosen.
    """
    times = Counter(labels.values())
    return {key: f"{label} ({key})" if times[label] > 1 else label for key, label in labels.items()}
