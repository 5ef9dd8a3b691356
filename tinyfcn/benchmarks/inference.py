"""Inference, by us and by the peers in turns."""

import copy
import logging

from .. import models, peers
from .timing import FORWARD_TOLERANCE, compare, duel, in_turns, judged

_log = logging.getLogger(__name__)


def inference(net, x, repeat, competitors, threads):
    """The figures of a net's inference on x, and a duel with each variant of each competitor."""
    prepared = prepare(net)

    def ours():
        return prepared.forward(x)

    duels = []
    for peer in competitors:
        module = peers.module(peer)
        for name, options in module.VARIANTS.items():
            session = module.load(net, x, threads, **options)
            compare(f"{net.name}, {name}: scores", ours(), session.scores(session.run()),
                    FORWARD_TOLERANCE)
            duels.append(duel(name, in_turns([ours, session.run], repeat)))
            _log.info("%s, %s, %s: ratio %.2f", net.name, "x".join(map(str, x.shape[:3])), name,
                      duels[-1]["ratio"])
            del session
    return judged(duels, ours, repeat)


def prepare(net):
    """A net made ready for inference, while `net` stays as it is."""
    return models.prepare(copy.deepcopy(net))
