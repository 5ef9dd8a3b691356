"""How parameters follow their gradients."""

from .arrays import to_device, zeros_like
from .kernels import backend


class Optimizer:
    """What optimizers share: per parameter, arrays of their own, and which parameters decay.

    Biases, and batch norm's gamma and beta, are not decayed; biases learn at `bias_rate` times the
    rate (Long et al. 2015, section 4.3: twice). The net's fixed parameters are left alone.

    Attributes
    ----------
    state : dict of arrays
        "kind/parameter": all there is to save, besides the parameters and `steps`, to go on later.
    steps : int
        Made so far.
    """

    kinds = ()

    def __init__(self, net, decay, bias_rate):
        self.net = net
        self.decay = decay
        self.bias_rate = bias_rate
        self.steps = 0
        self.names = [name for name in net.params if name not in net.fixed]
        self.state = {
            f"{kind}/{name}": zeros_like(net.params[name])
            for name in self.names
            for kind in self.kinds
        }

    def to(self, device):
        """Bring the state to a device, where the net's parameters are."""
        self.state = {name: to_device(array, device) for name, array in self.state.items()}

    def step(self, rate):
        """Move every parameter that has a gradient; `rate` is the learning rate of this step."""
        self.steps += 1
        params, grads = self.net.params, self.net.grads
        for name in self.names:
            part = name.rpartition("/")[2]
            own = (self.state[f"{kind}/{name}"] for kind in self.kinds)
            own_rate = rate * (self.bias_rate if part == "bias" else 1)
            decay = self.decay if part == "weights" else 0
            self._move(params[name], grads[name], *own, own_rate, decay)


class SGD(Optimizer):
    """Stochastic gradient descent with momentum and weight decay, as in Caffe.

    Parameters
    ----------
    net : Graph
    momentum, decay, bias_rate : float
    nesterov : bool
    """

    kinds = ("velocity",)

    def __init__(self, net, momentum=0.9, decay=5e-4, bias_rate=1.0, nesterov=False):
        super().__init__(net, decay, bias_rate)
        self.momentum = momentum
        self.nesterov = nesterov

    def _move(self, w, g, velocity, rate, decay):
        backend(w).sgd_momentum(w, g, velocity, rate, self.momentum, decay, self.nesterov)


class AdamW(Optimizer):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019).

    Parameters
    ----------
    net : Graph
    decay, bias_rate : float
    betas : pair of floats
        Of the running averages of the gradient and of its square.
    eps : float
    """

    kinds = ("mean", "square")

    def __init__(self, net, decay=5e-4, bias_rate=1.0, betas=(0.9, 0.999), eps=1e-8):
        super().__init__(net, decay, bias_rate)
        self.betas = betas
        self.eps = eps

    def _move(self, w, g, mean, square, rate, decay):
        backend(w).adam(w, g, mean, square, rate, *self.betas, self.eps, decay, self.steps)


class RunningAverage:
    """The average of a net's parameters over its last steps: often better than the last ones.

    Each step it moves by 1 - `keep` towards the parameters, in the first steps by more: by
    9 / (10 + steps). (Polyak and Juditsky 1992; exponential as in TensorFlow's EMA.)

    Attributes
    ----------
    state : dict of arrays
        By parameter name; with `steps` all there is to save.
    """

    def __init__(self, net, keep):
        self.net = net
        self.keep = keep
        self.steps = 0
        self.state = {name: w.copy() for name, w in net.params.items()}

    def to(self, device):
        """Bring the averages to a device, where the net's parameters are."""
        self.state = {name: to_device(array, device) for name, array in self.state.items()}

    def step(self):
        """Follow the parameters after the optimizer's step."""
        share = 1 - min(self.keep, (1 + self.steps) / (10 + self.steps))
        self.steps += 1
        for name, w in self.net.params.items():
            backend(w).move_towards(self.state[name], w, share)

    def exchange(self):
        """Give the net the averages and keep its parameters, until the next call undoes it."""
        for node in self.net.nodes:
            for key, w in node.layer.params.items():
                name = f"{node.name}/{key}"
                node.layer.params[key], self.state[name] = self.state[name], w


def poly_rate(step, steps, base, warm_up=0, power=0.9):
    """The learning rate of a step: a linear rise, then base * (1 - progress) ** power.

    Parameters
    ----------
    step : int
        From 0.
    steps : int
        Of the whole training; from there on the rate is 0.
    base : float
        The largest rate, of the steps `warm_up` - 1 and `warm_up`.
    warm_up : int
        Steps of the rise, from base / warm_up.
    power : float
    """
    if step < warm_up:
        return base * (step + 1) / warm_up
    progress = (step - warm_up) / max(1, steps - warm_up)
    return base * (1 - min(1, progress)) ** power
