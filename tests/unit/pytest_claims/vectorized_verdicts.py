"""Verdicts of many claims at once, written anew with scipy.stats, for simulations that need thousands."""

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from pytest_claims.verdicts.verdict import Verdict

FIXED = ((5, 0.05),)
LOOKS = ((5, 0.025), (10, 0.0125), (20, 0.00625), (40, 0.003125))
"""Seeds and one-sided level of each look."""

STEP = 1 / 55
"""Points: one image of 5,500."""


def counted_draws(seed, claims, centres, sd, seeds):
    """Normal differences of accuracies that count images; claims x parts x seeds, a part around each centre."""
    normal = np.random.default_rng(seed).normal(0, sd, (claims, len(centres), seeds))
    return np.round(normal / STEP) * STEP + np.array(centres)[:, None]


@dataclass(frozen=True)
class Simulated:
    """What each look (the last axis) shows of each claim, and of each of its parts."""

    lower: np.ndarray
    upper: np.ndarray
    p_refuted: np.ndarray
    reproduced: np.ndarray
    refuted: np.ndarray
    equal: np.ndarray

    @property
    def decided(self):
        return self.reproduced | self.refuted | self.equal

    def verdicts(self, claim):
        names = {Verdict.REPRODUCED: self.reproduced, Verdict.REFUTED: self.refuted, Verdict.EQUAL: self.equal}
        for look in range(self.reproduced.shape[1]):
            yield next((name for name, holds in names.items() if holds[claim, look]), Verdict.INCONCLUSIVE)


def simulate(draws, looks, region, margin=None, family_size=1):
    """Judge claims of one family each, of which all others have p = 1."""
    mean, error, degrees, level = _moments(draws, looks)
    half = stats.t.isf(level, degrees) * error
    lower, upper = mean - half, mean + half
    distance = np.maximum(mean - region.upper, region.lower - mean)
    p_part = np.where(distance > 0, stats.t.sf(distance / error, degrees), 1.0)
    p_refuted = np.minimum(1, family_size * draws.shape[1] * p_part.min(axis=1) * 0.05 / level)
    reproduced = ((lower >= region.lower) & (upper <= region.upper)).all(axis=1)
    refuted = ~reproduced & (p_refuted <= 0.05)
    within = (np.maximum(-lower, upper) <= (-math.inf if margin is None else margin)).all(axis=1)
    return Simulated(lower, upper, p_refuted, reproduced, refuted, ~reproduced & ~refuted & within)


def _moments(draws, looks):
    seen = [draws[:, :, :seeds] for seeds, _ in looks]
    mean = np.stack([part.mean(axis=2) for part in seen], axis=2)
    error = np.stack([part.std(axis=2, ddof=1) / math.sqrt(part.shape[2]) for part in seen], axis=2)
    seeds, level = np.array(looks).T
    return mean, error, seeds - 1, level
