"""segment --compare: the panel of several nets and the truth, and what is said of bad input."""
import os
import pathlib
import re

import numpy as np
import pytest
from PIL import Image

from tinyfcn import loading, models, segment, weights

NAMES = ["red", "green", "blue"]
COLOURS = [(250, 0, 100), (0, 250, 100), (0, 100, 250)]
R, G, B = (200, 0, 0), (0, 200, 0), (0, 0, 200)


class SeesNet:
    """Sees the strongest colour of each pixel, turned by as many classes as the net is coarse."""

    arguments = {"in_channels": 3, "classes": 3}
    params = {}
    preprocessing = {"channel_order": "RGB", "scale": 1.0, "mean": [0, 0, 0], "std": [10] * 3}
    ignore_label = 9

    def __init__(self, name, turn, **attributes):
        self.name, self.turn = name, turn
        self.class_names, self.colours = NAMES, COLOURS
        vars(self).update(attributes)

    def forward(self, x):
        if x.shape[2] == 13:
            raise MemoryError
        return np.roll(x, self.turn, axis=-1)


@pytest.fixture
def nets(tmp_path, monkeypatch):
    """Three weight files, each of a stand-in net, by their names."""
    files = {"w32.h5": SeesNet("fcn32s", 2), "w16.h5": SeesNet("fcn16s", 1),
             "w8.h5": SeesNet("fcn8s", 0)}
    for name in files:
        (tmp_path / name).write_bytes(b"any")
    monkeypatch.setattr(loading, "load_model", lambda path, **options: files[
        os.path.basename(path)])
    monkeypatch.setattr(models, "prepare", lambda net: net)
    return files


@pytest.fixture
def three(nets, tmp_path):
    return ["--weights", ",".join(str(tmp_path / name) for name in nets)]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    path = tmp_path / "here"
    path.mkdir()
    monkeypatch.chdir(path)
    return path


def save(path, pixels):
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array(pixels, np.uint8)).save(path)
    return str(path)


def tree(folder):
    return sorted(str(path.relative_to(folder)) for path in pathlib.Path(folder).rglob("*")
                  if path.is_file())


def run(capsys, *arguments):
    code = segment.main([*map(str, arguments), "--compare"])
    captured = capsys.readouterr()
    return code, captured.out.splitlines(), captured.err.splitlines()


def fails(capsys, code, line, *arguments):
    assert run(capsys, *arguments) == (code, [], [f"tinyfcn-segment: {line}"])


