"""Train a net on a data set: `python -m tinyfcn.train --data DIR -o RUN`

Into the folder RUN it writes, after each epoch, a checkpoint, the log, and the last and the best
net so far; `--resume RUN` goes on from there. Exit codes: 0 fine, 1 the training failed, 2 usage,
3 weights, 130 interrupted.
"""

# What takes long to import is imported by the functions that need it, so that --help answers at
# once and an interrupt at any time is answered by one line.
import functools
import os
import shlex
import sys
import tempfile
import time

from . import console, training_options

PROGRAM = "tinyfcn-train"

# The mean and spread of ImageNet's photos, as is usual; any photos are like them.
PREPROCESSING = {
    "channel_order": "RGB",
    "scale": 1 / 255,
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
}


def main(argv=None):
    """Run the command with these arguments (sys.argv's by default) and return its exit code."""
    return console.run(PROGRAM, functools.partial(training_options.parse, PROGRAM), _run, argv)


def _run(options):
    if options.check:
        from . import checking

        return checking.run(PROGRAM, options.data)
    folder = options.resume or options.output
    try:
        _train(options, folder)
    except MemoryError as error:
        message = f"{console.memory_shortage(error)}: try a smaller --batch or --crop"
        raise console.CommandError(message, console.FAILED) from None
    except KeyboardInterrupt:
        begun = os.path.exists(os.path.join(folder, "config.json"))
        again = f"; to go on: {PROGRAM} --resume {shlex.quote(folder)}" if begun else ""
        raise console.CommandError(f"interrupted{again}", console.INTERRUPTED) from None
    return console.DONE


def _train(options, folder):
    from . import checking, runs, stages
    from .data.errors import DataError
    from .data.images import ImageError
    from .data.loader import PairReader
    from .weights import WeightsError

    device = console.use_device(options)
    config = _config(options)
    planned = stages.runs_of(config, folder)
    classes, train_pairs, val_pairs = _find_data(config["data"], planned)
    # What is wrong with a net is found before a folder is made.
    nets = [_build_net(*run, classes) for run in planned[:1]]
    _check_recipe(config, planned, classes, val_pairs)
    labels = len(classes.names), classes.ignore_label
    try:
        photos = PairReader(train_pairs, *labels)
        # A bad one of val shall not end the run after its first epoch.
        val = PairReader(val_pairs, *labels, keep_bytes=0)
        checking.refuse_faults(PROGRAM, {"train": photos, "val": val})
        _check_writable(folder)
        with runs.locked(folder):
            if options.resume is None:
                runs.write_config(folder, _stored(config))
            for number, (each, inner) in enumerate(planned):
                net = nets.pop() if nets else _build_net(each, inner, classes)
                if config["stages"]:
                    each = {**each, "recipe": _fitting(each["recipe"], net)}
                stage = f"{each['model']} " if config["stages"] else ""
                if inner == folder:
                    _train_one(net, each, inner, stage, photos, val_pairs, options, device)
                    continue
                _check_writable(inner)
                with runs.locked(inner):
                    if not runs.has_run(inner):
                        runs.write_config(inner, _stored(each))
                    _train_one(net, each, inner, stage, photos, val_pairs, options, device)
    except WeightsError as error:
        raise console.CommandError(error, console.WEIGHTS) from None
    except (DataError, ImageError, runs.TrainingError) as error:
        raise console.CommandError(error, console.FAILED) from None


def _train_one(net, config, folder, stage, photos, val_pairs, options, device):
    from . import runs, tasks, training
    from .data.images import printable

    size = sum(array.size for array in net.params.values())
    console.say(
        f"{PROGRAM}: {net.name}, {size / 1e6:.2f} M parameters; {len(photos)} photos to train on, "
        f"{len(val_pairs)} to validate"
    )
    task = tasks.Segmentation(val_pairs, net.ignore_label)
    with console.status() as status:
        reporter = _Reporter(stage, status, len(val_pairs))
        rows = training.train(
            net, photos, task, net.ignore_label, config["recipe"], folder, device=device,
            workers=options.workers, save_minutes=options.save_every, report=reporter.report,
            show=reporter.show, say=lambda line: console.say(f"{PROGRAM}: {line}"),
        )
    best = printable(os.path.join(folder, runs.BEST))
    console.say(f"{PROGRAM}: {stage}done, {len(rows)} epochs: {best}")


class _Reporter:
    """Shows how far a training is: a line an epoch on stdout, and a bar on a terminal."""

    def __init__(self, stage, status, val_photos):
        self.stage, self.status, self.val_photos = stage, status, val_photos
        self.shown, self.progress = 0.0, None

    def show(self, progress):
        self.progress = progress
        if time.monotonic() - self.shown < 0.1:
            return
        self.shown = time.monotonic()
        head = f"{self.stage}epoch {progress.epoch}/{progress.epochs}"
        if progress.scoring:
            self.status(f"{head}  {console.bar(progress.scoring, self.val_photos, 10)} scoring "
                        f"{progress.scoring}/{self.val_photos}")
            return
        self.status(
            f"{head}  {console.bar(progress.step, progress.steps, 10)} {progress.step}/"
            f"{progress.steps}  loss {progress.loss:.4g}  {progress.images_per_second:.1f} images/s"
            f"  {console.duration(progress.seconds_left or 0)} left"
        )

    def report(self, row):
        epochs, left = row["epoch"], ""
        if self.progress is not None:
            epochs = self.progress.epochs
            left = f"  {console.duration(self.progress.seconds_left or 0)} left"
        score = row.get("val_mean_iu")
        score = f"  val mean IU {100 * score:.2f} %" if score is not None else ""
        self.status("")
        console.print_result(
            PROGRAM,
            f"{self.stage}epoch {row['epoch']}/{epochs}  loss {row['loss']:.5g}{score}  rate "
            f"{row['rate']:.4g}  {row['images_per_second']:.1f} images/s  waited "
            f"{row['seconds_waited_for_data']:.1f} s for data{left}",
        )


