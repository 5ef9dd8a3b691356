"""What all layers have in common."""

from ..arrays import to_device


class Layer:
    """A step of a net with its parameters.

    A layer has ``forward(x, keep=False)`` and ``backward(gy)``. With `keep`, the training mode,
    forward stores in `kept` what backward needs, which backward uses and drops; without it nothing
    is stored, so that any number of threads may share the layer.

    Attributes
    ----------
    params : dict of arrays
        All that a weight file holds.
    grads : dict of arrays
        By the same names, of the parameters that training may change; backward sets them.
    fixed : frozenset of str
        Names of the parameters that training leaves alone.
    """

    fixed = frozenset()

    def __init__(self):
        self.params = {}
        self.grads = {}
        self.kept = None

    def to(self, device):
        """Bring the parameters to a device, "cpu" or "cuda:N"; grads and what was kept are gone."""
        self.params = {name: to_device(array, device) for name, array in self.params.items()}
        self.grads, self.kept = {}, None

    def take_kept(self):
        """What forward kept, which may be used once."""
        kept, self.kept = self.kept, None
        if kept is None:
            raise RuntimeError(
                f"{type(self).__name__}.backward: run forward(x, keep=True) before it"
            )
        return kept
