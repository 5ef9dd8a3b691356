"""A net: named nodes in the order they run, forward, and backward through all its branches."""

from typing import NamedTuple

from .arrays import CPU
from .kernels import backend
from .layers import BatchNorm, Convolution, Dropout, FrozenConvolution, Layer, MaxPooling, ReLU

DATA = "data"

# What the authors of VGG subtracted: the mean of ImageNet in BGR order.
VGG_PREPROCESSING = {
    "channel_order": "BGR",
    "scale": 1.0,
    "mean": [103.939, 116.779, 123.68],
    "std": [1.0, 1.0, 1.0],
}


class Node(NamedTuple):
    """One step: its layer, the nodes it reads, and the node whose (h, w) its output takes."""

    name: str
    layer: Layer
    inputs: tuple
    size_like: str | None


class Graph:
    """A net of layers, each reading the outputs of earlier ones; the last is the net's output.

    Parameters
    ----------
    name : str
        Which net it is, such as "fcn8s".
    arguments : dict
        What to build it with again.

    Attributes
    ----------
    layers : dict of Layer
        By node name, in the order of running.
    preprocessing : dict
        How pixels become the net's input: channel_order, scale, mean, std.
    class_names, colours, ignore_label
        What the net was trained for, or None.
    device : str
        Where the parameters are; `to` brings them elsewhere.
    """

    def __init__(self, name="net", arguments=None):
        self.name = name
        self.arguments = dict(arguments or {})
        self.preprocessing = dict(VGG_PREPROCESSING)
        self.class_names = None
        self.colours = None
        self.ignore_label = None
        self.device = CPU
        self._nodes = {}
        self._plan = None
        # ReLUs that ran inside a layer whose backward goes through them too.
        self._covered = set()

    def add(self, name, layer, *inputs, size_like=None):
        """Append a node that reads `inputs`, by default the node before it; return its name."""
        inputs = inputs or (next(reversed(self._nodes), DATA),)
        known = {DATA, *self._nodes}
        for other in (*inputs, size_like):
            if other is not None and other not in known:
                raise ValueError(f"node {name} reads {other}, which is not before it")
        if name in known:
            raise ValueError(f"there is a node {name} already")
        self._nodes[name] = Node(name, layer, inputs, size_like)
        self._plan = None
        return name

    @property
    def nodes(self):
        """The nodes in the order of running."""
        return tuple(self._nodes.values())

    @property
    def layers(self):
        return {node.name: node.layer for node in self._nodes.values()}

    @property
    def params(self):
        """All parameters, "node/parameter" -> array; writing into an array changes the net."""
        return self._collect(lambda layer: layer.params)

    @property
    def grads(self):
        """The gradients that the last backward left, by the names of `params`."""
        return self._collect(lambda layer: layer.grads)

    @property
    def fixed(self):
        """The names among `params` that training leaves alone."""
        return set(self._collect(lambda layer: dict.fromkeys(layer.fixed)))

    def _collect(self, part):
        return {
            f"{node.name}/{key}": value
            for node in self._nodes.values()
            for key, value in part(node.layer).items()
        }

    def to(self, device):
        """Bring all parameters to a device, "cpu" or "cuda:N", and return the net.

        Its inputs are arrays of that device then, and so are its outputs.
        """
        for layer in self.layers.values():
            layer.to(device)
        self.device = device
        return self

    def reseed(self, seed):
        """Begin the dropout layers' masks anew, as `seed` determines."""
        dropouts = [node.layer for node in self.nodes if isinstance(node.layer, Dropout)]
        for i, layer in enumerate(dropouts):
            layer.reseed(seed * len(dropouts) + i)

    def forward(self, x, keep=False, outputs=None):
        """Run the net on x (n, h, w, c).

        Parameters
        ----------
        x : array
        keep : bool
            Training mode: dropout and batch statistics are on, and the layers keep what backward
            needs. Without it nothing is kept and the net may be shared by threads.
        outputs : sequence of str, optional
            Return these nodes' outputs, as a dict, instead of the last one's.

        Returns
        -------
        array, or dict of arrays
        """
        if not self._nodes:
            raise ValueError("the net has no nodes")
        if self._plan is None:
            self._plan = self._make_plan()
        fused, pooled, last_use = self._plan
        wanted = [next(reversed(self._nodes))] if outputs is None else list(outputs)
        unknown = [name for name in wanted if name not in self._nodes]
        if unknown:
            raise KeyError(f"the net has no node {', '.join(unknown)}")
        values, sizes, done, covered = {DATA: x}, {DATA: x.shape[1:3]}, set(), set()
        for step, node in enumerate(self.nodes):
            if not keep and all(name in values for name in wanted):
                break
            if node.name in done:  # by its convolution
                continue
            inputs = [values[name] for name in node.inputs]
            options = {"size": sizes[node.size_like]} if node.size_like else {}
            relu, pool = fused.get(node.name), pooled.get(node.name)
            if relu is not None and pool is not None and not {node.name, relu} & set(wanted):
                y = values[pool] = node.layer.forward(*inputs, keep=keep, relu=True, pool=True)
                sizes[pool] = y.shape[1:3]
                done |= {relu, pool}
            elif relu is not None and node.name not in wanted:
                y = values[relu] = node.layer.forward(*inputs, keep=keep, relu=True)
                if isinstance(node.layer, BatchNorm):
                    covered.add(relu)
                elif keep:
                    self._nodes[relu].layer.kept = y
                sizes[relu] = y.shape[1:3]
                done.add(relu)
            else:
                y = values[node.name] = node.layer.forward(*inputs, keep=keep, **options)
            sizes[node.name] = y.shape[1:3]
            del inputs, y
            for name in last_use[step]:
                if name not in wanted:
                    values.pop(name, None)
        if keep:
            self._covered = covered
        found = {name: values[name] for name in wanted}
        return found if outputs is not None else found[wanted[0]]

    def classify(self, x):
        """The class with the highest score at each pixel of x (n, h, w, c), and its probability.

        Returns
        -------
        labels : array (n, h, w) of uint8, or uint16 for more than 256 classes
        confidence : array (n, h, w) of float32
        """
        scores = self.forward(x)
        return backend(scores).classify(scores)

    def backward(self, gy, input_gradient=True):
        """Propagate the gradient of the output; parameters' gradients are left in `grads`.

        Parameters
        ----------
        gy : array like the output
        input_gradient : bool
            Whether the gradient of the net's input is needed; training doesn't.

        Returns
        -------
        array like the input, or None
        """
        for node in self.nodes:
            node.layer.grads.clear()  # their memory serves the new ones
        arriving = {next(reversed(self._nodes)): gy}
        for node in reversed(self.nodes):
            if node.name not in arriving:  # nothing that reads it led to the output
                node.layer.kept = None
                continue
            g = arriving.pop(node.name)
            if node.inputs == (DATA,) and isinstance(node.layer, Convolution):
                gx = node.layer.backward(g, input_gradient=input_gradient)
            elif node.name in self._covered:
                gx = g
            else:
                gx = node.layer.backward(g)
            for name, share in zip(node.inputs, gx if isinstance(gx, tuple) else (gx,)):
                if share is not None:
                    before = arriving.get(name)
                    arriving[name] = share if before is None else backend(g).add(before, share)
        return arriving.get(DATA)

    def _make_plan(self):
        """Which ReLU and pool run inside which convolution, and which values end with each step."""
        readers = {}
        for step, node in enumerate(self.nodes):
            for name in node.inputs:
                readers.setdefault(name, []).append(step)

        def only_reader(name):
            steps = readers.get(name, [])
            return self.nodes[steps[0]] if len(steps) == 1 else None

        fused, pooled = {}, {}
        sizes_read = {node.size_like for node in self.nodes}
        for node in self.nodes:
            relu = only_reader(node.name)
            fusing = BatchNorm | Convolution | FrozenConvolution
            if not isinstance(node.layer, fusing) or relu is None \
                    or not isinstance(relu.layer, ReLU):
                continue
            fused[node.name] = relu.name
            pool = only_reader(relu.name)
            if isinstance(node.layer, FrozenConvolution) and pool is not None \
                    and isinstance(pool.layer, MaxPooling) and pool.layer.halves \
                    and not {node.name, relu.name} & sizes_read:
                pooled[node.name] = pool.name
        last_use = [[] for _ in self.nodes]
        for name, steps in readers.items():
            last_use[steps[-1]].append(name)
        return fused, pooled, last_use
