"""Learning rates against literal numbers."""
import pytest

from tinyfcn.schedules import SCHEDULES, learning_rate


@pytest.mark.parametrize("step, expected", [
    (0, 0.25), (1, 0.5), (2, 0.75), (3, 1.0),       # the rise
    (4, 1.0),                                       # the whole way is before it
    (9, 0.5 ** 0.9),
    (13, 0.1 ** 0.9),
    (14, 0.0), (15, 0.0), (1000, 0.0),
])
def test_poly(step, expected):
    assert learning_rate(step, 14, 1.0, warm_up=4) == pytest.approx(expected, rel=1e-12)
    assert learning_rate(step, 14, 0.02, warm_up=4) == pytest.approx(0.02 * expected, rel=1e-12)


def test_poly_of_another_power_without_a_rise():
    assert [learning_rate(step, 4, 8.0, power=2) for step in range(5)] == [8, 4.5, 2, 0.5, 0]


def test_cosine():
    rates = [learning_rate(step, 7, 2.0, "cosine", warm_up=1) for step in range(9)]
    expected = [2, 2, 1 + 0.75 ** 0.5, 1.5, 1, 0.5, 1 - 0.75 ** 0.5, 0, 0]
    assert rates == pytest.approx(expected, abs=1e-12)


def test_step():
    rates = [learning_rate(step, 9, 1.0, "step", warm_up=2, gamma=0.5) for step in range(9)]
    assert rates == [0.5, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25]
    rates = [learning_rate(step, 9, 1.0, "step", gamma=0.5, drop_every=2) for step in range(6)]
    assert rates == [1, 1, 0.5, 0.5, 0.25, 0.25]


def test_constant():
    assert [learning_rate(step, 3, 4.0, "constant", warm_up=2) for step in (0, 1, 2, 9)] == [
        2, 4, 4, 4]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_rise_longer_than_the_training(schedule):
    assert learning_rate(4, 5, 1.0, schedule, warm_up=10) == pytest.approx(0.5)
