"""Compare hand-written gradients with numerical ones, in float64.

For a random covector u, f = <u, y> is one number. Its derivative by an entry of an input or a
parameter is what backward(u) says, and also, but for rounding and terms of eps squared,

    (f(entry + eps) - f(entry - eps)) / (2 eps)

Entries are compared one by one, and all entries of an array at once along a random direction.

Max-pooling and ReLU have kinks, where the two need not agree. Between its kinks such a net is as
smooth as its other layers, and it stays between them as long as no ReLU switches and no maximum
moves to another pixel: so each run's pattern, which outputs of ReLU are positive and which pixels
are maxima, is compared with the pattern where backward ran. Where it changed, the entry is skipped
and counted; unlike a tolerance for disagreeing one-sided differences, this hides no wrong gradient.

Dropout draws the same mask in every run. What forward changes of a layer, batch norm's running
averages for one, is put back at the end.
"""

import contextlib
import copy
import itertools
import math
from typing import NamedTuple

import numpy as np

from .arrays import to_device, to_host
from .graph import Graph
from .layers import BatchNorm, MaxPooling, ReLU

# Derivatives are compared relative to their size, but at least to this share of the array's
# largest: what is smaller is rounding.
FLOOR = 1e-2

# Below this, rounding is all that a difference shows.
SMALLEST_EPS = 1e-8

# For each entry that shall be compared, so many are tried at most: some are at kinks.
DRAWS = 4

DOT_THRESHOLD = 1e-13

# The largest relative error of float32 gradients from a GPU.
DEVICE_THRESHOLD = 1e-3


class Settings(NamedTuple):
    """How much to compare, and how closely.

    `entries` of each array are compared one by one, by default all, and `directions` that change
    all entries at once. `eps` is half the distance between the two points of a difference, and
    `threshold` the largest relative error that is fine. `seed` determines all that is random.
    """

    seed: int = 0
    entries: int | None = None
    directions: int = 1
    eps: float = 1e-5
    threshold: float = 1e-6


class Comparison(NamedTuple):
    """A derivative got two ways; `where` is an index, or "a direction" for all entries at once."""

    where: tuple | str
    eps: float
    backward: float
    numerical: float


class Row(NamedTuple):
    """The result for one input or parameter.

    `error` is the largest relative error: the difference over the larger of the two derivatives,
    or over `FLOOR` times the array's largest gradient. `problem` says what is wrong, or is "".
    """

    layer: str
    parameter: str
    error: float
    threshold: float
    kinks: int
    seed: int
    compared: int
    worst: Comparison | None
    problem: str

    @property
    def passed(self):
        return not self.problem


def check_gradients(target, *inputs, name=None, settings=Settings(), skip=(), **options):
    """Compare the gradients of a layer's or a net's inputs and parameters with numerical ones.

    Parameters
    ----------
    target : Layer or Graph
        With float64 parameters. It is left as it was.
    *inputs : arrays, float64
    name : str, optional
        What to call it in the result.
    settings : Settings
    skip : sequence of str
        Parameters to leave out.
    **options
        For the layer's forward.

    Returns
    -------
    list of Row
        The inputs first ("x", or "x1" and "x2"), then the parameters that training may change.

    Raises
    ------
    ValueError
        If an input or a parameter is not float64.
    """
    name = name or getattr(target, "name", type(target).__name__)
    inputs = {_input_name(i, inputs): np.array(x) for i, x in enumerate(inputs)}
    params = {key: w for key, w in target.params.items() if key not in target.fixed}
    arrays = {**inputs, **params}
    for key, array in arrays.items():
        if array.dtype != np.float64:
            raise ValueError(f"{name}: gradients are checked in float64, {key} is {array.dtype}")
    rng = np.random.default_rng(settings.seed)

    with _left_as_found(target):

        def run():
            _reseed(target, settings.seed)
            y = target.forward(*inputs.values(), keep=True, **options)
            return y, _pattern(target)

        y, _ = run()
        covector = rng.standard_normal(y.shape)
        gx = target.backward(covector)
        gradients = dict(zip(inputs, gx if isinstance(gx, tuple) else (gx,))) | target.grads
        return [
            compare(name, key, run, array, gradients.get(key), covector, rng, settings)
            for key, array in arrays.items()
            if key not in skip
        ]


