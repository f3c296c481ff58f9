"""Text from users, models and corpora on its way into a page."""

import html
import re


def plain(text: object) -> str:
    """Text that Markdown shows as it is: no emphasis, link, picture, formula, colour or icon is read into it."""
    return re.sub(r"([\\`*_{}\[\]()<>#+\-.!|$:~^&\"'=])", r"\\\1", str(text)).replace("\n", " ")


def from_figure(label: str) -> str:
    """A figure's heading, which Plotly reads as a little HTML, as plain text."""
    return html.unescape(re.sub(r"<br\s*/?>", " ", label).replace("<b>", "").replace("</b>", ""))
