"""Reading photos: every mode right, every bad file one clear line."""
import io
import os
import struct
import subprocess
import sys
import threading
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile

from tinyfcn.data import images
from tinyfcn.data.images import ImageError, read_photo, scale_to_8_bits

WRITTEN = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")


def picture(h, w, seed=0):
    """Smooth colours with some texture, so that lossy formats stay near."""
    y, x = np.mgrid[:h, :w]
    rng = np.random.default_rng(seed)
    channels = [120 + 100 * np.sin(y / (9 + c) + x / (13 - c) + c) for c in range(3)]
    noise = rng.integers(-3, 4, (h, w, 3))
    return np.clip(np.stack(channels, 2) + noise, 0, 255).astype(np.uint8)


def encoded(image, form, **options):
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def error_of(path):
    with pytest.raises(ImageError) as caught:
        read_photo(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(images.printable(path) + ": ")
    return message.removeprefix(images.printable(path) + ": ")


def png_chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_header(w, h, bits=8, colour=2):
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", struct.pack(">2I5B", w, h, bits, colour,
                                                                 0, 0, 0))


# --- what is read ---------------------------------------------------------------------------

@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "PPM"])
@pytest.mark.parametrize("size", [(1, 1), (1, 2000), (2000, 1), (31, 33), (64, 48)])
def test_lossless_formats_keep_every_pixel(tmp_path, form, size):
    pixels = picture(*size)
    path = tmp_path / "photo"           # the content says what it is, not the name
    path.write_bytes(encoded(Image.fromarray(pixels), form))
    photo = read_photo(path)
    assert photo.dtype == np.uint8
    assert photo.flags.c_contiguous and photo.flags.writeable
    np.testing.assert_array_equal(photo, pixels)


def test_lossless_webp_keeps_every_pixel(tmp_path):
    pixels = picture(31, 33)
    path = tmp_path / "photo.webp"
    path.write_bytes(encoded(Image.fromarray(pixels), "WEBP", lossless=True))
    np.testing.assert_array_equal(read_photo(path), pixels)


@pytest.mark.parametrize("form", ["JPEG", "WEBP"])
@pytest.mark.parametrize("size", [(1, 1), (1, 2000), (31, 33)])
def test_lossy_formats_stay_near(tmp_path, form, size):
    pixels = picture(*size)
    path = tmp_path / "photo"
    path.write_bytes(encoded(Image.fromarray(pixels), form, quality=95))
    photo = read_photo(path)
    assert photo.shape == pixels.shape
    assert np.abs(photo.astype(int) - pixels).mean() < 6


def test_path_may_be_text(tmp_path):
    path = tmp_path / "photo.png"
    Image.new("RGB", (2, 3), (1, 2, 3)).save(path)
    np.testing.assert_array_equal(read_photo(str(path)), np.full((3, 2, 3), (1, 2, 3)))


COLOUR = (200, 100, 50)


