"""Inference, by us and by the peers in turns."""

import copy
import logging

from .. import models, peers
from ..arrays import CPU, synchronize, to_device, to_host
from .timing import TOLERANCES, compare, duel, in_turns, judged

_log = logging.getLogger(__name__)


def inference(net, x, repeat, competitors, threads, device=CPU, precision="float32"):
    """The figures of a net's inference on x, and a duel with each variant of each competitor.

    `net` and x are the host's; on a GPU both sides get copies there before anything is timed.
    """
    prepared, there = prepare(net, device), to_device(x, device)

    def ours():
        y = prepared.forward(there)
        synchronize()
        return y

    duels = []
    for peer in competitors:
        module = peers.module(peer)
        for name, options in module.VARIANTS.items():
            if device != CPU:
                options = {**options, "device": device}
            session = module.load(net, x, threads, **options)
            compare(f"{net.name}, {name}: scores", to_host(ours()), session.scores(session.run()),
                    TOLERANCES[precision][0])
            duels.append(duel(name, in_turns([ours, session.run], repeat, device)))
            _log.info("%s, %s, %s: ratio %.2f", net.name, "x".join(map(str, x.shape[:3])), name,
                      duels[-1]["ratio"])
            del session
    return judged(duels, ours, repeat, device)


def prepare(net, device=CPU):
    """A net made ready for inference on a device, while `net` stays as it is."""
    return models.prepare(copy.deepcopy(net)).to(device)
