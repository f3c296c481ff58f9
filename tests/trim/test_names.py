"""Numbers of things as messages show them."""

from trim.names import counted


def test_one_has_no_plural():
    assert [counted(number, "window") for number in (0, 1, 1024)] == [
        "0 windows",
        "1 window",
        "1,024 windows",
    ]