def compare(layer, parameter, run, array, gradient, covector, rng, settings=Settings()):
    """Compare one array's gradient of <covector, y> with central differences.

    Parameters
    ----------
    layer, parameter : str
        For the result.
    run : function
        Computes (y, pattern) anew, where `array` is changed in place for a while. The pattern is a
        list of arrays that changes where there is a kink.
    array, gradient : arrays of one shape, float64
    covector : array like y
    rng : numpy.random.Generator
    settings : Settings

    Returns
    -------
    Row
    """
    eps, threshold = settings.eps, settings.threshold

    def row(error, kinks=0, compared=0, worst=None, problem=""):
        return Row(
            layer, parameter, error, threshold, kinks, settings.seed, compared, worst, problem
        )

    if gradient is None or gradient.shape != array.shape:
        found = "left none" if gradient is None else f"left one of shape {gradient.shape}"
        return row(math.inf, problem=f"backward {found}, {parameter} has shape {array.shape}")
    if not np.isfinite(gradient).all():
        where = tuple(map(int, np.argwhere(~np.isfinite(gradient))[0]))
        return row(math.inf, problem=f"at {where}: backward {gradient[where]}")

    before = array.copy()
    _, pattern = run()

    def difference_quotient(step):
        """The derivative along `step`, or None if there is a kink on the way."""
        outputs = []
        try:
            for end in (eps, -eps):
                array[...] = before + end * step
                y, here = run()
                if not all(map(np.array_equal, here, pattern)):
                    return None
                outputs.append(y)
        finally:
            array[...] = before
        # Outputs that did not change cancel before the sum rather than in it: less rounding.
        return float(np.vdot(covector, outputs[0] - outputs[1])) / (2 * eps)

    floor = FLOOR * float(np.abs(gradient).max(initial=0))
    error, worst, compared, kinks = 0.0, None, 0, 0
    wanted_entries = array.size if settings.entries is None else min(settings.entries, array.size)
    for steps, wanted in (
        (_entries(array.shape, rng), wanted_entries),
        (_directions(array.shape, rng), settings.directions),
    ):
        for where, step in itertools.islice(steps, DRAWS * wanted):
            numerical = difference_quotient(step)
            if numerical is None:
                kinks += 1
                continue
            backward = float(np.vdot(gradient, step))
            size = max(abs(backward), abs(numerical), floor)
            relative = abs(backward - numerical) / size if size else 0.0
            if worst is None or not relative <= error:  # a NaN is the worst there is
                error, worst = relative, Comparison(where, eps, backward, numerical)
            compared += 1
            wanted -= 1
            if not wanted:
                break

    if not compared and eps > SMALLEST_EPS:
        # Some number lies right at a kink, whatever is changed: take shorter steps.
        shorter = settings._replace(eps=eps / 10)
        return compare(layer, parameter, run, array, gradient, covector, rng, shorter)
    problem = ""
    if not compared:
        problem = f"nothing was compared: {kinks} steps tried, all across kinks"
    elif not error <= threshold:
        problem = (
            f"at {worst.where}: backward {worst.backward:.10g}, "
            f"numerical {worst.numerical:.10g}, eps {worst.eps:g}"
        )
    elif not floor:
        problem = "the gradient is zero everywhere, which tests nothing"
    return row(error, kinks, compared, worst, problem)


def check_adjoint(layer, *inputs, name=None, seed=0, **options):
    """The dot test: <A u, v> = <u, A' v>, where backward is A', the transpose of a linear forward.

    A u is forward(u) - forward(0), so that a bias does not matter. Weights are tested likewise:
    a convolution is linear in them, too.

    Parameters
    ----------
    layer : Layer
        Linear in its inputs together, and in its "weights" if it has them. It is left as it was.
    *inputs : arrays, float64
        u.
    name, **options
        As in `check_gradients`.
    seed : int
        Of v.

    Returns
    -------
    list of Row
        Their `error` is the difference over |A u| |v|.
    """
    name = name or type(layer).__name__
    rng = np.random.default_rng(seed)
    rows = []
    with _left_as_found(layer):

        def run():
            _reseed(layer, seed)
            return layer.forward(*inputs, keep=True, **options)

        def row(parameter, parts, image, covector, gradients):
            inner = float(np.vdot(image, covector))
            adjoint = sum(float(np.vdot(u, g)) for u, g in zip(parts, gradients))
            size = float(np.linalg.norm(image) * np.linalg.norm(covector))
            error = abs(inner - adjoint) / size if size else math.inf
            problem = ""
            if not error <= DOT_THRESHOLD:
                problem = f"<A u, v> = {inner:.15g}, <u, A' v> = {adjoint:.15g}"
            rows.append(
                Row(name, parameter, error, DOT_THRESHOLD, 0, seed, 1, None, problem)
            )

        y = run()
        covector = rng.standard_normal(y.shape)
        gx = layer.backward(covector)
        gx = gx if isinstance(gx, tuple) else (gx,)
        weights_gradient = layer.grads.get("weights")

        u, inputs = inputs, [np.zeros_like(x) for x in inputs]
        row("dot test, x", u, y - run(), covector, gx)
        if weights_gradient is not None:
            inputs, weights = u, layer.params["weights"]
            u = weights.copy()
            weights[...] = 0
            row("dot test, weights", [u], y - run(), covector, [weights_gradient])
    return rows


