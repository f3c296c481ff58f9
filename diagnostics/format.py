"""Numbers as text, the same on every page: never rounded to 0 or 1, with one minus sign, without powers of ten."""

import html
import math
import re

MINUS = "−"


def number(value: float, digits: int = 4) -> str:
    """Write a number with this many significant digits, and with more where it would read as 1.

    >>> number(0.99964), number(0.99999964), number(49123.4), number(-0.5)
    ('0.9996', '0.9999996', '49,123', '−0.5000')
    """
    if not math.isfinite(value):
        return "–" if math.isnan(value) else ("∞" if value > 0 else MINUS + "∞")
    size = abs(value)
    if 0.99 < size < 1:
        places = max(digits, math.ceil(-math.log10(1 - size)))
        text = f"{size:.{places}f}"
        text = text if text[0] == "0" else f"{size:.{places + 1}f}"
    elif size >= 1000 or size == int(size):
        text = f"{size:,.0f}"
    else:
        places = max(0, digits - 1 - math.floor(math.log10(size)))
        text = f"{size:.{min(places, 12)}f}"
    return (MINUS if value < 0 else "") + text


def change(value: float, digits: int = 2) -> str:
    """Write a difference with its sign.

    >>> change(0.010312), change(-0.00004), change(0)
    ('+0.010', '−0.000040', '0')
    """
    return ("+" if value > 0 else "") + number(value, digits)


def percent(share: float, places: int = 1) -> str:
    """Write a share as a percentage, and neither 100 nor 0 where it is only close.

    >>> percent(0.7), percent(0.99996), percent(1), percent(0.0000021), percent(0)
    ('70.0%', '99.996%', '100.0%', '0.0002%', '0.0%')
    """
    if not math.isfinite(share):
        return "–"
    hundred = 100 * share
    while places < 8 and share not in (0, 1) and float(f"{hundred:.{places}f}") in (0, 100):
        places += 1
    return f"{hundred:.{places}f}%".replace("-", MINUS)


def between(low: str, high: str) -> str:
    """Write a range; what is the same at both ends is written once.

    >>> between("0.39", "0.42"), between("0.39", "0.39")
    ('0.39 to 0.42', '0.39')
    """
    return low if low == high else f"{low} to {high}"


def rate_label(rate: float) -> str:
    """Write a learning rate; its sign is always there.

    >>> rate_label(0.04), rate_label(-0.01)
    ('+0.04', '−0.01')
    """
    return f"{rate:+g}".replace("-", MINUS)


def verb(count: int, plural: str) -> str:
    """Write the verb that follows a number of things, from its plural.

    >>> verb(1, "lose"), verb(1, "do"), verb(0, "lose")
    ('loses', 'does', 'lose')
    """
    return plural if count != 1 else f"{plural}es" if plural.endswith("o") else f"{plural}s"


def count_rows(count: int) -> str:
    """Write a number of rows.

    >>> count_rows(1), count_rows(1536)
    ('1 row', '1,536 rows')
    """
    return counted(count, "row")


def counted(count: int, noun: str) -> str:
    """Write a number of things, of which there may be one.

    >>> counted(1, "block"), counted(1536, "block")
    ('1 block', '1,536 blocks')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def plain_text(markup: object, line_break: str = " ") -> str:
    """Return a figure's text, which Plotly reads as a little HTML, as plain text.

    >>> plain_text("<b>1 &lt; 2</b><br>of <i>")
    '1 < 2 of <i>'
    """
    return html.unescape(re.sub(r"</?b>", "", re.sub(r"<br\s*/?>", line_break, str(markup))))
