import threading
from concurrent.futures import ThreadPoolExecutor

from app.services.server.turns import Turns


def test_few_at_a_time_in_the_order_in_which_they_came():
    turns, order, first = Turns(1, 10.0), [], threading.Event()

    def work(number):
        with turns.turn():
            if not number:
                assert first.wait(10)
            order.append(number)

    with ThreadPoolExecutor(4) as pool:
        for number in range(4):
            pool.submit(work, number)
            while number and len(turns._waiting) < number:
                pass
        assert order == []
        first.set()
    assert order == [0, 1, 2, 3]
    assert turns._free == 1


def test_nobody_waits_for_ever_and_no_place_is_lost():
    turns = Turns(1, 0.01)
    try:
        with turns.turn(), turns.turn():  # the second goes ahead
            raise KeyError
    except KeyError:
        pass
    assert turns._free == 1
    assert not turns._waiting
