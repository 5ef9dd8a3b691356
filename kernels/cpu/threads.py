"""How many threads the kernels use: `set_threads`, `TINYFCN_THREADS`, or one for each core.

Results have the same bits for any number of them.
"""

import operator
import os

import numba

ENVIRONMENT = "TINYFCN_THREADS"


def chosen_count():
    """What `TINYFCN_THREADS` says, or None."""
    text = os.environ.get(ENVIRONMENT, "").strip()
    if not text:
        return None
    most = numba.config.NUMBA_NUM_THREADS
    if not (text.isascii() and text.isdecimal() and 1 <= int(text) <= most):
        raise ValueError(f"{ENVIRONMENT}={text}: {_allowed(most)}")
    return int(text)


def _allowed(most):
    return f"choose 1 to {most}, the threads that Numba was started with (NUMBA_NUM_THREADS)"


_chosen = chosen_count()


def set_threads(count):
    """Let all kernels use so many threads, whichever Python thread calls them.

    Kernels that are running are not affected.

    Parameters
    ----------
    count : int or None
        At least 1, at most `NUMBA_NUM_THREADS`, by default a thread for each core that the process
        may use. None: as Numba's own setting says, which is all of them at the start.

    Returns
    -------
    int or None
        What was set before.

    Raises
    ------
    TypeError
        Not a whole number.
    ValueError
        Less than 1 or more than Numba has.
    """
    global _chosen
    if count is not None:
        try:
            if isinstance(count, bool):
                raise TypeError
            count = operator.index(count)
        except TypeError:
            raise TypeError(f"set_threads: not a whole number: {count!r}") from None
        most = numba.config.NUMBA_NUM_THREADS
        if not 1 <= count <= most:
            raise ValueError(f"set_threads({count}): {_allowed(most)}")
    before, _chosen = _chosen, count
    return before


def thread_count():
    """The threads that a kernel called now would use."""
    return _chosen or numba.get_num_threads()