@pytest.mark.parametrize("mode, form, stored, expected", [
    ("1", "PNG", 1, (255, 255, 255)),
    ("1", "TIFF", 0, (0, 0, 0)),
    ("1", "PPM", 1, (255, 255, 255)),
    ("L", "PNG", 77, (77, 77, 77)),
    ("L", "JPEG", 77, (77, 77, 77)),
    ("L", "PPM", 77, (77, 77, 77)),
    ("RGB", "PNG", COLOUR, COLOUR),
    # Composited on white: value * alpha + 255 * (1 - alpha).
    ("LA", "PNG", (100, 51), (224, 224, 224)),
    ("LA", "PNG", (100, 255), (100, 100, 100)),
    ("RGBA", "PNG", (200, 100, 50, 0), (255, 255, 255)),
    ("RGBA", "PNG", (200, 100, 50, 255), COLOUR),
    ("RGBA", "PNG", (255, 100, 0, 51), (255, 224, 204)),
    ("RGBA", "TIFF", (255, 100, 0, 51), (255, 224, 204)),
    ("CMYK", "TIFF", (0, 255, 255, 0), (255, 0, 0)),
    ("CMYK", "TIFF", (0, 0, 0, 255), (0, 0, 0)),
    ("CMYK", "TIFF", (0, 0, 0, 0), (255, 255, 255)),
    # Scaled by the full range of 16 bits: value / 65535 * 255.
    ("I;16", "PNG", 65535, (255, 255, 255)),
    ("I;16", "PNG", 0, (0, 0, 0)),
    ("I;16", "PNG", 32768, (128, 128, 128)),
    ("I;16", "PNG", 257, (1, 1, 1)),
    ("I;16", "TIFF", 25700, (100, 100, 100)),
    ("I;16B", "TIFF", 25700, (100, 100, 100)),
    ("I", "TIFF", 25700, (100, 100, 100)),
    ("F", "TIFF", 0.2, (51, 51, 51)),
    ("F", "TIFF", 51.0, (51, 51, 51)),
    ("F", "TIFF", 25700.0, (100, 100, 100)),
    ("YCbCr", "JPEG", (150, 128, 128), (150, 150, 150)),
])
def test_modes(tmp_path, mode, form, stored, expected):
    path = tmp_path / "photo"
    path.write_bytes(encoded(Image.new(mode, (9, 7), stored), form))
    photo = read_photo(path)
    assert photo.shape == (7, 9, 3)
    np.testing.assert_allclose(photo.astype(int), np.broadcast_to(expected, photo.shape), atol=1)


def test_lab(tmp_path):
    path = tmp_path / "photo.tif"
    # Pillow holds a* = b* = 0 as 128. L* = 100 is white, L* = 0 black.
    image = Image.new("LAB", (4, 2), (255, 128, 128))
    image.paste((0, 128, 128), (0, 0, 2, 2))
    path.write_bytes(encoded(image, "TIFF"))
    photo = read_photo(path)
    np.testing.assert_allclose(photo[:, :2], 0, atol=2)
    np.testing.assert_allclose(photo[:, 2:], 255, atol=2)


def test_cmyk_jpeg_of_adobe_is_inverted_back(tmp_path):
    # Pillow writes CMYK JPEGs as Adobe does: inverted, with an APP14 marker that says so.
    path = tmp_path / "photo.jpg"
    image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    path.write_bytes(encoded(image, "JPEG", quality=95))
    assert b"Adobe" in path.read_bytes()
    np.testing.assert_allclose(read_photo(path)[8, 8], (255, 0, 0), atol=4)


@pytest.mark.parametrize("form", ["PNG", "GIF", "BMP", "TIFF"])
def test_palette(tmp_path, form):
    image = Image.new("P", (3, 1))
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    image.putdata([2, 0, 1])
    path = tmp_path / "photo"
    path.write_bytes(encoded(image, form))
    np.testing.assert_array_equal(read_photo(path), [[[70, 80, 90], [10, 20, 30], [40, 50, 60]]])


@pytest.mark.parametrize("form, transparency, second", [
    ("PNG", 1, (255, 255, 255)),
    ("GIF", 1, (255, 255, 255)),
    ("PNG", bytes([255, 51]), (212, 214, 216)),
])
def test_transparency_of_a_palette(tmp_path, form, transparency, second):
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putdata([0, 1])
    path = tmp_path / "photo"
    path.write_bytes(encoded(image, form, transparency=transparency))
    np.testing.assert_allclose(read_photo(path)[0].astype(int), [(10, 20, 30), second], atol=1)


@pytest.mark.parametrize("mode, values, transparency", [
    ("L", [5, 9], 9), ("RGB", [(5, 5, 5), (9, 8, 7)], (9, 8, 7)), ("I;16", [1285, 9], 9)])
def test_transparent_colour(tmp_path, mode, values, transparency):
    image = Image.new(mode, (2, 1))
    for x, value in enumerate(values):
        image.putpixel((x, 0), value)
    path = tmp_path / "photo.png"
    data = encoded(image, "PNG")
    channels = transparency if isinstance(transparency, tuple) else (transparency,)
    end_of_header = 8 + 25
    chunk = png_chunk(b"tRNS", b"".join(struct.pack(">H", c) for c in channels))
    path.write_bytes(data[:end_of_header] + chunk + data[end_of_header:])
    np.testing.assert_array_equal(read_photo(path)[0], [(5, 5, 5), (255, 255, 255)])


