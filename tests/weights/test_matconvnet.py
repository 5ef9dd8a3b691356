"""MatConvNet's models: format 5 written by scipy, format 7.3 by h5py as MATLAB writes it."""
import h5py
import numpy as np
import pytest

from tinyfcn import weights
from tinyfcn.weights.layouts import recognise

io = pytest.importorskip("scipy.io")


def turned(vgg16):
    """H, W, in, out for every layer; dense layers as convolutions, as MatConvNet has them."""
    out = {}
    for name, (array, bias) in vgg16.items():
        if name == "fc6":
            array = array.reshape(48, 64, 7, 7)
        elif array.ndim == 2:
            array = array[:, :, None, None]
        out[name] = np.ascontiguousarray(array.transpose(2, 3, 1, 0)), bias.reshape(1, -1)
    return out


def cell(*items):
    out = np.empty((1, len(items)), object)
    for i, item in enumerate(items):
        out[0, i] = item
    return out


def simplenn(layers, old=False, named=True):
    out = []
    for name, (filters, biases) in layers.items():
        layer = {"type": "conv", "pad": 1.0} | ({"name": name} if named else {})
        layer |= {"filters": filters, "biases": biases} if old \
            else {"weights": cell(filters, biases)}
        out += [layer, {"type": "relu", "name": f"relu_{name}"}]
    return cell(*out)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("inside", [False, True])
def test_simplenn(tmp_path, vgg16, same, compressed, inside):
    layers = turned(vgg16)
    content = {"layers": simplenn(layers), "meta": {"classes": "x"}}
    io.savemat(tmp_path / "a.mat", {"net": content, "state": 3} if inside else content,
               do_compression=compressed)
    read = weights.read(tmp_path / "a.mat")
    assert read.format == "MatConvNet simplenn (MATLAB 5)"
    same(read, {f"{name}/{i}": array for name, arrays in layers.items()
                for i, array in enumerate(arrays)})
    assert recognise(read).name == "matconvnet-vgg"


def test_old_fields_missing_names_and_missing_biases(tmp_path):
    layers = {"a": (np.ones((3, 3, 1, 2)), np.zeros((1, 0)))}
    io.savemat(tmp_path / "a.mat", {"layers": simplenn(layers, old=True)})
    assert list(weights.read(tmp_path / "a.mat")) == ["a/filters"]
    io.savemat(tmp_path / "b.mat", {"layers": simplenn(layers, named=False)})
    assert list(weights.read(tmp_path / "b.mat")) == ["layer1/0"]


def dag(layers):
    params = np.empty((1, 2 * len(layers)), [("name", object), ("value", object)])
    names = [f"{name}_{kind}" for name in layers for kind in ("filter", "bias")]
    for i, (name, array) in enumerate(zip(names, (a for pair in layers.values() for a in pair))):
        params[0, i] = (name, array)
    return params


def test_dagnn(tmp_path, vgg16, same):
    layers = turned(vgg16)
    io.savemat(tmp_path / "a.mat", {"params": dag(layers), "layers": np.zeros(1)})
    read = weights.read(tmp_path / "a.mat")
    assert read.format == "MatConvNet DagNN (MATLAB 5)"
    same(read, {f"{name}_{kind}": array for name, pair in layers.items()
                for kind, array in zip(("filter", "bias"), pair)})


class Matlab73:
    """Writes as MATLAB's format 7.3 does: axes reversed, cells as references into #refs#."""

    def __init__(self, path):
        self.file = h5py.File(path, "w", userblock_size=512)
        self.count = 0

    def close(self, path):
        self.file.close()
        with open(path, "r+b") as stream:
            stream.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124)
                         + b"\x00\x02IM")

    def write(self, place, name, value):
        if isinstance(value, str):
            item = place.create_dataset(name, data=np.array([[ord(c)] for c in value], "u2"))
            item.attrs["MATLAB_class"] = b"char"
        elif isinstance(value, dict):
            group = place.create_group(name)
            for key, inner in value.items():
                self.write(group, key, inner)
        elif isinstance(value, list):
            place.create_dataset(name, data=np.array([[self.refer(item)] for item in value],
                                                     h5py.ref_dtype), dtype=h5py.ref_dtype)
        elif value.size == 0:
            place.create_dataset(name, data=np.array(value.shape, "u8")) \
                .attrs["MATLAB_empty"] = 1
        else:
            place.create_dataset(name, data=value.T)

    def refer(self, value):
        self.count += 1
        name = f"r{self.count}"
        self.write(self.file.require_group("#refs#"), name, value)
        return self.file["#refs#"][name].ref


