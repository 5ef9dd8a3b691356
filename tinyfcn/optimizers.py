"""How parameters follow their gradients."""

from .arrays import to_device, zeros_like
from .kernels import backend


class SGD:
    """Stochastic gradient descent with momentum and weight decay, as in Caffe.

    Biases, and batch norm's gamma and beta, are not decayed; biases learn at `bias_rate` times the
    rate (Long et al. 2015, section 4.3: twice). The net's fixed parameters are left alone.

    Parameters
    ----------
    net : Graph
    momentum, decay, bias_rate : float

    Attributes
    ----------
    velocity : dict of arrays
        By parameter name: all there is to save, besides the parameters, to go on later.
    """

    def __init__(self, net, momentum=0.9, decay=5e-4, bias_rate=1.0):
        self.net = net
        self.momentum = momentum
        self.decay = decay
        self.bias_rate = bias_rate
        self.velocity = {
            name: zeros_like(w) for name, w in net.params.items() if name not in net.fixed
        }

    def to(self, device):
        """Bring the velocities to a device, where the net's parameters are."""
        self.velocity = {name: to_device(v, device) for name, v in self.velocity.items()}

    def step(self, rate):
        """Move every parameter that has a gradient; `rate` is the learning rate of this step."""
        params, grads = self.net.params, self.net.grads
        for name, v in self.velocity.items():
            kind = name.rpartition("/")[2]
            backend(v).sgd_momentum(
                params[name],
                grads[name],
                v,
                rate * (self.bias_rate if kind == "bias" else 1),
                self.momentum,
                self.decay if kind == "weights" else 0,
            )


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