def compare_devices(target, *inputs, device, name=None, seed=0, skip=(), **options):
    """Compare a GPU's float32 gradients with the CPU's float64 ones, of one random covector.

    Parameters
    ----------
    target : Layer or Graph
        On the CPU, with float64 parameters. It is left as it was.
    *inputs : arrays, float64
    device : str
        The GPU.
    name, seed, skip, **options
        As for `check_gradients`.

    Returns
    -------
    list of Row
        Their `error` is the largest difference over the array's largest gradient. Inputs at which
        a kink lies on one side here and on the other there are replaced by others nearby.
    """
    name = name or getattr(target, "name", type(target).__name__)
    rng = np.random.default_rng(seed)

    def single(array):
        return array.astype(np.float32).astype(array.dtype)

    def gradients(net, x, covector, pattern):
        _reseed(net, seed)
        y = net.forward(*x, keep=True, **options)
        pattern += _pattern(net)
        gx = net.backward(covector(y))
        parts = dict(zip(names, gx if isinstance(gx, tuple) else (gx,))) | net.grads
        return {key: to_host(g) for key, g in parts.items()}

    names = [_input_name(i, inputs) for i in range(len(inputs))]
    with _left_as_found(target):
        for layer in _layers(target):
            for w in layer.params.values():
                w[...] = single(w)
        for _ in range(DRAWS):
            there = copy.deepcopy(target)
            for layer in _layers(there):
                layer.params = {key: w.astype(np.float32) for key, w in layer.params.items()}
            there.to(device)
            inputs = [single(x) for x in inputs]
            here_pattern, there_pattern, drawn = [], [], []

            def draw(y):
                drawn.append(single(rng.standard_normal(y.shape)))
                return drawn[0]

            expected = gradients(target, inputs, draw, here_pattern)
            found = gradients(
                there, [to_device(x.astype(np.float32), device) for x in inputs],
                lambda y: to_device(drawn[0].astype(np.float32), device), there_pattern)
            kinks = sum(map(np.count_nonzero, map(np.not_equal, here_pattern, there_pattern)))
            if not kinks:
                break
            inputs = [x + 0.01 * rng.standard_normal(x.shape) for x in inputs]
    return [compare_arrays(name, key, found.get(key), g, seed, kinks)
            for key, g in expected.items() if key not in skip]


def compare_arrays(layer, parameter, found, expected, seed, kinks=0):
    """The Row for a gradient of a GPU and what it should be."""
    def row(error, worst=None, problem=""):
        return Row(layer, parameter, error, DEVICE_THRESHOLD, int(kinks), seed, expected.size,
                   worst, problem)

    if found is None or found.shape != expected.shape:
        what = "none" if found is None else f"one of shape {found.shape}"
        return row(math.inf, problem=f"the GPU left {what}, {parameter} has shape {expected.shape}")
    difference = np.abs(found - expected)
    where = tuple(map(int, np.unravel_index(difference.argmax(), difference.shape)))
    size = float(np.abs(expected).max())
    error = float(difference[where]) / size if size else math.inf
    worst = Comparison(where, 0.0, float(found[where]), float(expected[where]))
    problem = ""
    if kinks:
        problem = f"{kinks} numbers are on the other side of a kink"
    elif not size:
        problem = "the gradient is zero everywhere, which tests nothing"
    elif not error <= DEVICE_THRESHOLD:  # a NaN is wrong
        problem = f"at {where}: the GPU {worst.backward:.10g}, the CPU {worst.numerical:.10g}"
    return row(error, worst, problem)


def _input_name(index, inputs):
    return "x" if len(inputs) == 1 else f"x{index + 1}"


def _entries(shape, rng):
    """Steps that change one entry each, all of them in random order."""
    for flat in rng.permutation(math.prod(shape)):
        where = tuple(map(int, np.unravel_index(flat, shape)))
        step = np.zeros(shape)
        step[where] = 1
        yield where, step


def _directions(shape, rng):
    """Steps of length one that change all entries."""
    while True:
        step = rng.standard_normal(shape)
        yield "a direction", step / np.linalg.norm(step)


def _layers(target):
    return list(target.layers.values()) if isinstance(target, Graph) else [target]


def _reseed(target, seed):
    reseed = getattr(target, "reseed", None)
    if reseed is not None:
        reseed(seed)


def _pattern(target):
    """On which side of each kink the forward that was just run is."""
    pattern = []
    for layer in _layers(target):
        if isinstance(layer, ReLU) and layer.kept is not None:
            pattern.append(to_host(layer.kept) > 0)
        elif isinstance(layer, BatchNorm) and layer.kept[-1]:  # a ReLU ran inside it
            pattern.append(layer.positive())
        elif isinstance(layer, MaxPooling):
            pattern.append(to_host(layer.kept[0]))
    return pattern


@contextlib.contextmanager
def _left_as_found(target):
    """Put parameters, gradients and dropout's sequences back at the end."""
    before = [
        (layer, {**vars(layer), "grads": dict(layer.grads)}, copy.deepcopy(layer.params))
        for layer in _layers(target)
    ]
    try:
        yield
    finally:
        for layer, attributes, params in before:
            vars(layer).update(attributes)
            for key, w in params.items():
                layer.params[key][...] = w