def pictures(path, count):
    """The colours of a panel's pictures of one row of three pixels, left to right."""
    panel = np.asarray(Image.open(path))
    wanted = {*COLOURS, R, G, B, (0, 0, 0)}
    # Halfway down the pictures, which are enlarged to a height of 64; captions are above.
    rows = [sum(tuple(pixel) in wanted for pixel in row.tolist()) for row in panel]
    row = panel[int(np.argmax(rows))].tolist()
    runs = []
    for before, pixel in zip([None, *row], row):
        if pixel != before:
            runs.append([tuple(pixel), 0])
        runs[-1][1] += 1
    blocks = [colour for colour, width in runs if colour != (255, 255, 255)
              for _ in range(width // 64)]
    assert len(blocks) == 3 * count, runs
    return [blocks[3 * k:3 * k + 3] for k in range(count)]


def test_photo_three_nets_and_truth(folder, three, capsys):
    photo, truth = save("photo.png", [[R, G, B]]), save("truth.png", [[0, 1, 1]])
    code, out, err = run(capsys, photo, *three, "--truth", truth, "-o", "out")
    assert (code, err) == (0, [])
    assert tree("out") == ["photo_compare.png"]
    # 32s sees blue, red, green, of which the last is right; 8s all but the last.
    assert len(out) == 1 and out[0].startswith(
        "photo.png: 3x1, FCN-32s, mean IU 16.67 %; FCN-16s, mean IU 0.00 %; "
        "FCN-8s, mean IU 50.00 %, ")
    red, green, blue = COLOURS
    assert pictures("out/photo_compare.png", 5) == [
        [R, G, B], [blue, red, green], [green, blue, red], [red, green, blue],
        [red, green, green]]


def test_without_truth(folder, three, capsys):
    photo = save("photo.png", [[R, G, B]])
    code, out, err = run(capsys, photo, *three)
    assert (code, err) == (0, [])
    assert out[0].startswith("photo.png: 3x1, FCN-32s; FCN-16s; FCN-8s, ")
    assert tree(folder) == ["photo.png", "photo_compare.png"]
    assert len(pictures("photo_compare.png", 4)) == 4


def test_what_is_not_labelled_is_white_and_not_counted(folder, three, capsys):
    photo, truth = save("photo.png", [[R, G, B]]), save("truth.png", [[0, 1, 9]])
    code, out, _ = run(capsys, photo, *three, "--truth", truth)
    assert code == 0 and "FCN-8s, mean IU 100.00 %" in out[0]
    panel = np.asarray(Image.open("photo_compare.png"))
    row = panel[np.argmax((panel == COLOURS[0]).all(axis=2).sum(axis=1))]
    right = row[-70:-20]        # where the truth's last pixel stands
    assert (right == 255).all()


def test_coloured_truth(folder, three, capsys):
    photo, truth = save("photo.png", [[R, G, B]]), save("truth.png", [COLOURS])
    code, out, err = run(capsys, photo, *three, "--truth", truth)
    assert (code, err) == (0, []) and "FCN-8s, mean IU 100.00 %" in out[0]
    save("truth.png", [[(1, 2, 3), *COLOURS[1:]]])
    fails(capsys, 1, "truth.png: holds the colour (1, 2, 3): it is none of the 3 classes'", photo,
          *three, "--truth", truth)


def test_truth_without_a_labelled_pixel(folder, three, capsys):
    photo, truth = save("photo.png", [[R, G, B]]), save("truth.png", [[9, 9, 9]])
    code, out, err = run(capsys, photo, *three, "--truth", truth)
    assert (code, err) == (0, []) and "FCN-8s, mean IU n/a" in out[0]


def test_overlays_on_request(folder, three, capsys):
    photo = save("photo.png", [[R, R, R]])
    assert run(capsys, photo, *three, "--alpha", "0")[0] == 0
    assert pictures_of_one_colour("photo_compare.png") == {R}


def pictures_of_one_colour(path):
    panel = np.asarray(Image.open(path))
    middle = panel[panel.shape[0] // 3].tolist()
    return {tuple(pixel) for pixel in middle} - {(255, 255, 255)}


def test_one_net_or_two(folder, nets, tmp_path, capsys):
    photo = save("photo.png", [[R, G, B]])
    code, out, _ = run(capsys, photo, "--weights", tmp_path / "w16.h5")
    assert code == 0 and out[0].startswith("photo.png: 3x1, FCN-16s, ")
    code, out, _ = run(capsys, photo, "--weights", f"{tmp_path}/w8.h5,{tmp_path}/w16.h5")
    assert code == 0 and out[0].startswith("photo.png: 3x1, FCN-8s; FCN-16s, ")


def test_nets_of_one_name_are_told_apart_by_their_files(folder, nets, tmp_path, capsys):
    photo = save("photo.png", [[R, G, B]])
    for run_name in ("first", "second"):
        (tmp_path / run_name).mkdir()
        (tmp_path / run_name / "w8.h5").write_bytes(b"any")
    code, out, _ = run(capsys, photo, "--weights",
                       f"{tmp_path}/first/w8.h5,{tmp_path}/second/w8.h5")
    assert code == 0 and out[0].startswith("photo.png: 3x1, first/w8.h5; second/w8.h5, ")


def test_a_comma_in_the_name_of_a_file(folder, nets, tmp_path, capsys):
    photo = save("photo.png", [[R, G, B]])
    nets["a,b.h5"] = nets["w8.h5"]
    (tmp_path / "a,b.h5").write_bytes(b"any")
    code, out, _ = run(capsys, photo, "--weights", tmp_path / "a,b.h5")
    assert code == 0 and out[0].startswith("photo.png: 3x1, FCN-8s, ")


def test_a_folder_of_photos_and_one_of_truths(folder, three, capsys):
    for name in ("a.png", "sub/b.png", "sub/c.png"):
        save(f"in/{name}", [[R, G, B]])
        save(f"truth/{name}", [[0, 1, 2]])
    os.unlink("truth/sub/c.png")
    code, out, err = run(capsys, "in", *three, "--truth", "truth", "-o", "out")
    assert code == 1 and err == [
        "tinyfcn-segment: truth/sub/c.png: No such file or directory"]
    assert [line.split(",")[0] for line in out] == ["in/a.png: 3x1", "in/sub/b.png: 3x1"]
    assert all("FCN-8s, mean IU 100.00 %" in line for line in out)
    assert tree("out") == ["a_compare.png", "sub/b_compare.png"]


def test_views(folder, nets, three, capsys):
    seen = []
    nets["w8.h5"].forward = lambda x: (seen.append(x.shape[1:3]), x.copy())[1]
    photo = save("photo.png", [[R, G, B]])
    assert run(capsys, photo, *three, "--flip", "--scales", "1,2")[0] == 0
    assert seen == [(1, 3), (1, 3), (2, 6), (2, 6)]


def test_quiet(folder, three, capsys):
    assert run(capsys, save("photo.png", [[R]]), *three, "-q") == (0, [], [])


@pytest.mark.parametrize("size", [(1, 1), (200, 1), (1, 200), (33, 31), (500, 1700)])
def test_any_size(folder, three, capsys, size):
    photo = save("photo.png", np.full((*size, 3), R))
    truth = save("truth.png", np.zeros(size))
    assert run(capsys, photo, *three, "--truth", truth)[0] == 0
    assert max(Image.open("photo_compare.png").size) < 9000


# --- bad input ----------------------------------------------------------------------------------

def test_bad_photos_are_named_and_the_others_done(folder, three, capsys):
    save("a.png", [[R]]), save("wide.png", np.full((1, 13, 3), R))
    pathlib.Path("text.png").write_text("text")
    code, out, err = run(capsys, "text.png", "wide.png", "none.png", "a.png", *three, "-o", "out")
    assert code == 1 and len(out) == 1 and tree("out") == ["a_compare.png"]
    assert err == ["tinyfcn-segment: none.png: No such file or directory",
                   "tinyfcn-segment: text.png: is not a readable PNG, JPEG, BMP, GIF, TIFF, WebP "
                   "or PPM image",
                   "tinyfcn-segment: wide.png: not enough memory"]


@pytest.mark.parametrize("content, reason", [
    ([[0, 1]], "2x1 pixels, but its photo has 3x1"),
    ([[0], [1], [2]], "1x3 pixels, but its photo has 3x1"),
    ([[0, 1, 3]], "holds the label 3: neither one of the 3 classes nor 9, which is ignored"),
    (b"text", None), (b"", "the file is empty"), ("half", None)])
def test_truth_that_is_none(folder, three, capsys, content, reason):
    photo = save("photo.png", [[R, G, B]])
    if isinstance(content, list):
        save("truth.png", content)
    elif content == "half":
        whole = pathlib.Path(save("truth.png", np.random.default_rng(0).integers(
            0, 3, (60, 60)))).read_bytes()
        pathlib.Path("truth.png").write_bytes(whole[:len(whole) // 2])
    else:
        pathlib.Path("truth.png").write_bytes(content)
    code, out, err = run(capsys, photo, *three, "--truth", "truth.png", "-o", "out")
    assert (code, out) == (1, []) and len(err) == 1
    assert err[0].startswith(f"tinyfcn-segment: truth.png: {reason or ''}")
    assert err[0].isprintable() and tree("out") == []


def test_truth_is_checked_before_a_net_is_loaded(folder, capsys, monkeypatch):
    def load(path, **options):
        raise AssertionError("a net was loaded")

    monkeypatch.setattr(loading, "load_model", load)
    save("a.png", [[R]]), save("b.png", [[R]]), save("t.png", [[0]]), save("x_compare.png", [[0]])
    save("x.png", [[R]])
    few = ["--weights", "w.h5"]
    fails(capsys, 2, "none.png: No such file or directory", "a.png", *few, "--truth", "none.png")
    fails(capsys, 2, "--truth t.png: is the label map of one photo; for 2 photos give a folder of "
          "label maps", "a.png", "b.png", *few, "--truth", "t.png")
    fails(capsys, 2, "x_compare.png would be overwritten by a result of x.png: choose another "
          "output folder with -o", "x.png", *few, "--truth", "x_compare.png")
    assert tree(folder) == ["a.png", "b.png", "t.png", "x.png", "x_compare.png"]


def test_full_disk_leaves_no_part_of_a_panel(folder, three, capsys, monkeypatch):
    def fsync(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    fails(capsys, 1, "out/a_compare.png: No space left on device", save("a.png", [[R]]), *three,
          "-o", "out")
    assert tree("out") == []


def test_two_photos_with_one_panel(folder, three, capsys):
    save("a.png", [[R]]), save("x/a.png", [[R]])
    fails(capsys, 2, "a.png and x/a.png would both be written to ./a_compare.png: do them in two "
          "calls with different -o", "a.png", "x/a.png", *three)


def test_nets_that_do_not_go_together(folder, nets, three, tmp_path, capsys):
    photo = save("photo.png", [[R]])
    nets["w16.h5"].class_names = ["r", "g", "b"]
    code, out, err = run(capsys, photo, *three)
    assert code == 0 and len(out) == 1 and err == [
        f"tinyfcn-segment: warning: {tmp_path}/w16.h5: its classes have other names than those of "
        f"{tmp_path}/w32.h5"]
    nets["w16.h5"].arguments = {"classes": 21}
    fails(capsys, 3, f"{tmp_path}/w16.h5: is for 21 classes, {tmp_path}/w32.h5 for 3", photo,
          *three)
    nets["w8.h5"].name = "vgg16"
    fails(capsys, 3, f"{tmp_path}/w8.h5: holds vgg16, which does not segment", photo, *three)


def test_names_of_the_classes_may_come_from_any_of_the_nets(folder, nets, three, capsys):
    photo = save("photo.png", [[R, G, B]])
    nets["w32.h5"].class_names = nets["w32.h5"].colours = None
    assert run(capsys, photo, *three)[::2] == (0, [])
    assert pictures("photo_compare.png", 4)[3] == COLOURS


@pytest.mark.parametrize("given", ["w.h5,", ",w.h5", "", ",".join(9 * ["w.h5"])])
def test_lists_of_weights_that_are_none(folder, capsys, given):
    fails(capsys, 2, f"--weights {given}: give 1 to 8 files separated by commas",
          save("photo.png", [[R]]), "--weights", given)


def test_weights_that_are_not_there(folder, capsys):
    code, out, err = run(capsys, save("photo.png", [[R]]), "--weights", "w1.h5,w2.h5")
    assert (code, out) == (3, []) and err == [
        "tinyfcn-segment: w1.h5: cannot be read: No such file or directory"]


@pytest.mark.parametrize("arguments, message", [
    (["--compare", "--model", "fcn8s"], "--compare excludes --model and --random-weights"),
    (["--compare", "--random-weights"], "--compare excludes --model and --random-weights"),
    (["--truth", "t.png"], "--truth needs --compare"),
])
def test_usage(folder, capsys, arguments, message):
    assert segment.main(["photo.png", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and message in captured.err and captured.err.count("\n") == 1


# --- with real nets -----------------------------------------------------------------------------

@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """Let the folder of the files that come with the package be an empty one."""
    folder = tmp_path / "weights"
    folder.mkdir()
    monkeypatch.setattr(weights, "__file__", str(folder / "__init__.py"))
    return folder


def ship(folder, model, seed):
    net = models.BY_NAME[model](classes=3, width=1 / 16, fc_channels=8, init="scratch")
    rng = np.random.default_rng(seed)
    for name, array in net.params.items():
        if name.startswith("score"):        # they start at zero
            array[...] = rng.normal(0, 0.1, array.shape)
    net.class_names, net.colours, net.ignore_label = NAMES, COLOURS, 9
    loading.save_model(net, folder / f"streets_{model}.h5")
    return net


def test_nets_that_ship_are_used_as_soon_as_they_are_there(folder, shipped, capsys):
    pixels = np.zeros((45, 160, 3))
    pixels[:, 70:] = 255
    photo = save("photo.png", pixels)
    missing = "give files with --weights W32,W16,W8"
    fails(capsys, 3, f"no weights for fcn32s and fcn16s and fcn8s come with tinyfcn: {missing}",
          photo)
    ship(shipped, "fcn8s", 5)
    fails(capsys, 3, f"no weights for fcn32s and fcn16s come with tinyfcn: {missing}", photo)
    ship(shipped, "fcn32s", 4)
    fails(capsys, 3, f"no weights for fcn16s come with tinyfcn: {missing}", photo)
    ship(shipped, "fcn16s", 3)
    code, out, err = run(capsys, photo, "-o", "out")
    assert (code, err) == (0, []) and out[0].startswith(
        "photo.png: 160x45, FCN-32s; FCN-16s; FCN-8s, ")

    # Each picture shows what the net of that name says by itself.
    panel = np.asarray(Image.open("out/photo_compare.png")).astype(int)
    for model in ("fcn32s", "fcn16s", "fcn8s"):
        assert segment.main([photo, "--model", model, "-o", model, "-q"]) == 0
        labels = np.asarray(Image.open(f"{model}/photo_labels.png"))
        assert len(np.unique(labels)) > 1
        row = np.array(COLOURS)[labels[20]]     # larger than 96 pixels: not enlarged
        found = [left for left in range(panel.shape[1] - len(row))
                 for top in [next_row(panel, row, left)] if top is not None]
        assert found, model


def next_row(panel, row, left):
    window = panel[:, left:left + len(row)]
    hits = np.flatnonzero((window == row).all(axis=(1, 2)))
    return hits[0] if hits.size else None


def test_the_three_nets_that_ship_on_real_photos(test_data, folder, capsys):
    """Panels with truth of a few val photos, and the figures in them."""
    camvid = test_data("camvid")
    missing = [model for model in ("fcn32s", "fcn16s", "fcn8s") if weights.shipped(model) is None]
    if missing:
        pytest.skip(f"no weights of {', '.join(missing)} ship yet")
    photos = sorted((camvid / "images/val").iterdir())[::20]
    code, out, err = run(capsys, *photos, "--truth", camvid / "labels/val")
    assert (code, err) == (0, []) and len(out) == len(photos) == 6
    assert tree(folder) == sorted(f"{photo.stem}_compare.png" for photo in photos)
    found = np.array([[float(value) for value in re.findall(r"mean IU ([\d.]+) %", line)]
                      for line in out])
    assert found.shape == (6, 3) and (found > 20).all()
    # The later stages see more detail.
    coarse, _, fine = found.mean(axis=0)
    assert fine > coarse
