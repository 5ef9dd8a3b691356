"""What a net is trained for: what it shall answer, and how well it does on photos it never saw."""

import math

from . import metrics
from .drawing import class_colours
from .evaluation import evaluate
from .models import fold_batch_norm
from .panels import Picture, class_picture, fit, legend_entries, panel, present

# Of a picture of samples: photos, and pixels of the longer side of each.
SAMPLES, SAMPLE_SIDE = 3, 320


class Segmentation:
    """A class for each pixel, scored by the mean IU on the val split.

    Parameters
    ----------
    val_pairs : sequence of pairs.Pair
        Without any there is no score.
    ignore_label : int

    Attributes
    ----------
    measure : str
        The column of the log by which nets are compared.
    """

    measure = "val_mean_iu"

    def __init__(self, val_pairs, ignore_label):
        self.val_pairs = val_pairs
        self.ignore_label = ignore_label

    def targets(self, labels):
        """What the scores are compared with: here the label maps themselves."""
        return labels

    def score(self, net, progress=None):
        """Score a net.

        Parameters
        ----------
        net : Graph
        progress : callable, optional
            Called with the number of photos done.

        Returns
        -------
        columns : dict
            Of the log; None is a score of photos without a labelled pixel.
        picture : (h, w, 3) uint8 or None
            Some photos: what the net sees there beside the truth.

        Raises
        ------
        DataError, ImageError
            If a pair can't be read.
        ValueError
            If the net's scores are not finite.
        """
        if not self.val_pairs:
            return {}, None
        shown = [self.val_pairs[i] for i in _spread(len(self.val_pairs), SAMPLES)]
        samples = []

        def each(scored):
            if any(scored.pair is pair for pair in shown):
                samples.append(scored)

        matrix = evaluate(
            fold_batch_norm(net), self.val_pairs, self.ignore_label, progress, each=each
        )
        mean_iu = metrics.scores(matrix)["mean_iu"]
        columns = {self.measure: None if math.isnan(mean_iu) else round(mean_iu, 5)}
        return columns, self._picture(net, samples)

    def _picture(self, net, samples):
        classes = net.arguments["classes"]
        colours = net.colours or class_colours(classes)
        names = net.class_names or [f"class {index}" for index in range(classes)]
        rows = []
        for scored in samples:
            views = (
                (scored.photo, scored.pair.name),
                (class_picture(scored.predicted, colours), "net"),
                (class_picture(scored.truth, colours, self.ignore_label), "truth"),
            )
            rows.append([Picture(fit(view, SAMPLE_SIDE), caption) for view, caption in views])
        found = present([scored.predicted for scored in samples],
                        [scored.truth for scored in samples], self.ignore_label)
        return panel(rows, legend_entries(found, names, colours))


def _spread(count, wanted):
    """The places of at most so many of `count` things, evenly spread."""
    wanted = min(wanted, count)
    return [(2 * i + 1) * count // (2 * wanted) for i in range(wanted)]