def test_16_bit_colours(tmp_path):
    row = b"\0" + struct.pack(">6H", 0, 32768, 65535, 65535, 257 * 30, 0)
    path = tmp_path / "photo.png"
    path.write_bytes(png_header(2, 1, bits=16) + png_chunk(b"IDAT", zlib.compress(row))
                     + png_chunk(b"IEND", b""))
    np.testing.assert_allclose(read_photo(path)[0].astype(int), [(0, 128, 255), (255, 30, 0)],
                               atol=1)


def test_white_is_zero_in_16_bits(tmp_path):
    path = tmp_path / "photo.tif"
    path.write_bytes(encoded(Image.new("I;16", (2, 2), 257 * 30), "TIFF",
                             tiffinfo={262: 0}))
    data = path.read_bytes()
    assert Image.open(io.BytesIO(data)).tag_v2[262] == 0
    np.testing.assert_array_equal(read_photo(path), 225)


def test_16_bit_pgm(tmp_path):
    path = tmp_path / "photo.pgm"
    path.write_bytes(b"P5 2 1 65535\n" + struct.pack(">2H", 65535, 25700))
    np.testing.assert_array_equal(read_photo(path)[0, :, 0], [255, 100])


def test_scale_to_8_bits():
    def scaled(values, *args):
        return scale_to_8_bits(np.array([values]), *args)[0].tolist()

    assert scaled([0, 2048, 4095], 4095) == [0, 128, 255]
    assert scaled([0.0, 0.2, 1.0]) == [0, 51, 255]
    assert scaled([0.0, 51.0, 102.0]) == [0, 51, 102]
    assert scaled([0.0, 257.0, 65535.0]) == [0, 1, 255]
    # No usual range holds these: black is the least, white the greatest.
    assert scaled([-100, 0, 155]) == [0, 100, 255]
    assert scaled([0, 100000, 200000]) == [0, 128, 255]
    assert scaled([-1e308, 0.0, 1e308]) == [0, 128, 255]
    assert scaled([-5.0, -5.0]) == [0, 0]
    assert scaled([np.nan, np.inf, -np.inf, 1.0, 0.0]) == [0, 255, 0, 255, 0]
    assert scaled([np.nan, np.nan]) == [0, 0]


def test_bands_of_deep_grey_join(tmp_path):
    values = np.arange(600 * 7, dtype=np.uint16).reshape(600, 7) * 15
    path = tmp_path / "photo.png"
    Image.fromarray(values).save(path)
    np.testing.assert_array_equal(read_photo(path)[:, :, 1], np.rint(values / 257))


# Where the four corner pixels of the stored image belong, by the EXIF standard: which visual
# side row 0 and column 0 of the stored image are.
STORED = np.array([[1, 2, 3], [4, 5, 6]], np.uint8) * 40
UPRIGHT = {
    1: [[1, 2, 3], [4, 5, 6]],          # row 0 is the top, column 0 the left
    2: [[3, 2, 1], [6, 5, 4]],          # top, right
    3: [[6, 5, 4], [3, 2, 1]],          # bottom, right
    4: [[4, 5, 6], [1, 2, 3]],          # bottom, left
    5: [[1, 4], [2, 5], [3, 6]],        # left, top
    6: [[4, 1], [5, 2], [6, 3]],        # right, top
    7: [[6, 3], [5, 2], [4, 1]],        # right, bottom
    8: [[3, 6], [2, 5], [1, 4]],        # left, bottom
}


