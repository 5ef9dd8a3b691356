"""The options of the train command, and what they ask for."""

# Nothing here takes long to import: --help answers at once.
import argparse
import dataclasses
import os

from . import console
from .recipes import LOSSES, OPTIMIZERS, PRESETS, Recipe
from .schedules import SCHEDULES

# What a new run is, besides its recipe, where nothing else is asked for; of the net by the names of
# its arguments.
RECIPE = dataclasses.asdict(Recipe())
NET = {
    "width": 0.25,
    "fc_channels": 384,
    "batch_norm": False,
    "upsampling": "fixed",
    "dropout": 0.3,
    "geometry": "same",
}
OTHERS = {
    "data": None,
    "output": None,
    "check": False,
    "model": "fcn8s",
    "init": None,
    "recipe": None,
    "staged": False,
    "at_once": False,
    "stage_rates": None,
    "stage_epochs": None,
    "whole_photos": False,
}
# These change nothing about what comes out: a run may go on with others.
ALWAYS = {"resume": None, "device": "auto", "precision": "float32", "workers": 1,
          "save_every": 10.0}


def parse(program, argv):
    """Parse the command's arguments.

    Returns
    -------
    argparse.Namespace
        With all names of `RECIPE`, `NET`, `OTHERS` and `ALWAYS`, and in `open` those of `NET`
        that were left open, which the weights that the net begins with may settle.
    """
    parser = console.OneLineParser(
        prog=program,
        allow_abbrev=False,
        description="Train an FCN on photos with label maps: DIR/images/train/NAME.jpg, "
        "DIR/labels/train/NAME.png (8-bit, a class index per pixel), the same for the split val, "
        'and DIR/classes.json ({"names": [...], "colours": [[r, g, b], ...], "ignore": 255}); or '
        "on a folder of PASCAL VOC's layout or of labelme's JSON files. "
        "After each epoch a line goes to stdout, and RUN holds last.h5 and best.h5 (by mean IU on "
        "val), log.csv, curve.png, a picture of samples and checkpoint.h5, from which --resume "
        "goes on bit for bit. Ctrl-C saves a checkpoint too.",
        epilog="Exit codes: 0 fine, 1 the training failed, 2 usage, 3 weights, 130 interrupted.",
    )
    parser.add_argument("--resume", metavar="RUN", help="go on with the run in this folder")
    console.add_device_options(parser)
    parser.add_argument("--workers", type=console.number(int, 1, 64), default=ALWAYS["workers"],
                        metavar="N", help="threads that prepare photos (default: 1)")
    parser.add_argument("--save-every", type=console.number(float, 0, 1e6),
                        default=ALWAYS["save_every"], metavar="MINUTES",
                        help="write a checkpoint within an epoch so often, too (default: 10)")
    new = parser.add_argument_group("a new run")
    _add_run_options(new)
    _add_net_options(parser.add_argument_group("its net", "Those that are left out are as in the "
                                               "weights of --init, as far as these show it."))
    _add_recipe_options(parser.add_argument_group("its recipe"))

    given = vars(parser.parse_args(argv))
    names = [name for name in given if name not in ALWAYS]
    if given["resume"] is not None and names:
        option = names[0].replace("layer_rates", "layer_rate").replace("_", "-")
        parser.error(f"--{option} belongs to a new run; --resume goes on as the run was started")
    if "check" in given and "data" not in given:
        parser.error("--check needs --data")
    if given["resume"] is None and not {"data", "output"} <= set(names) and "check" not in given:
        parser.error("a new run needs --data and --output, an old one --resume")
    chosen = {**_preset(given), **given}
    options = argparse.Namespace(**{**RECIPE, **NET, **OTHERS, **chosen})
    options.open = [name for name in NET if name not in chosen]
    _check(parser, given, options)
    return options


