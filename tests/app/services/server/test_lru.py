import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from app.services.server.lru import SharedCache


def test_what_is_shared_is_made_once_and_bounded():
    shared, made = SharedCache(2), []

    def ask(key):
        return shared.get(key, lambda: made.append(key) or key.upper())

    assert [ask(key) for key in "abacab"] == list("ABACAB")
    assert "".join(made) == "abcb"  # the one used last stays


def test_only_those_wait_who_ask_for_the_same():
    shared, begun, go_on = SharedCache(2), threading.Event(), threading.Event()

    def slow():
        begun.set()
        assert go_on.wait(10)
        return "slow"

    with ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(shared.get, "slow", slow) for _ in range(3)]
        assert begun.wait(10)
        assert shared.get("quick", lambda: "quick") == "quick"
        go_on.set()
        assert [each.result(10) for each in waiting] == ["slow"] * 3


def test_what_could_not_be_made_is_tried_again():
    shared = SharedCache(2)
    with pytest.raises(ZeroDivisionError):
        shared.get("a", lambda: 1 // 0)
    assert shared.get("a", lambda: 1) == 1