@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP", "JPEG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path, form, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    side = 16                                           # whole JPEG blocks
    stored = STORED.repeat(side, 0).repeat(side, 1)
    path = tmp_path / "photo"
    options = {"lossless": True} if form == "WEBP" else {}
    path.write_bytes(encoded(Image.fromarray(stored).convert("RGB"), form, exif=exif, **options))
    expected = (np.array(UPRIGHT[orientation]) * 40).repeat(side, 0).repeat(side, 1)
    photo = read_photo(path)
    assert photo.flags.c_contiguous
    assert photo.shape == (*expected.shape, 3)
    np.testing.assert_allclose(photo[:, :, 0].astype(int), expected, atol=3)


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_unknown_orientation_means_nothing(tmp_path, value):
    exif = Image.Exif()
    exif[0x0112] = value
    path = tmp_path / "photo.png"
    path.write_bytes(encoded(Image.fromarray(STORED), "PNG", exif=exif))
    np.testing.assert_array_equal(read_photo(path)[:, :, 0], STORED)


def test_damaged_exif_leaves_the_pixels(tmp_path):
    path = tmp_path / "photo.png"
    path.write_bytes(encoded(Image.fromarray(STORED), "PNG", exif=b"Exif\0\0MM\0*\xff\xff\xff"))
    np.testing.assert_array_equal(read_photo(path)[:, :, 0], STORED)


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP", "TIFF"])
def test_first_of_several_frames_with_a_warning(tmp_path, form, caplog):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue", "lime")]
    path = tmp_path / "photo"
    options = {"lossless": True} if form == "WEBP" else {}
    path.write_bytes(encoded(frames[0], form, save_all=True, append_images=frames[1:], **options))
    np.testing.assert_array_equal(read_photo(path), np.full((4, 4, 3), (255, 0, 0)))
    assert [record.getMessage() for record in caplog.records] == [
        f"{path}: holds several frames or pages; the first is used"]


def test_one_frame_warns_of_nothing(tmp_path, caplog):
    for form in WRITTEN:
        path = tmp_path / form
        path.write_bytes(encoded(Image.new("RGB", (4, 4)), form))
        read_photo(path)
    assert not caplog.records


def test_threads_read_at_once(tmp_path):
    pixels = {}
    for number in range(4):
        pixels[tmp_path / f"{number}.png"] = picture(40, 50, number)
    for path, values in pixels.items():
        Image.fromarray(values).save(path)
    wrong = []

    def read_all():
        for _ in range(10):
            wrong.extend(path for path, values in pixels.items()
                         if not np.array_equal(read_photo(path), values))

    threads = [threading.Thread(target=read_all) for _ in range(4)]
    filters = list(warnings.filters)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert warnings.filters == filters


# --- what is refused ------------------------------------------------------------------------

def test_missing_file(tmp_path):
    assert error_of(tmp_path / "none.jpg") == "No such file or directory"


def test_folder(tmp_path):
    assert error_of(tmp_path) == "is a folder, not an image"


def test_empty_file(tmp_path):
    path = tmp_path / "empty.jpg"
    path.touch()
    assert error_of(path) == "the file is empty"


def test_name_with_a_nul():
    assert "null byte" in error_of("a\0b.jpg")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_pipe_is_refused_without_waiting(tmp_path):
    path = tmp_path / "pipe.jpg"
    os.mkfifo(path)
    assert error_of(path) == "is not a regular file"


def test_unreadable_file(tmp_path, monkeypatch):
    path = tmp_path / "photo.png"
    Image.new("RGB", (2, 2)).save(path)

    def deny(*args, **kwargs):          # root, as whom tests may run, is denied nothing
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("builtins.open", deny)
    assert error_of(path) == "Permission denied"


@pytest.mark.parametrize("content", [
    b"plain text\n", b"<html><body>404</body></html>", b"\0" * 1000, b"x", b"\x89PNG\r\n\x1a\n",
    b"\xff\xd8\xff", b"GIF89a", b"BM", b"II*\0", b"RIFF\0\0\0\0WEBPVP8 ", b"P6", b"%PDF-1.7\n"])
def test_not_an_image(tmp_path, content):
    path = tmp_path / "photo.jpg"
    path.write_bytes(content)
    message = error_of(path)
    assert "is not a readable PNG, JPEG, BMP, GIF, TIFF, WebP or PPM image" in message \
        or message.startswith("damaged or truncated image: ")