def _preset(given):
    """The settings of the recipe that is named, but for those that the user overrides."""
    preset = dict(PRESETS.get(given.get("recipe"), {}))
    if {"epochs", "stage_epochs"} & set(given):
        preset.pop("iterations", None)
    if "rate" in given:
        preset.pop("stage_rates", None)
    if given.get("at_once") or given.get("model", preset.get("model")) != preset.get("model"):
        preset.pop("staged", None)
    if "crop" in given:
        preset.pop("crop", None)
    return preset


def _check(parser, given, options):
    """Let the parser refuse what does not go together, and settle what follows from the rest."""
    def both(one, other):
        if getattr(options, one) and getattr(options, other):
            parser.error(f"--{one.replace('_', '-')} and --{other.replace('_', '-')} exclude "
                         "each other")

    both("staged", "at_once")
    both("balance", "class_weights")
    if options.whole_photos:
        if "crop" in given:
            parser.error("--whole-photos and --crop exclude each other")
        options.crop = None
    if {"epochs", "iterations"} <= set(given):
        parser.error("--epochs and --iterations exclude each other")
    if options.at_once:
        if given.get("model", "fcn8s") not in ("fcn8s", "fcn8s-atonce"):
            parser.error(f"--at-once trains fcn8s-atonce, not {options.model}")
        options.model = "fcn8s-atonce"
    if not options.staged:
        for name in ("stage_rates", "stage_epochs"):
            if name in given:
                parser.error(f"--{name.replace('_', '-')} belongs to --staged")
    elif options.resume is None:
        from .stages import stages

        try:
            stages(options.model, options.rate, options.epochs, options.stage_rates,
                   options.stage_epochs)
        except ValueError as error:
            parser.error(f"--staged: {error}")


def config(options):
    """What a new run is started with: as `runs.read_config` will return it."""
    from .stages import stages

    return {
        "model": options.model,
        "data": os.path.abspath(options.data),
        "init": options.init and os.path.abspath(options.init),
        "net": {name: getattr(options, name) for name in NET},
        "recipe": Recipe(**{name: getattr(options, name) for name in RECIPE}),
        "stages": stages(options.model, options.rate, options.epochs, options.stage_rates,
                         options.stage_epochs) if options.staged else [],
    }


def _adder(group):
    """A function that adds an option and its default, which is absent from what is parsed."""
    def add(*names, help, **settings):
        option = names[-1].lstrip("-").replace("-", "_")
        default = {**RECIPE, **NET, **OTHERS}.get(settings.get("dest", option))
        if default not in (None, False) and default != {} and default != []:
            shown = " ".join(map(str, default)) if isinstance(default, (list, tuple)) else default
            help += f" (default: {shown})"
        # Absent where it isn't given: with --resume none may be.
        group.add_argument(*names, help=help, default=argparse.SUPPRESS, **settings)

    return add


_RATE = console.number(float, 0, 1e6, above=True)
_FACTOR = console.number(float, 0, 1e6)
_COUNT = console.number(int, 1)


def _add_run_options(group):
    add = _adder(group)
    add("--data", metavar="DIR", help="the data set")
    add("-o", "--output", metavar="RUN", help="the run's folder, made if it is missing")
    add("--check", action="store_true", help="train nothing: print how often each class occurs and "
        "every file that cannot be used, and exit with 1 if there is one")
    add("--model", choices=console.MODELS, help="the net")
    add("--init", metavar="FILE",
        help="begin with the weights of an FCN, of a classifier or of its convolutions alone")
    add("--recipe", choices=tuple(PRESETS),
        help="settings of the paper; further options change single ones")
    add("--staged", action="store_true",
        help="train fcn32s, from its best fcn16s, and so on up to --model, each in a folder in RUN")
    add("--stage-rates", type=_RATE, nargs="+", metavar="X",
        help="top learning rate of each stage (default: 1, 0.3 and 0.1 times --rate)")
    add("--stage-epochs", type=_COUNT, nargs="+", metavar="N",
        help="epochs of each stage (default: --epochs each)")
    add("--at-once", action="store_true",
        help="train FCN-8s in one go, with the pools scaled before they are scored")


