"""From a classifier to a segmenter: the road of the paper, on one data set alone.

    python examples/classifier_to_fcn.py CAMVID OUT
    python examples/classifier_to_fcn.py CAMVID OUT --quick        # minutes; teaches nets little

Nets of the paper begin as classifiers of ImageNet's photos. Without these, street scenes must do:
a narrow VGG-16 learns what most of a crop of a photo shows; its dense layers become convolutions;
from these weights FCN-8s is fine-tuned. The same FCN-8s is trained from scratch, with the same
recipe for as long, and what both score on val is printed, epoch by epoch.

CAMVID is a folder as `python -m tinyfcn.train --data` takes it. All that is trained lies in OUT, in
the folders classifier, fine_tuned and from_scratch; called again, the script goes on where it was
stopped.
"""
import argparse
import csv
import os
import sys

import numpy as np

from tinyfcn import models, recipes, runs, train, training
from tinyfcn.data import layouts
from tinyfcn.data.loader import PairReader
from tinyfcn.data.transforms import preprocess

SIDE = 224      # of a classifier's crop: five poolings leave 7 x 7, the kernel of fc6
STEP = 112      # between the crops of a val photo

# What a run for real and a quick one are made with.
REAL = {"width": 0.25, "fc_channels": 384, "classifier_epochs": 60, "epochs": 60, "batch": 4,
        "crop": (288, 384), "rate": 0.001, "classifier_rate": 0.001}
QUICK = {"width": 1 / 32, "fc_channels": 6, "classifier_epochs": 2, "epochs": 2, "batch": 2,
         "crop": (64, 64), "rate": 0.001, "classifier_rate": 0.001}


class MajorityOfCrop:
    """The task of the classifier: the class of most of a crop's labelled pixels.

    It takes the place of `tinyfcn.tasks.Segmentation` in `tinyfcn.training.train`, which sees
    random views of the photos; val photos are seen in crops at fixed places.
    """

    measure = "val_accuracy"

    def __init__(self, val_photos, classes, ignore_label):
        self.val_photos, self.classes, self.ignore_label = val_photos, classes, ignore_label

    def targets(self, labels):
        """Label maps (n, h, w) -> classes (n,); the ignored label where no pixel has another."""
        found = [self.majority(each) for each in labels]
        return np.array(found, np.uint8)

    def majority(self, labels):
        counts = np.bincount(labels[labels != self.ignore_label], minlength=1)
        return counts.argmax() if counts.any() else self.ignore_label

    def score(self, net, progress=None):
        """The share of the val photos' crops that the net names rightly."""
        right = count = 0
        for done, (photo, labels) in enumerate(self.val_photos, 1):
            crops = list(crops_of(photo, labels))
            truth = self.targets([marks for _, marks in crops])
            x = np.stack([preprocess(crop, net.preprocessing) for crop, _ in crops])
            named = net.forward(x).argmax(axis=1)
            right += int((named == truth)[truth != self.ignore_label].sum())
            count += int((truth != self.ignore_label).sum())
            if progress:
                progress(done)
        return ({self.measure: round(right / count, 5)} if count else {}), None


def crops_of(photo, labels):
    """Crops at fixed places, overlapping by half; a smaller photo is one crop, filled up."""
    h, w = labels.shape
    photo = np.pad(photo, ((0, max(0, SIDE - h)), (0, max(0, SIDE - w)), (0, 0)), "edge")
    labels = np.pad(labels, ((0, max(0, SIDE - h)), (0, max(0, SIDE - w))), "edge")
    for top in range(0, labels.shape[0] - SIDE + 1, STEP):
        for left in range(0, labels.shape[1] - SIDE + 1, STEP):
            place = np.s_[top:top + SIDE, left:left + SIDE]
            yield photo[place], labels[place]


def train_classifier(root, folder, settings):
    """Train VGG-16 on crops; returns the file of the one that does best on val."""
    data = layouts.find(root)
    classes, ignore_label = data.classes.names, data.classes.ignore_label
    photos, val_photos = (PairReader(data.pairs(split), len(classes), ignore_label)
                          for split in ("train", "val"))
    net = models.VGG16(
        classes=len(classes), width=settings["width"], fc_channels=settings["fc_channels"],
        batch_norm=True, dropout=0.3, input_size=SIDE, seed=1)
    net.preprocessing, net.class_names = dict(train.PREPROCESSING), list(classes)
    recipe = recipes.Recipe(
        epochs=settings["classifier_epochs"], batch=settings["batch"], crop=(SIDE, SIDE),
        optimizer="adamw", rate=settings["classifier_rate"], decay=0.02, warm_up=50)
    task = MajorityOfCrop(val_photos, len(classes), ignore_label)

    def report(row):
        accuracy = row.get(task.measure, float("nan"))
        print(f"classifier  epoch {row['epoch']}/{recipe.epochs}  loss {row['loss']:.4g}  "
              f"val accuracy {100 * accuracy:.2f} %  {row['images_per_second']:.1f} images/s",
              flush=True)

    os.makedirs(folder, exist_ok=True)
    with runs.locked(folder):
        training.train(net, photos, task, ignore_label, recipe, folder, report=report)
    return os.path.join(folder, runs.BEST)


def train_fcn(root, folder, settings, *more):
    """Train FCN-8s by the command, as anybody would; returns its rows of the log."""
    if runs.has_run(folder):
        arguments = ["--resume", folder]
    else:
        h, w = settings["crop"]
        arguments = [
            "--data", root, "-o", folder, "--model", "fcn8s", "--width", settings["width"],
            "--fc-channels", settings["fc_channels"], "--batch-norm", "--balance",
            "--epochs", settings["epochs"], "--batch", settings["batch"], "--crop", h, w,
            "--optimizer", "adamw", "--rate", settings["rate"], "--decay", 0.02, *more,
        ]
    print("python -m tinyfcn.train", *arguments, flush=True)
    code = train.main([str(each) for each in arguments])
    if code:
        sys.exit(code)
    return read_log(folder)


def read_log(folder):
    with open(os.path.join(folder, runs.LOG), newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", metavar="CAMVID")
    parser.add_argument("output", metavar="OUT")
    parser.add_argument("--quick", action="store_true", help="tiny nets, two epochs of each")
    for name, value in REAL.items():
        if name != "crop":
            parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), metavar="X",
                                help=f"default: {value}")
    options = vars(parser.parse_args(argv))
    settings = dict(QUICK if options["quick"] else REAL)
    settings.update((name, options[name]) for name in settings if options.get(name) is not None)

    folders = {name: os.path.join(options["output"], name)
               for name in ("classifier", "fine_tuned", "from_scratch")}
    classifier = train_classifier(options["data"], folders["classifier"], settings)
    tuned = train_fcn(options["data"], folders["fine_tuned"], settings, "--init", classifier)
    scratch = train_fcn(options["data"], folders["from_scratch"], settings)

    print("\nmean IU on val by epoch\nepoch  fine-tuned  from scratch")
    for row, other in zip(tuned, scratch):
        print(f"{row['epoch']:>5}  {row['val_mean_iu']:>10}  {other['val_mean_iu']:>12}")
    best = [max(float(row["val_mean_iu"] or 0) for row in rows) for rows in (tuned, scratch)]
    print(f" best  {best[0]:>10}  {best[1]:>12}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("interrupted; called again, it goes on")
