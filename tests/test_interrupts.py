"""Interrupts that wait until a step is done."""
import signal
import threading

import pytest

from tinyfcn.interrupts import Interrupts


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_is_noted_the_second_ends(number):
    before, lines = signal.getsignal(number), []
    with pytest.raises(KeyboardInterrupt):
        with Interrupts(lines.append) as interrupts:
            interrupts.check()
            signal.raise_signal(number)
            assert interrupts.asked
            assert lines == ["saving, then stopping; another interrupt stops at once"]
            with pytest.raises(KeyboardInterrupt):
                interrupts.check()
            signal.raise_signal(number)
            pytest.fail("the second did not end it")
    assert signal.getsignal(number) == before
    assert len(lines) == 1


def test_another_thread_changes_no_signal():
    before, seen = signal.getsignal(signal.SIGINT), []

    def work():
        with Interrupts() as interrupts:
            seen.append((signal.getsignal(signal.SIGINT), interrupts.asked))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(before, False)]
