"""The segment command: what it writes, says and returns."""
import hashlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from tinyfcn import loading, models, segment

NAMES, COLOURS = ["red", "green", "blue"], [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
COMPILING = ("tinyfcn-segment: compiling kernels for this machine (done once, then kept on disk) "
             "...")


class ColourNet:
    """Says of each pixel which of red, green and blue is its strongest colour."""

    name = "fcn8s"
    arguments = {"in_channels": 3}
    params = {}
    preprocessing = {"channel_order": "RGB", "scale": 1.0, "mean": [0, 0, 0], "std": [10] * 3}
    class_names, colours = NAMES, COLOURS

    def forward(self, x):
        if x.shape[2] == 13:
            raise MemoryError
        if x.shape[2] == 14:
            raise ZeroDivisionError("unlucky\nwidth")
        return x.copy()


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """Options that choose a stand-in net, which any file stands for."""
    path = tmp_path / "net.h5"
    path.write_bytes(b"any")
    monkeypatch.setattr(loading, "load_model", lambda path, **options: ColourNet())
    monkeypatch.setattr(models, "prepare", lambda net: net, raising=False)
    return ["--weights", str(path)]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder that is the current one."""
    path = tmp_path / "here"
    path.mkdir()
    monkeypatch.chdir(path)
    return path


def save(path, colour=(200, 0, 0), size=(8, 6)):
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


def tree(folder):
    return sorted(str(path.relative_to(folder)) for path in pathlib.Path(folder).rglob("*")
                  if path.is_file())


def results(*stems):
    return sorted(stem + suffix for stem in stems
                  for suffix in (".json", "_labels.png", "_overlay.png"))


def run(capsys, *arguments):
    """Run the command in this process. Returns the exit code, and the lines of both streams, but
    for the notice of whatever is compiled here for the first time."""
    code = segment.main([str(each) for each in arguments])
    captured = capsys.readouterr()
    errors = [line for line in captured.err.splitlines() if line != COMPILING]
    return code, captured.out.splitlines(), errors


# --- results --------------------------------------------------------------------------------

def test_one_photo(folder, weights, capsys):
    pixels = np.zeros((20, 30, 3), np.uint8)
    pixels[:, :18] = (0, 0, 250)
    pixels[:, 18:] = (250, 0, 0)
    pixels[0, 0] = (0, 250, 0)
    Image.fromarray(pixels).save("photo.png")
    code, out, err = run(capsys, "photo.png", *weights)
    assert (code, err) == (0, [])
    assert len(out) == 1
    assert out[0].startswith("photo.png: 30x20, blue 59.8 %, red 40.0 %, green 0.2 %, ")
    assert out[0].endswith(" s")
    assert tree(folder) == sorted(["photo.png", *results("photo")])

    labels = Image.open("photo_labels.png")
    assert labels.mode == "P"
    expected = np.full((20, 30), 2)
    expected[:, 18:] = 0
    expected[0, 0] = 1
    np.testing.assert_array_equal(np.asarray(labels), expected)
    assert labels.getpalette()[:9] == [255, 0, 0, 0, 255, 0, 0, 0, 255]

    overlay = np.asarray(Image.open("photo_overlay.png"))
    np.testing.assert_allclose(overlay[10, 5].astype(int), (0, 0, 252), atol=1)
    assert overlay.shape[0] > 20

    summary = json.loads(pathlib.Path("photo.json").read_text())
    assert summary["image"] == {"path": "photo.png", "width": 30, "height": 20}
    assert summary["model"] == "fcn8s"
    assert summary["weights"] == {"path": weights[1], "sha256": hashlib.sha256(b"any").hexdigest()}
    assert set(summary["versions"]) == {"tinyfcn", "numpy", "numba"}
    assert summary["versions"]["numpy"] == np.__version__
    assert set(summary["seconds"]) == {"load", "decode", "forward", "write"}
    assert all(seconds >= 0 for seconds in summary["seconds"].values())
    classes = summary["classes"]
    assert [(c["index"], c["name"], c["pixels"]) for c in classes] == [
        (2, "blue", 359), (0, "red", 240), (1, "green", 1)]
    assert classes[1]["share"] == pytest.approx(0.4)
    assert all(c["mean_confidence"] == pytest.approx(1) for c in classes)
    assert summary["totals"]["pixels"] == 600 and summary["totals"]["classes"] == 3
    assert summary["totals"]["mean_confidence"] == pytest.approx(1)


def test_orientation_is_applied(folder, weights, capsys):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 10), "red").save("photo.jpg", exif=exif)
    code, out, _ = run(capsys, "photo.jpg", *weights)
    assert code == 0 and out[0].startswith("photo.jpg: 10x40, ")
    assert Image.open("photo_labels.png").size == (10, 40)


def test_output_folder_is_made(folder, weights, capsys):
    save("photo.png")
    code, _, _ = run(capsys, "photo.png", "-o", "new/deep", *weights)
    assert code == 0
    assert tree(folder / "new") == ["deep/" + each for each in results("photo")]


def test_tree_of_a_folder_is_mirrored(folder, weights, capsys):
    for name in ("a.png", "sub/b.JPG", "sub/deeper/a.png", ".hidden.png", ".git/c.png",
                 "._a.jpg"):
        save(f"in/{name}")
    (folder / "in" / "notes.txt").write_text("no image, and no failure")
    code, out, err = run(capsys, "in", "-o", "out", *weights)
    assert (code, err) == (0, [])
    assert [line.split(":")[0] for line in out] == ["in/a.png", "in/sub/b.JPG",
                                                    "in/sub/deeper/a.png"]
    assert tree("out") == sorted(results("a", "sub/b", "sub/deeper/a"))


def test_several_files_and_folders(folder, weights, capsys):
    save("one.png"), save("x/two.png"), save("y/three.png")
    code, out, _ = run(capsys, "one.png", "x", "y/three.png", "-o", "out", *weights)
    assert code == 0 and len(out) == 3
    assert tree("out") == results("one", "three", "two")


@pytest.mark.parametrize("name, stem", [
    ("Zürich 雪.png", "Zürich 雪"), ("with  spaces .png", "with  spaces "),
    ("archive.tar.png", "archive.tar"), ("v1.2", "v1.2"), ("none", "none"),
    ("UPPER.PNG", "UPPER"), (".hidden.png", ".hidden"), ("photo.xyz", "photo.xyz"),
    ("[a]*?.png", "[a]*?"), ("a'b\"c.png", "a'b\"c")])
def test_names_of_results_follow_the_photo(folder, weights, capsys, name, stem):
    Image.new("RGB", (4, 4)).save(name, "PNG")
    code, out, _ = run(capsys, name, "-o", "out", *weights)
    assert code == 0 and out[0].startswith(name + ": 4x4, ")
    assert tree("out") == results(stem)
    assert json.loads((folder / "out" / f"{stem}.json").read_text())["image"]["path"] == name


def test_name_with_a_leading_dash(folder, weights, capsys):
    save("-v.png")
    code, _, _ = run(capsys, *weights, "--", "-v.png")
    assert code == 0 and (folder / "-v_labels.png").exists()


def test_name_with_a_line_break_stays_one_line(folder, weights, capsys):
    save("a\nb.png")
    code, out, _ = run(capsys, "a\nb.png", *weights)
    assert code == 0 and len(out) == 1 and out[0].startswith("a\\nb.png: ")
    assert (folder / "a\nb_labels.png").exists()


def test_alpha(folder, weights, capsys):
    save("photo.png", (200, 100, 0))
    assert run(capsys, "photo.png", "--alpha", "0", *weights)[0] == 0
    assert tuple(np.asarray(Image.open("photo_overlay.png"))[0, 0]) == (200, 100, 0)
    assert run(capsys, "photo.png", "--alpha", "1", *weights)[0] == 0
    assert tuple(np.asarray(Image.open("photo_overlay.png"))[0, 0]) == (255, 0, 0)


def test_views(folder, weights, capsys, monkeypatch):
    seen, forward = [], ColourNet.forward
    monkeypatch.setattr(ColourNet, "forward", lambda self, x: (seen.append(x.shape[1:3]),
                                                               forward(self, x))[1])
    save("photo.png", (200, 100, 0))
    assert run(capsys, "photo.png", *weights)[0] == 0
    assert seen == [(6, 8)]
    assert json.loads(pathlib.Path("photo.json").read_text())["views"] == {
        "flip": False, "scales": [1]}
    plain = np.asarray(Image.open("photo_labels.png"))
    code, _, err = run(capsys, "photo.png", "--flip", "--scales", "0.5,1,2", *weights)
    assert (code, err) == (0, [])
    assert seen[1:] == [size for size in ((3, 4), (6, 8), (12, 16)) for _ in range(2)]
    assert json.loads(pathlib.Path("photo.json").read_text())["views"] == {
        "flip": True, "scales": [0.5, 1, 2]}
    np.testing.assert_array_equal(np.asarray(Image.open("photo_labels.png")), plain)


def test_quiet(folder, weights, capsys):
    save("photo.png")
    assert run(capsys, "photo.png", "--quiet", *weights) == (0, [], [])
    assert (folder / "photo.json").exists()


def test_quiet_still_names_failures(folder, weights, capsys):
    save("photo.png")
    code, out, err = run(capsys, "photo.png", "none.png", "-q", *weights)
    assert (code, out) == (1, [])
    assert err == ["tinyfcn-segment: none.png: No such file or directory"]


def test_the_library_is_heard_on_stderr_unless_quiet(folder, weights, capsys, monkeypatch):
    import logging
    save("photo.png")

    def load(path, **options):
        logging.getLogger("tinyfcn").info("compiling kernels")
        return ColourNet()

    monkeypatch.setattr(loading, "load_model", load)
    assert run(capsys, "photo.png", *weights)[2] == ["tinyfcn-segment: compiling kernels"]
    assert run(capsys, "photo.png", "-q", *weights)[2] == []
    before = logging.getLogger("tinyfcn").level
    _, _, err = run(capsys, "photo.png", "--verbose", *weights)
    assert any("model fcn8s" in line for line in err)
    assert logging.getLogger("tinyfcn").handlers == []
    assert logging.getLogger("tinyfcn").level == before


def test_animated(folder, weights, capsys):
    Image.new("RGB", (4, 4), "red").save("photo.gif", save_all=True,
                                         append_images=[Image.new("RGB", (4, 4), "blue")])
    code, out, err = run(capsys, "photo.gif", *weights)
    assert code == 0 and "red 100.0 %" in out[0]
    assert err == ["tinyfcn-segment: warning: photo.gif: holds several frames or pages; "
                   "the first is used"]


def test_results_of_an_earlier_call_are_replaced(folder, weights, capsys):
    save("photo.png")
    run(capsys, "photo.png", *weights)
    save("photo.png", (0, 0, 200), (3, 2))
    assert run(capsys, "photo.png", *weights)[0] == 0
    assert Image.open("photo_labels.png").size == (3, 2)


# --- collisions: found before anything starts -------------------------------------------------

@pytest.fixture
def no_net(monkeypatch):
    """Loading a net fails the test."""
    def load(path, **options):
        raise AssertionError("a net was loaded")

    monkeypatch.setattr(loading, "load_model", load)
    return ["--weights", "net.h5"]


@pytest.mark.parametrize("photos, arguments, named", [
    (["in/a.jpg", "in/a.png"], ["in"], ["in/a.jpg", "in/a.png", "out/a_labels.png"]),
    (["x/a.jpg", "y/a.jpg"], ["x", "y"], ["x/a.jpg", "y/a.jpg"]),
    (["x/a.jpg", "y/a.jpg"], ["x/a.jpg", "y/a.jpg"], ["x/a.jpg", "y/a.jpg"]),
    (["x/s/a.jpg", "s/a.png"], ["x/s/a.jpg", "s"], ["x/s/a.jpg", "s/a.png"]),
])
def test_two_photos_with_one_result(folder, capsys, no_net, photos, arguments, named):
    for name in photos:
        save(name)
    before = tree(folder)
    code, out, err = run(capsys, *arguments, "-o", "out", *no_net)
    assert (code, out) == (2, []) and len(err) == 1
    assert "would both be written to" in err[0]
    assert all(name in err[0] for name in named)
    assert tree(folder) == before and not (folder / "out").exists()


def test_a_result_would_overwrite_a_photo(folder, capsys, no_net):
    save("in/a.jpg"), save("in/a_labels.png")
    code, out, err = run(capsys, "in", "-o", "in", *no_net)
    assert (code, out) == (2, [])
    assert err == ["tinyfcn-segment: in/a_labels.png would be overwritten by a result of "
                   "in/a.jpg: choose another output folder with -o"]
    assert tree(folder) == ["in/a.jpg", "in/a_labels.png"]


def test_a_result_would_overwrite_a_photo_behind_a_link(folder, capsys, no_net):
    save("in/a.jpg"), save("in/a_overlay.png")
    os.symlink("in", "link")
    code, _, err = run(capsys, "in", "-o", "link", *no_net)
    assert code == 2 and "would be overwritten" in err[0]


def test_a_photo_given_twice_is_done_once(folder, weights, capsys):
    save("in/a.png")
    code, out, _ = run(capsys, "in/a.png", "./in/a.png", "in", "-o", "out", *weights)
    assert code == 0 and len(out) == 1


def test_output_folder_within_the_folder_is_not_searched(folder, weights, capsys):
    save("in/a.png")
    for _ in range(2):
        code, out, _ = run(capsys, "in", "-o", "in/out", *weights)
        assert code == 0 and len(out) == 1
    assert tree("in") == sorted(["a.png", *results("out/a")])


def test_links_in_a_circle_do_not_hang(folder, weights, capsys):
    save("in/sub/a.png")
    os.symlink("..", "in/sub/up")
    os.symlink("self", "in/self")
    os.symlink(folder / "in", "in/sub/again")
    code, out, _ = run(capsys, "in", "-o", "out", *weights)
    assert code == 0 and len(out) == 1
    assert tree("out") == results("sub/a")


# --- bad input --------------------------------------------------------------------------------

def test_bad_photos_are_named_and_the_others_done(folder, weights, capsys):
    save("good.png")
    pathlib.Path("text.jpg").write_text("text")
    pathlib.Path("empty.png").touch()
    data = save("cut.png", size=(64, 64)).read_bytes()
    pathlib.Path("cut.png").write_bytes(data[:len(data) // 2])
    pathlib.Path("hollow").mkdir()
    code, out, err = run(capsys, "text.jpg", "empty.png", "cut.png", "none.png", "hollow",
                         "good.png", "-o", "out", *weights)
    assert code == 1
    assert len(out) == 1 and out[0].startswith("good.png: ")
    assert sorted(err)[1:] == [
        "tinyfcn-segment: empty.png: the file is empty",
        "tinyfcn-segment: hollow: no images in this folder",
        "tinyfcn-segment: none.png: No such file or directory",
        "tinyfcn-segment: text.jpg: is not a readable PNG, JPEG, BMP, GIF, TIFF, WebP or PPM "
        "image"]
    assert sorted(err)[0].startswith("tinyfcn-segment: cut.png: damaged or truncated image: ")
    assert tree("out") == results("good")


def test_bad_photos_in_folders_too(folder, weights, capsys):
    save("in/a.png"), save("in/z.png")
    (folder / "in" / "m.png").write_text("text")
    code, out, err = run(capsys, "in", "-o", "out", *weights)
    assert code == 1 and len(out) == 2 and len(err) == 1
    assert err[0].startswith("tinyfcn-segment: in/m.png: is not a readable ")


@pytest.mark.parametrize("name", ["none.png", "hollow", "empty.png"])
def test_nothing_to_do_loads_nothing(folder, capsys, no_net, name):
    (folder / "hollow").mkdir()
    (folder / "empty.png").touch()
    code, out, err = run(capsys, name, "-o", "out", *no_net)
    assert (code, out) == (1, []) and len(err) == 1
    assert err[0].startswith(f"tinyfcn-segment: {name}: ")
    assert not (folder / "out").exists()


def test_too_large_a_photo_is_one_line(folder, weights, capsys):
    save("wide.png", size=(13, 4)), save("z.png")
    code, out, err = run(capsys, "wide.png", "z.png", *weights)
    assert code == 1 and len(out) == 1 and out[0].startswith("z.png: ")
    assert err == ["tinyfcn-segment: wide.png: not enough memory"]
    assert tree(folder) == sorted(["wide.png", "z.png", *results("z")])


def test_the_unexpected_is_one_line_unless_verbose(folder, weights, capsys):
    save("odd.png", size=(14, 4)), save("z.png")
    code, out, err = run(capsys, "odd.png", "z.png", *weights)
    assert code == 1 and len(out) == 1
    assert err == ["tinyfcn-segment: odd.png: ZeroDivisionError: unlucky width"]
    assert "Traceback" in "".join(run(capsys, "odd.png", "-v", *weights)[2])


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read all")
def test_photo_without_permission(folder, weights, capsys):
    save("photo.png").chmod(0)
    code, _, err = run(capsys, "photo.png", *weights)
    assert (code, err) == (1, ["tinyfcn-segment: photo.png: Permission denied"])


# --- output that cannot be written --------------------------------------------------------------

def test_output_folder_is_a_file(folder, capsys, no_net):
    save("photo.png")
    (folder / "out").write_text("mine")
    for output in ("out", "out/deeper"):
        code, out, err = run(capsys, "photo.png", "-o", output, *no_net)
        assert (code, out) == (2, []) and len(err) == 1
        assert err[0].startswith(f"tinyfcn-segment: {output}: cannot write to this output folder:")
    assert (folder / "out").read_text() == "mine"


def test_output_folder_without_permission(folder, capsys, no_net, monkeypatch):
    save("photo.png")

    def deny(*args, **kwargs):          # root, as whom tests may run, is denied nothing
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", deny)
    code, _, err = run(capsys, "photo.png", *no_net)
    assert (code, err) == (
        2, ["tinyfcn-segment: .: cannot write to this output folder: Permission denied"])


@pytest.mark.parametrize("failing", [1, 2, 3])
def test_full_disk_leaves_no_part_of_a_result(folder, weights, capsys, monkeypatch, failing):
    save("photo.png")
    calls = []

    def fsync(descriptor):
        calls.append(descriptor)
        if len(calls) == failing:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    code, out, err = run(capsys, "photo.png", "-o", "out", *weights)
    assert (code, out) == (1, [])
    suffix = ["_labels.png", "_overlay.png", ".json"][failing - 1]
    assert err == [f"tinyfcn-segment: ./out/photo{suffix}: No space left on device".replace(
        "./out", "out")]
    assert list((folder / "out").iterdir()) == []


def test_name_too_long_for_its_results(folder, weights, capsys):
    name = "x" * 248 + ".png"
    save(name), save("z.png")
    code, out, err = run(capsys, name, "z.png", *weights)
    assert code == 1 and len(out) == 1 and len(err) == 1
    assert err[0].endswith(": File name too long")
    assert tree(folder) == sorted([name, "z.png", *results("z")])


# --- usage ------------------------------------------------------------------------------------

@pytest.mark.parametrize("arguments, message", [
    ([], "the following arguments are required: PHOTO"),
    (["a.png", "--alpha", "1.5"], "must be at least 0 and at most 1, not 1.5"),
    (["a.png", "--alpha", "-0.1"], "must be at least 0 and at most 1, not -0.1"),
    (["a.png", "--alpha", "nan"], "must be at least 0 and at most 1, not nan"),
    (["a.png", "--alpha", "half"], "argument --alpha: not a number: 'half'"),
    (["a.png", "--model", "unet"], "invalid choice: 'unet'"),
    (["a.png", "--classes", "21"], "--classes needs --random-weights"),
    (["a.png", "--random-weights", "--classes", "0"], "must be at least 1 and at most 256, not 0"),
    (["a.png", "--random-weights", "--classes", "257"],
     "must be at least 1 and at most 256, not 257"),
    (["a.png", "--random-weights", "--weights", "w.h5"], "exclude each other"),
    (["a.png", "--scales", "1;2"], "argument --scales: not a number: '1;2'"),
    (["a.png", "--scales", "-1"], "must be above 0 and at most 8, not -1"),
    (["a.png", "-q", "-v"], "not allowed with argument"),
    (["a.png", "--frobnicate"], "unrecognized arguments: --frobnicate"),
])
def test_usage(folder, capsys, no_net, arguments, message):
    save("a.png")
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, []) and len(err) == 1
    assert message in err[0] and err[0].startswith("tinyfcn-segment: ")
    assert tree(folder) == ["a.png"]


def test_help_names_the_options(capsys):
    code, out, _ = run(capsys, "--help")
    text = "\n".join(out)
    assert code == 0
    for option in ("--output", "--model", "--weights", "--random-weights", "--classes", "--alpha",
                   "--compare", "--truth", "--flip", "--scales",
                   "--quiet", "--verbose", "Exit codes"):
        assert option in text


# --- with real nets -----------------------------------------------------------------------------

@pytest.fixture(scope="module")
def small_net(tmp_path_factory):
    """A weight file of an FCN-8s that is as small as it gets."""
    net = models.FCN8s(classes=3, width=1 / 16, fc_channels=8, init="scratch")
    net.class_names, net.colours = NAMES, COLOURS
    path = tmp_path_factory.mktemp("nets") / "small.h5"
    loading.save_model(net, path)
    return path


def test_weights_of_a_file(folder, small_net, capsys):
    rng = np.random.default_rng(1)
    Image.fromarray(rng.integers(0, 256, (37, 53, 3), dtype=np.uint8)).save("photo.png")
    code, out, _ = run(capsys, "photo.png", "--weights", small_net)
    assert code == 0 and out[0].startswith("photo.png: 53x37, ")
    assert Image.open("photo_labels.png").size == (53, 37)
    summary = json.loads(pathlib.Path("photo.json").read_text())
    assert summary["weights"]["sha256"] == hashlib.sha256(small_net.read_bytes()).hexdigest()
    assert sum(each["pixels"] for each in summary["classes"]) == 37 * 53
    assert {each["name"] for each in summary["classes"]} <= set(NAMES)


@pytest.mark.parametrize("size", [(1, 1), (200, 1), (1, 200), (33, 31)])
def test_any_size(folder, small_net, capsys, size):
    save("photo.png", size=size)
    assert run(capsys, "photo.png", "--weights", small_net)[0] == 0
    assert Image.open("photo_labels.png").size == size


def test_weights_of_another_net(folder, small_net, capsys):
    save("photo.png")
    code, out, err = run(capsys, "photo.png", "--weights", small_net, "--model", "fcn32s")
    assert (code, out) == (3, []) and len(err) == 1
    assert str(small_net) in err[0] and "fcn8s" in err[0] and "fcn32s" in err[0]
    assert tree(folder) == ["photo.png"]


@pytest.mark.parametrize("content", [None, b"", b"text", "half"])
def test_weights_that_are_none(folder, small_net, capsys, content):
    save("photo.png")
    path = folder / "w.h5"
    if content is not None:
        whole = small_net.read_bytes()
        path.write_bytes(whole[:len(whole) // 2] if content == "half" else content)
    code, out, err = run(capsys, "photo.png", "--weights", path)
    assert (code, out) == (3, []) and len(err) == 1
    assert err[0].startswith(f"tinyfcn-segment: {path}: ")
    assert not (folder / "photo.json").exists()


def test_weights_of_a_net_that_does_not_segment(folder, tmp_path, capsys):
    save("photo.png")
    net = models.VGG16(classes=3, width=1 / 16, fc_channels=8, init="scratch")
    path = tmp_path / "vgg.h5"
    loading.save_model(net, path)
    code, _, err = run(capsys, "photo.png", "--weights", path)
    assert (code, err) == (
        3, [f"tinyfcn-segment: {path}: holds vgg16, which does not segment"])


def test_model_that_does_not_ship(folder, capsys, monkeypatch):
    from tinyfcn import weights as package
    save("photo.png")
    monkeypatch.setattr(package, "shipped", lambda model: None)
    code, out, err = run(capsys, "photo.png", "--model", "fcn32s")
    assert (code, out) == (3, [])
    assert err == ["tinyfcn-segment: no weights for fcn32s come with tinyfcn: give a file with "
                   "--weights, or try the net untrained with --random-weights"]
    assert tree(folder) == ["photo.png"]


def test_random_weights(folder, capsys, monkeypatch):
    save("photo.png")
    full, asked = models.FCN16s, []

    def small(**arguments):             # the full width takes seconds and half a gigabyte
        asked.append(arguments)
        return full(**arguments, width=1 / 16, fc_channels=8)

    monkeypatch.setitem(models.BY_NAME, "fcn16s", small)
    code, _, _ = run(capsys, "photo.png", "--model", "fcn16s", "--classes", "5",
                     "--random-weights")
    assert code == 0
    assert asked == [{"classes": 5, "init": "scratch"}]
    summary = json.loads(pathlib.Path("photo.json").read_text())
    assert summary["model"] == "fcn16s" and summary["weights"] is None
    assert all(each["name"] == f"class {each['index']}" for each in summary["classes"])


# --- as a process -------------------------------------------------------------------------------

RUNNER = """
import sys, time
from tinyfcn import loading, models, segment

class Net:
    name, arguments, params = "fcn8s", {}, {}
    preprocessing = dict(channel_order="RGB", scale=1.0, mean=[0] * 3, std=[1] * 3)
    class_names = colours = None
    def forward(self, x):
        if x.shape[1] == 99:
            print("waiting", file=sys.stderr, flush=True)
            time.sleep(60)
        return x.copy()

loading.load_model = lambda path, **options: Net()
models.prepare = lambda net: net
sys.exit(segment.main())
"""


@pytest.fixture
def process(tmp_path, folder):
    """The command line that runs the command with a stand-in net in its own process."""
    script = tmp_path / "runner.py"
    script.write_text(RUNNER)
    (tmp_path / "net.h5").write_bytes(b"any")
    return [sys.executable, str(script), "--weights", str(tmp_path / "net.h5")]


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_interrupt(folder, process):
    save("a.png"), save("wait.png", size=(4, 99)), save("z.png")
    running = subprocess.Popen([*process, "a.png", "wait.png", "z.png", "-o", "out"],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert running.stderr.readline() == "waiting\n"
    time.sleep(0.2)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=30)
    assert running.returncode == 130
    assert err == "tinyfcn-segment: interrupted\n"
    assert out.startswith("a.png: ") and out.count("\n") == 1
    assert tree("out") == results("a")


@pytest.mark.skipif(os.name != "posix", reason="pipes of POSIX")
def test_reader_that_stops_reading(folder, process):
    for number in range(5):
        save(f"{number}.png")
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([*process, *(f"{number}.png" for number in range(5)), "-o", "out"],
                          stdout=writing, stderr=subprocess.PIPE, text=True, timeout=60)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")
    assert tree("out") == results(*"01234")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="/dev/full is Linux's")
def test_stdout_that_is_full(folder, process):
    save("a.png"), save("b.png")
    with open("/dev/full", "w") as full:
        done = subprocess.run([*process, "a.png", "b.png"], stdout=full, stderr=subprocess.PIPE,
                              text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr == "tinyfcn-segment: stdout: No space left on device\n"
    assert tree(folder) == sorted(["a.png", "b.png", *results("a", "b")])


@pytest.mark.skipif(os.name != "posix", reason="file names of POSIX")
def test_names_that_stdout_cannot_encode(folder, process):
    for name in (b"caf\xe9.png", "雪.png".encode()):
        shutil.copy(save("a.png"), os.fsdecode(name))
    done = subprocess.run([*process, os.fsdecode(b"caf\xe9.png"), "雪.png", "-o", "out"],
                          capture_output=True, timeout=60,
                          env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0, done.stderr
    assert [line.split(b":")[0] for line in done.stdout.splitlines()] == [
        rb"caf\udce9.png", rb"\u96ea.png"]
    assert os.path.exists(b"out/caf\xe9_labels.png")
    summary = json.loads((folder / os.fsdecode(b"out/caf\xe9.json")).read_text())
    assert os.fsencode(summary["image"]["path"]) == b"caf\xe9.png"


def test_module_runs(folder):
    done = subprocess.run([sys.executable, "-m", "tinyfcn.segment", "none.png"],
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == "tinyfcn-segment: none.png: No such file or directory\n"
