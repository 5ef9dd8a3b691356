"""Interrupts that wait: what a signal asks for is done between two steps, not within one."""

import contextlib
import signal
import threading


class Interrupts:
    """Within a ``with`` block the first interrupt is only noted; the second ends the program.

        with Interrupts() as interrupts:
            while not interrupts.asked:
                ...

    That is for SIGINT, which Ctrl-C sends, and for SIGTERM, by which job schedulers and shells end
    a process. Where there is no changing of signals, outside the main thread, nothing is noted.

    Parameters
    ----------
    say : callable
        Called with a line when the first one arrives.

    Attributes
    ----------
    asked : bool
    """

    def __init__(self, say=lambda line: None):
        self.say = say
        self.asked = False
        self._before = {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *error):
        for number, handler in self._before.items():
            # None is a handler that Python did not set.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def check(self):
        """Raise a KeyboardInterrupt if there was an interrupt."""
        if self.asked:
            raise KeyboardInterrupt

    def _note(self, number, frame):
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        # The signal may have come while the same stream was written to.
        with contextlib.suppress(RuntimeError):
            self.say("saving, then stopping; another interrupt stops at once")
