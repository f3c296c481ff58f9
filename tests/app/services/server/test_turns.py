import threading

from app.services.server.turns import Turns


def test_few_at_a_time_in_the_order_in_which_they_came():
    turns, order, first, threads = Turns(1, 10.0), [], threading.Event(), []

    def work(number):
        with turns.turn():
            if not number:
                assert first.wait(10)
            order.append(number)

    for number in range(4):
        threads.append(threading.Thread(target=work, args=(number,)))
        threads[-1].start()
        while number and len(turns._waiting) < number:
            pass
    assert order == []
    first.set()
    for thread in threads:
        thread.join(10)
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