def _add_net_options(group):
    add = _adder(group)
    add("--width", type=console.number(float, 0, 16, above=True), metavar="X",
        help="scales VGG's channels")
    add("--fc-channels", type=console.number(int, 1, 65536), metavar="N",
        help="channels of fc6 and fc7")
    add("--batch-norm", action="store_true", help="after each convolution of VGG")
    add("--upsampling", choices=("fixed", "learned"), help="bilinear, or beginning there")
    add("--dropout", type=console.number(float, 0, 1, below=True), metavar="X",
        help="after fc6 and fc7")
    add("--geometry", choices=("same", "caffe"),
        help="paddings that keep sizes, or those of the authors' nets, whose first pads by 100")


def _add_recipe_options(group):
    add = _adder(group)
    add("--epochs", type=_COUNT, metavar="N", help="how often each photo is seen")
    add("--iterations", type=_COUNT, metavar="N", help="train for so many steps instead")
    add("--batch", type=_COUNT, metavar="N", help="photos at once")
    add("--accumulate", type=_COUNT, metavar="N", help="batches whose mean gradient makes a step")
    side = console.number(int, 1, 8192)
    add("--crop", type=side, nargs=2, metavar=("H", "W"), help="size of the random views")
    add("--whole-photos", action="store_true", help="no random views: photos as they are")
    add("--loss", choices=LOSSES, help="mean or sum over the labelled pixels")
    add("--balance", action="store_true",
        help="weigh rare classes up, with moderation: by the root of --class-weights median, "
        "within 0.3 to 3")
    add("--class-weights", type=_class_weights, metavar="median|X,X,...",
        help="weigh classes by median frequency / frequency, or as given")
    add("--rate", type=_RATE, metavar="X", help="top learning rate")
    add("--schedule", choices=SCHEDULES, help="how the rate falls")
    add("--warm-up", type=console.number(int, 0), metavar="N", help="steps up to that rate")
    add("--power", type=_FACTOR, metavar="X", help="of poly: rate * (1 - progress) ** power")
    add("--gamma", type=_FACTOR, metavar="X", help="of step: the rate falls by this factor")
    add("--drop-every", type=_COUNT, metavar="N",
        help="of step: after so many steps (default: a third of all)")
    add("--optimizer", choices=OPTIMIZERS, help="how the net follows its gradient")
    add("--momentum", type=console.number(float, 0, 1, below=True), metavar="X", help="of SGD")
    add("--nesterov", action="store_true", help="SGD looks ahead")
    add("--average", type=console.number(float, 0, 1, below=True), metavar="X",
        help="keep so much of a running average of the net each step, and score that")
    add("--decay", type=_FACTOR, metavar="X", help="of weights, towards zero")
    add("--bias-rate", type=_FACTOR, metavar="X", help="by how much faster biases learn")
    add("--layer-rate", type=_layer_rate, action=_AddToDict, dest="layer_rates",
        metavar="LAYER=X", help="by how much faster a layer learns, such as score_pool4=0.01; may "
        "be repeated")
    add("--freeze", nargs="+", metavar="LAYER",
        help="layers that do not learn: conv1_1, conv1 for the whole block, or conv* for all")
    add("--early-stop", type=_COUNT, metavar="N",
        help="end after so many epochs without a better mean IU on val")
    add("--seed", type=console.number(int, 0, 2**31), metavar="N", help="of all that is random")


class _AddToDict(argparse.Action):
    """Collects pairs of an option that may be repeated."""

    def __call__(self, parser, namespace, value, option_string=None):
        setattr(namespace, self.dest, {**getattr(namespace, self.dest, {}), **dict([value])})


def _layer_rate(text):
    name, sign, factor = text.partition("=")
    if not name or not sign:
        raise argparse.ArgumentTypeError(f"must be LAYER=X, not {text!r}")
    return name, _FACTOR(factor)


def _class_weights(text):
    return text if text == "median" else [_FACTOR(part) for part in text.split(",")]