@pytest.mark.parametrize("form", ["ICO", "PCX", "TGA", "SGI", "EPS"])
def test_other_formats_are_not_tried(tmp_path, form):
    path = tmp_path / "photo.png"
    path.write_bytes(encoded(Image.new("RGB", (16, 16), "red"), form))
    assert error_of(path) == "is not a readable PNG, JPEG, BMP, GIF, TIFF, WebP or PPM image"


def test_name_of_several_lines_makes_one(tmp_path):
    path = tmp_path / "a\nb\x1b[31m.jpg"
    path.write_bytes(b"text")
    assert "a\\nb\\x1b[31m.jpg: " in str(pytest.raises(ImageError, read_photo, path).value)


def test_bytes_in_a_name_that_are_no_text():
    assert images.printable(b"caf\xe9.jpg") == "caf\\udce9.jpg"
    assert images.printable("Zürich 雪.jpg") == "Zürich 雪.jpg"


def test_too_many_bytes(tmp_path, monkeypatch):
    path = tmp_path / "photo.png"
    Image.new("RGB", (20, 20)).save(path)
    monkeypatch.setattr(images, "MAX_BYTES", 50)
    assert error_of(path).endswith("at most 50 are read")


def declared(form, w, h):
    """A small file that declares a size, as bytes."""
    if form == "PNG":
        return png_header(w, h) + png_chunk(b"IDAT", zlib.compress(bytes(1000)))
    if form == "PPM":
        return b"P6 %d %d 255\n" % (w, h) + bytes(100)
    if form == "GIF":
        data = bytearray(encoded(Image.new("P", (1, 1)), "GIF"))
        data[6:10] = struct.pack("<2H", w, h)
        return bytes(data)
    if form == "BMP":
        data = bytearray(encoded(Image.new("RGB", (1, 1)), "BMP"))
        data[18:26] = struct.pack("<2i", w, h)
        return bytes(data)
    if form == "JPEG":
        data = bytearray(encoded(Image.new("RGB", (8, 8)), "JPEG"))
        frame = data.index(b"\xff\xc0")
        data[frame + 5:frame + 9] = struct.pack(">2H", h, w)
        return bytes(data)
    if form == "TIFF":
        return encoded(Image.new("L", (8, 8)), "TIFF", tiffinfo={}).replace(
            struct.pack("<HHIHH", 256, 4, 1, 8, 0), struct.pack("<HHIHH", 256, 4, 1, w, 0)).replace(
            struct.pack("<HHIHH", 257, 4, 1, 8, 0), struct.pack("<HHIHH", 257, 4, 1, h, 0))
    raise AssertionError(form)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "BMP", "GIF", "TIFF", "PPM"])
@pytest.mark.parametrize("size, stated", [((30000, 30000), "900,000,000"),
                                          ((10000, 10001), "10,000 x 10,001")])
def test_bombs_are_refused_before_anything_is_decoded(tmp_path, form, size, stated, monkeypatch):
    path = tmp_path / "bomb"
    path.write_bytes(declared(form, *size))
    assert path.stat().st_size < 3000

    def decode(self, *args):
        raise AssertionError("decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", decode)
    with warnings.catch_warnings():
        warnings.simplefilter("error")          # Pillow's own warning must not leak
        message = error_of(path)
    assert message == f"declares {stated} pixels; at most 100,000,000 are read"


def test_limit_holds_whatever_pillow_is_set_to(tmp_path, monkeypatch):
    path = tmp_path / "bomb.png"
    path.write_bytes(declared("PNG", 30000, 30000))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert error_of(path) == "declares 30,000 x 30,000 pixels; at most 100,000,000 are read"


@pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")
def test_bombs_of_all_kinds_within_little_memory(tmp_path):
    for form in ("PNG", "JPEG", "BMP", "GIF", "TIFF", "PPM"):
        (tmp_path / form).write_bytes(declared(form, 30000, 30000))
    exif = Image.Exif()
    exif[0x0112] = 6
    webp = bytearray(encoded(Image.new("RGBA", (8, 8)), "WEBP", lossless=True, exif=exif))
    assert webp[12:16] == b"VP8X"
    webp[24:30] = (16382).to_bytes(3, "little") * 2
    (tmp_path / "WEBP").write_bytes(webp)
    # Text that unpacks to 60 MB, and a chunk that declares 2 GB.
    text = png_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(60_000_000)))
    whole = encoded(Image.new("RGB", (8, 8)), "PNG")
    (tmp_path / "TEXT").write_bytes(whole[:33] + text + whole[33:])
    (tmp_path / "CHUNK").write_bytes(whole[:33] + struct.pack(">I", 2**31 - 1) + b"tEXtabc")
    # A growth of the peak by 100 MB fails; what the imports need does not count.
    program = (
        "import os, resource, sys\n"
        "from tinyfcn.data.images import ImageError, read_photo\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024\n"
        "before = peak()\n"
        "for path in sys.argv[1:]:\n"
        "    try:\n"
        "        read_photo(path)\n"
        "    except ImageError as error:\n"
        "        print('refused', os.path.basename(path))\n"
        "print(peak() - before)\n")
    files = sorted(str(path) for path in tmp_path.iterdir())
    done = subprocess.run([sys.executable, "-c", program, *files], capture_output=True, text=True,
                          timeout=60, check=True)
    *refused, growth = done.stdout.split("\n")[:-1]
    assert refused == [f"refused {os.path.basename(path)}" for path in files]
    assert int(growth) < 100
    assert done.stderr == ""


SAMPLES = {
    "PNG": {}, "JPEG": {"quality": 90}, "GIF": {}, "TIFF": {"compression": "tiff_lzw"},
    "WEBP": {"quality": 80}, "BMP": {}, "PPM": {},
}


@pytest.mark.parametrize("form", SAMPLES)
def test_truncated(tmp_path, form):
    data = encoded(Image.fromarray(picture(45, 61)), form, **SAMPLES[form])
    path = tmp_path / "photo"
    path.write_bytes(data)
    whole = read_photo(path)
    refused = 0
    for cut in np.linspace(1, len(data) - 1, 24).astype(int):
        path.write_bytes(data[:cut])
        try:
            photo = read_photo(path)
        except ImageError as error:
            refused += 1
            assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
        else:
            # Only what comes after the last pixel may be missing, never a part of the picture.
            assert cut > 0.9 * len(data)
            np.testing.assert_array_equal(photo, whole)
    assert refused >= 20


@pytest.mark.parametrize("form", SAMPLES)
@pytest.mark.filterwarnings("ignore")           # of Pillow's, about the damage
def test_mutated(tmp_path, form):
    data = encoded(Image.fromarray(picture(23, 29)), form, **SAMPLES[form])
    rng = np.random.default_rng(zlib.crc32(form.encode()))
    path = tmp_path / "photo"
    refused = 0
    for _ in range(150):
        mutated = bytearray(data)
        for _ in range(rng.integers(1, 8)):
            # Headers decide most: half of the mutations hit the first bytes.
            reach = len(data) if rng.random() < 0.5 else min(len(data), 80)
            mutated[rng.integers(reach)] = rng.integers(256)
        path.write_bytes(mutated)
        try:
            photo = read_photo(path)
        except ImageError as error:
            refused += 1
            assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
        else:
            assert photo.dtype == np.uint8 and photo.ndim == 3 and photo.shape[2] == 3
            assert photo.size
    assert refused > 10


def test_out_of_memory(tmp_path, monkeypatch):
    path = tmp_path / "photo.png"
    Image.new("RGB", (2, 2)).save(path)

    def load(self):
        raise MemoryError

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", load)
    assert error_of(path) == "not enough memory to decode it"


def test_pillow_is_left_as_it_was(tmp_path):
    before = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters))
    path = tmp_path / "photo"
    for content in (b"text", encoded(Image.new("RGB", (4, 4)), "PNG"),
                    declared("PNG", 30000, 30000)):
        path.write_bytes(content)
        try:
            read_photo(path)
        except ImageError:
            pass
    after = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters))
    assert after == before