def _config(options):
    """All that decides how the run goes: what the options say, or what `config.json` holds."""
    from . import runs
    from .data.images import printable

    if options.resume is not None:
        try:
            return runs.read_config(options.resume)
        except runs.TrainingError as error:
            raise console.CommandError(error, console.USAGE) from None
    if runs.has_run(options.output):
        raise console.CommandError(
            f"{printable(options.output)}: there is a run already; --resume goes on with it",
            console.USAGE,
        )
    config = training_options.config(options)
    if options.init is not None:
        config["net"].update(_as_begun(config["init"], options.open))
    return config


def _as_begun(path, names):
    """Those of the net's arguments by these names that show in the weights it begins with."""
    from . import loading
    from .weights import WeightsError

    try:
        found = loading.arguments_of(path)
    except WeightsError as error:
        raise console.CommandError(error, console.WEIGHTS) from None
    return {name: found[name] for name in names if name in found}


def _stored(config):
    """A config as it is kept in a file."""
    recipe = config["recipe"]
    return {**config, "recipe": {name: getattr(recipe, name) for name in training_options.RECIPE}}


def _find_data(root, planned):
    """The classes, and the pairs to train on and to validate."""
    from . import recipes
    from .data import layouts

    try:
        data = layouts.find(root)
        train_pairs = data.pairs("train")
        val_pairs = data.pairs("val") if "val" in data.splits() else []
        for config, _ in planned:
            recipes.plan(len(train_pairs), config["recipe"])
    except ValueError as error:  # a DataError, or too few photos
        raise console.CommandError(error, console.USAGE) from None
    return data.classes, train_pairs, val_pairs


def _build_net(config, folder, classes):
    """The net as the run begins, or began; a checkpoint's weights come later."""
    from . import loading, models
    from .data.images import printable
    from .runs import CHECKPOINT, CONFIG
    from .weights import WeightsError

    try:
        if config["model"] not in console.MODELS:
            raise ValueError(f"no such net: {config['model']}")
        net = models.BY_NAME[config["model"]](
            classes=len(classes.names),
            # Score layers that other weights leave alone start at zero, as the authors' do.
            init="classifier" if config["init"] else "scratch",
            seed=config["recipe"].seed,
            **config["net"],
        )
    except (TypeError, ValueError, OverflowError) as error:
        reason = printable(str(error))
        where = printable(os.path.join(folder, CONFIG))
        message = f"{where}: no net can be built from it ({reason})"
        raise console.CommandError(message, console.USAGE) from None
    net.preprocessing = dict(PREPROCESSING)
    if config["init"] and not os.path.exists(os.path.join(folder, CHECKPOINT)):
        try:
            # The weights expect what they were trained on, so its preprocessing holds too.
            loading.load_weights(net, config["init"], start=True)
        except WeightsError as error:
            raise console.CommandError(error, console.WEIGHTS) from None
    net.class_names, net.colours = classes.names, classes.colours
    net.ignore_label = classes.ignore_label
    return net


def _check_recipe(config, planned, classes, val_pairs):
    """Refuse what the recipe asks of nets or of data that do not have it."""
    from . import models

    recipe = config["recipe"]
    weights = recipe.class_weights
    tiny = {"width": 1 / 64, "fc_channels": 1, "init": None}
    nets = [models.BY_NAME[each["model"]](**{**each["net"], **tiny}) for each, _ in planned]
    for pattern in (*recipe.freeze, *recipe.layer_rates):
        if not any(_has(net, pattern) for net in nets):
            raise console.CommandError(f"{nets[-1].name} has no layer {pattern}", console.USAGE)
    if isinstance(weights, (list, tuple)) and len(weights) != len(classes.names):
        message = f"{len(weights)} class weights for {len(classes.names)} classes"
        raise console.CommandError(message, console.USAGE)
    if recipe.early_stop and not val_pairs:
        raise console.CommandError("--early-stop needs a val split", console.USAGE)


def _has(net, pattern):
    try:
        return bool(net.matching(pattern))
    except ValueError:
        return False


def _fitting(recipe, net):
    """The recipe without the layers that this stage's net does not have yet."""
    import dataclasses

    rates = {pattern: x for pattern, x in recipe.layer_rates.items() if _has(net, pattern)}
    freeze = [pattern for pattern in recipe.freeze if _has(net, pattern)]
    return dataclasses.replace(recipe, layer_rates=rates, freeze=freeze)


def _check_writable(folder):
    from .data.images import printable

    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise console.CommandError(
            f"{printable(folder)}: cannot write to this folder: {error.strerror}", console.USAGE
        ) from None


if __name__ == "__main__":
    sys.exit(main())