@pytest.mark.parametrize("inside", [False, True])
def test_format_7_3(tmp_path, vgg16, same, inside):
    layers = turned(vgg16)
    cells = [{"name": name, "type": "conv", "weights": list(pair)}
             for name, pair in layers.items()]
    cells.insert(1, {"name": "relu1_1", "type": "relu"})
    cells.append({"name": "last", "type": "conv", "weights": [np.empty((0, 0))]})
    params = {"name": [f"{name}_{kind}" for name in layers for kind in ("filter", "bias")],
              "value": [array for pair in layers.values() for array in pair]}
    for kind, content in (("simplenn", {"layers": cells}), ("DagNN", {"params": params})):
        path = tmp_path / f"{kind}.mat"
        writer = Matlab73(path)
        for name, value in ({"net": content} if inside else content).items():
            writer.write(writer.file, name, value)
        writer.close(path)
        read = weights.read(path)
        assert read.format == f"MatConvNet {kind} (MATLAB 7.3)"
        arrays = [array for pair in layers.values() for array in pair]
        names = params["name"] if kind == "DagNN" else [
            f"{name}/{i}" for name in layers for i in (0, 1)]
        same(read, dict(zip(names, arrays)))


def test_format_7_3_leads_nowhere_else(tmp_path, refuse):
    def made(fill):
        path = tmp_path / "a.mat"
        writer = Matlab73(path)
        fill(writer)
        writer.close(path)
        return path

    def outside(writer):
        writer.write(writer.file, "layers", [{"name": "a", "weights": [np.ones((2, 2))]}])
        layer = writer.file["#refs#/r1"]
        del layer["weights"]
        item = writer.file["#refs#"].create_dataset(
            "x", shape=(4,), dtype="u1", external=[("/etc/passwd", 0, 4)])
        layer.create_dataset("weights", data=np.array([[item.ref]], h5py.ref_dtype),
                             dtype=h5py.ref_dtype)

    refuse(made(outside), "has its data in another file, which is refused")
    refuse(made(lambda writer: writer.file.update(
        {"layers": h5py.ExternalLink("/etc/passwd", "/")})),
        "damaged MATLAB file|layers is a link to elsewhere")
    refuse(made(lambda writer: writer.file.update({"layers": np.ones(3)})),
           "layers is no list of layers or weights")


def test_what_is_no_net(tmp_path, refuse):
    io.savemat(tmp_path / "a.mat", {"x": np.ones(3)})
    refuse(tmp_path / "a.mat", "a MATLAB file without a net")
    io.savemat(tmp_path / "a.mat", {"layers": cell({"type": "relu"})})
    refuse(tmp_path / "a.mat", "a simplenn without any weights")
    io.savemat(tmp_path / "a.mat", {"params": np.ones(3)})
    refuse(tmp_path / "a.mat", "params is no list of layers or weights")
    io.savemat(tmp_path / "a.mat", {"layers": simplenn({"a": (np.ones(2, complex), np.ones(1))})})
    refuse(tmp_path / "a.mat", "a/0 is no array of real numbers")


def test_damage(tmp_path, refuse):
    io.savemat(tmp_path / "a.mat", {"layers": simplenn({"a": (np.ones((9, 9)), np.ones(1))})})
    content = (tmp_path / "a.mat").read_bytes()
    (tmp_path / "a.mat").write_bytes(content[:len(content) // 2])
    refuse(tmp_path / "a.mat", "damaged MATLAB file: it declares")
    # An array of 4 GB.
    at = content.index(np.float64(1).tobytes() * 3) - 8
    (tmp_path / "a.mat").write_bytes(content[:at + 4] + b"\xf0\xff\xff\xff" + content[at + 8:])
    refuse(tmp_path / "a.mat", "damaged MATLAB file: it declares 4294967280 bytes")


def test_a_damaged_file_of_format_7_3_stays_in_the_other_process(tmp_path, refuse):
    writer = Matlab73(tmp_path / "a.mat")
    writer.write(writer.file, "params", {"name": ["a"], "value": [np.ones((9, 9))]})
    dataset = writer.file["#refs#"].create_dataset("x", data=np.arange(1e5).reshape(100, 1000),
                                                   compression=1, chunks=(100, 1000))
    writer.file["params/value"][0, 0] = dataset.ref
    place = dataset.id.get_chunk_info(0)
    writer.close(tmp_path / "a.mat")
    assert weights.read(tmp_path / "a.mat")["a"].shape == (1000, 100)
    content = bytearray((tmp_path / "a.mat").read_bytes())
    at = content.index(b"x\x01", 512) + place.size // 2
    content[at:at + 4] = b"oops"
    (tmp_path / "a.mat").write_bytes(content)
    refuse(tmp_path / "a.mat", "damaged (HDF5|MATLAB) file")
