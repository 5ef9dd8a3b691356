"""Draw docs/digits.png: a classifier of single digits, slid over a canvas of five.

    python examples/digit_map.py lenet_iter_10000.caffemodel MNIST_FOLDER docs/digits.png

The model is Caffe's LeNet (examples/mnist), the folder holds the files t10k-images-idx3-ubyte.gz
and t10k-labels-idx1-ubyte.gz.
"""
import gzip
import os
import sys

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import tinyfcn
from tinyfcn.classification import Classifier
from tinyfcn.drawing import heat_colours

# The digits, and where on the canvas their images of 28 x 28 pixels lie.
PLACES = {7: (8, 8), 2: (12, 72), 1: (44, 40), 4: (76, 12), 3: (72, 76)}
SIDE, SCALE, GAP = 112, 2, 12


def read(folder, name, header):
    with gzip.open(os.path.join(folder, name)) as file:
        return np.frombuffer(file.read(), np.uint8, offset=header)


def canvas_of_digits(folder, seed=5):
    images = read(folder, "t10k-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28)
    labels = read(folder, "t10k-labels-idx1-ubyte.gz", 8)
    rng = np.random.default_rng(seed)
    canvas = np.zeros((SIDE, SIDE, 3), np.uint8)
    for digit, (y, x) in PLACES.items():
        canvas[y:y + 28, x:x + 28] = images[rng.choice(np.flatnonzero(labels == digit))][..., None]
    return canvas


def tinted(canvas, heat):
    return np.uint8(0.35 * canvas + 0.65 * heat_colours(heat))


def main(weights, folder, target):
    net = tinyfcn.load_model(weights)
    canvas = canvas_of_digits(folder)
    classifier = Classifier(net)
    # The scores themselves: 22 x 22 places, each a window of 28 x 28 pixels, 4 pixels apart.
    x = canvas[None, :, :, :1] * np.float32(net.preprocessing["scale"])
    scores = tinyfcn.convolutionalize(net).forward(x)[0]
    columns = [("the canvas", [canvas, None])]
    for digit in PLACES:
        places = np.clip(scores[:, :, digit] / scores[:, :, digit].max(), 0, 1)
        score_map = np.zeros((SIDE, SIDE))
        score_map[12:-12, 12:-12] = places.repeat(4, axis=0).repeat(4, axis=1)
        columns.append((f"{digit}", [
            tinted(canvas, classifier.heat_map(canvas, digit)), tinted(canvas, score_map)]))

    size, font = SIDE * SCALE, ImageFont.load_default(16)
    picture = Image.new(
        "RGB", (len(columns) * (size + GAP) + GAP, 2 * (size + GAP) + 3 * GAP), "white")
    draw = ImageDraw.Draw(picture)
    for column, (title, cells) in enumerate(columns):
        left = GAP + column * (size + GAP)
        draw.text((left, GAP // 2), title, fill=(32, 32, 32), font=font)
        for row, cell in enumerate(cells):
            top = 3 * GAP + row * (size + GAP)
            if cell is not None:
                picture.paste(Image.fromarray(cell).resize((size, size), 0), (left, top))
    for line, text in enumerate((
            "above: how probable each", "digit is, at every pixel", "", "below: its score, from 0",
            "to the highest there is")):
        draw.text((GAP, 3 * GAP + size + GAP + 24 * line), text, fill=(32, 32, 32), font=font)
    picture.save(target, optimize=True)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
