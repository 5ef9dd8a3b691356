"""The palette of Pascal VOC, against the colours published for its classes."""
import numpy as np

from tinyfcn.data.palettes import voc_palette


def test_published_colours():
    palette = voc_palette(256)
    assert palette.dtype == np.uint8 and palette.shape == (256, 3)
    for index, colour in {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 3: (128, 128, 0),
                          4: (0, 0, 128), 7: (128, 128, 128), 8: (64, 0, 0), 15: (192, 128, 128),
                          16: (0, 64, 0), 20: (0, 64, 128), 255: (224, 224, 192)}.items():
        assert tuple(palette[index]) == colour


def test_colours_differ():
    assert len(np.unique(voc_palette(256), axis=0)) == 256


def test_any_number_of_classes():
    assert voc_palette(0).shape == (0, 3)
    np.testing.assert_array_equal(voc_palette(300)[:21], voc_palette(21))
