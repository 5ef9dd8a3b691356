"""Label maps, overlays and legends."""
import io

import numpy as np
import pytest
from PIL import Image

from tinyfcn import drawing
from tinyfcn.data.palettes import voc_palette

COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]


def decoded(data):
    return Image.open(io.BytesIO(data))


def halves(h, w):
    """Left half class 0, right half class 2, with statistics that put class 2 first."""
    labels = np.zeros((h, w), np.uint8)
    labels[:, w // 2:] = 2
    statistics = [{"index": 2, "name": "sea", "share": 0.6}, {"index": 0, "name": "land",
                                                              "share": 0.4}]
    return labels, statistics


def test_labels_are_the_indices_of_an_indexed_png():
    labels = np.array([[0, 1, 2], [255, 7, 1]], np.uint8)
    image = decoded(drawing.labels_png(labels, COLOURS))
    assert image.mode == "P" and image.format == "PNG"
    np.testing.assert_array_equal(np.asarray(image), labels)
    palette = np.array(image.getpalette()).reshape(-1, 3)
    np.testing.assert_array_equal(palette[:3], COLOURS)
    np.testing.assert_array_equal(palette[3:], voc_palette(256)[3:])
    assert image.convert("RGB").getpixel((1, 0)) == (0, 255, 0)


def test_all_256_labels():
    labels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    np.testing.assert_array_equal(np.asarray(decoded(drawing.labels_png(labels))), labels)


def test_more_classes_make_a_grey_png_of_16_bits():
    labels = np.array([[0, 256], [999, 65535]], np.uint16)
    image = decoded(drawing.labels_png(labels))
    assert image.mode.startswith("I")
    np.testing.assert_array_equal(np.asarray(image), labels)


def test_class_colours_are_filled_up():
    colours = drawing.class_colours(5, COLOURS)
    np.testing.assert_array_equal(colours[:3], COLOURS)
    np.testing.assert_array_equal(colours[3:], voc_palette(5)[3:])
    np.testing.assert_array_equal(drawing.class_colours(2, COLOURS), COLOURS[:2])
    np.testing.assert_array_equal(drawing.class_colours(4), voc_palette(4))


@pytest.mark.parametrize("alpha, pixel", [
    (0, (100, 200, 50)), (1, (0, 0, 255)), (0.5, (50, 100, 152)), (0.25, (75, 150, 101))])
def test_blend(alpha, pixel):
    photo = np.full((300, 2, 3), (100, 200, 50), np.uint8)      # more rows than one band
    labels = np.full((300, 2), 2, np.uint8)
    blended = drawing.blend(photo, labels, COLOURS, alpha)
    assert blended.dtype == np.uint8
    np.testing.assert_allclose(blended.astype(int), np.broadcast_to(pixel, photo.shape), atol=1)
    if alpha in (0, 1):
        np.testing.assert_array_equal(blended, np.broadcast_to(pixel, photo.shape))


def test_blend_takes_each_pixels_colour():
    photo = np.zeros((2, 2, 3), np.uint8)
    labels = np.array([[0, 1], [2, 1]], np.uint8)
    np.testing.assert_array_equal(drawing.blend(photo, labels, COLOURS, 1),
                                  np.array(COLOURS)[labels])


@pytest.mark.parametrize("alpha", [-0.1, 1.1, float("nan")])
def test_blend_refuses_alpha(alpha):
    with pytest.raises(ValueError, match="alpha lies between 0 and 1"):
        drawing.blend(np.zeros((1, 1, 3), np.uint8), np.zeros((1, 1), np.uint8), alpha=alpha)


def test_blend_refuses_labels_of_another_size():
    with pytest.raises(ValueError, match=r"labels are \(2, 1\), the photo is \(1, 1\)"):
        drawing.blend(np.zeros((1, 1, 3), np.uint8), np.zeros((2, 1), np.uint8))


@pytest.mark.parametrize("size", [(1, 1), (1, 2000), (2000, 1), (31, 33), (200, 300)])
def test_overlay_keeps_the_photo_whole_above_the_legend(size):
    labels, statistics = halves(*size)
    photo = np.full((*size, 3), 90, np.uint8)
    picture = drawing.overlay(photo, labels, statistics, COLOURS, 0.5)
    h, w = size
    assert picture.shape[0] > h and picture.shape[1] >= w
    np.testing.assert_array_equal(picture[:h, :w], drawing.blend(photo, labels, COLOURS, 0.5))
    if picture.shape[1] > w:
        assert (picture[:h, w:] == 255).all()


def test_legend_shows_the_largest_class_first():
    labels, statistics = halves(200, 300)
    picture = drawing.overlay(np.zeros((200, 300, 3), np.uint8), labels, statistics, COLOURS)
    below = picture[200:]
    blue = np.argwhere((below == (0, 0, 255)).all(axis=2))
    red = np.argwhere((below == (255, 0, 0)).all(axis=2))
    assert len(blue) > 50 and len(red) > 50
    # In reading order: above or, in one row, to the left.
    assert tuple(blue.min(axis=0)) < tuple(red.min(axis=0))
    # Classes that are not present are not shown.
    assert not (below == (0, 255, 0)).all(axis=2).any()


def test_legend_has_text_beside_each_swatch():
    with_text = drawing.legend([((255, 0, 0), "Building 33.0 %")], 400, 14)
    without = drawing.legend([((255, 0, 0), "")], 400, 14)
    dark = [(picture.max(axis=2) < 100).sum() for picture in (with_text, without)]
    assert dark[0] > dark[1] + 100


def test_legend_flows_into_rows_and_grows_for_a_long_name():
    entries = [((9, 9, 9), f"class {n}") for n in range(30)]
    wide, narrow = drawing.legend(entries, 900, 14), drawing.legend(entries, 200, 14)
    assert wide.shape[1] == 900 and narrow.shape[1] == 200
    assert narrow.shape[0] > 2 * wide.shape[0]
    assert drawing.legend([((9, 9, 9), "a name longer than this")], 10, 14).shape[1] > 100


def test_every_swatch_of_a_full_legend_is_there():
    colours = voc_palette(60)[1:]
    picture = drawing.legend([(colour, "x") for colour in colours], 500, 14)
    found = {tuple(pixel) for pixel in picture.reshape(-1, 3).tolist()}
    assert {tuple(colour) for colour in colours.tolist()} <= found


def test_strange_names_are_drawn():
    labels, statistics = halves(20, 20)
    statistics[0]["name"] = "two\nlines\t" + 500 * "x"
    statistics[1]["name"] = "Straße 雪 \x07"
    picture = drawing.overlay(np.zeros((20, 20, 3), np.uint8), labels, statistics)
    assert picture.shape[1] < 1000


def test_percent():
    assert [drawing.percent(s) for s in (0, 0.0001, 0.0005, 0.1234, 1)] == [
        "0.0 %", "< 0.1 %", "0.1 %", "12.3 %", "100.0 %"]


def test_heat_colours_rise_from_dark_to_light():
    colours = drawing.heat_colours(np.linspace(0, 1, 101))
    assert colours.shape == (101, 3) and colours.dtype == np.uint8
    lightness = colours @ [0.299, 0.587, 0.114]
    assert (np.diff(lightness) > 0).all()
    np.testing.assert_array_equal(drawing.heat_colours(np.array([-1, 2])), colours[[0, -1]])


def test_a_heat_overlay_tints_a_grey_photo():
    photo = np.zeros((300, 40, 3), np.uint8)
    photo[:] = 30, 60, 90
    heat = np.zeros((300, 40))
    heat[200:] = 1
    picture = drawing.heat_overlay(photo, heat, "cat", alpha=0.5)
    assert picture.shape[0] > 300 and picture.shape[1] >= 40
    cold, hot = drawing.heat_colours(np.array([0, 1])).astype(float)
    np.testing.assert_allclose(picture[0, 0], 30 + cold / 2, atol=1)
    np.testing.assert_allclose(picture[250, 39], 30 + hot / 2, atol=1)
    np.testing.assert_array_equal(drawing.heat_overlay(photo, heat, "cat", 0)[:300, :40], 60)
    with pytest.raises(ValueError, match=r"the map is \(2, 2\), the photo is \(300, 40\)"):
        drawing.heat_overlay(photo, np.zeros((2, 2)), "cat")
