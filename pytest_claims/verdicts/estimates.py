"""A quantity over seeds: its mean with an interval."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_claims.verdicts.looks import ERROR_RATE, Look

CONFIDENCE = 1 - 2 * ERROR_RATE
"""Of the intervals of a fixed number of seeds."""


@dataclass(frozen=True)
class Estimate:
    """One quantity over seeds, in the unit of its samples.

    Attributes:
        mean: sample mean.
        sd: standard deviation with n - 1 in the denominator, a step of the count where all samples are the same;
            None for a single sample or an exact number.
        n: number of samples, one a seed.
        lower: lower end of the two-sided t interval of the mean; -inf for a single sample.
        upper: upper end, likewise.
        confidence: of the interval, such as 0.9; 1 for an exact number.
    """

    mean: float
    sd: float | None
    n: int
    lower: float
    upper: float
    confidence: float


def estimate(samples: Sequence[float], step: float = 0.0, confidence: float = CONFIDENCE) -> Estimate:
    """Mean and two-sided Student t interval, mean +- t((1 + confidence) / 2, n - 1) sd / sqrt(n).

    A single sample has the interval [-inf, inf].

    Args:
        samples: one finite number a seed.
        step: of what the samples count, in their unit: the sd of identical ones; 0 if they count nothing.
        confidence: of the interval, between 0 and 1.

    Raises:
        ValueError: no samples, or one that is not finite.
    """
    check_samples(samples)
    n = len(samples)
    if n == 1:
        return Estimate(samples[0], None, 1, -math.inf, math.inf, confidence)
    if min(samples) == max(samples):
        return _estimate(samples[0], step, n, confidence)
    mean = math.fsum(samples) / n
    sd = math.hypot(*(sample - mean for sample in samples)) / math.sqrt(n - 1)
    return _estimate(mean, sd, n, confidence)


def exact_estimate(values: Sequence[float]) -> Estimate:
    """Return values that are known without error, as an estimate from the least to the greatest.

    Raises:
        ValueError: no values, or one that is not finite.
    """
    check_samples(values)
    return Estimate(math.fsum(values) / len(values), None, len(values), min(values), max(values), 1.0)


def projected(part: Estimate, look: Look) -> Estimate:
    """Return what a look would show of a part if its mean and sd stayed; a part without sd stays as it is."""
    return part if part.sd is None else _estimate(part.mean, part.sd, look.seeds, look.confidence)


def check_samples(samples: Sequence[float]) -> None:
    """Check that there are samples, all finite.

    Raises:
        ValueError: names the first that is not.
    """
    if not samples:
        raise ValueError("at least one sample is needed, got none")
    for seed, sample in enumerate(samples):
        if not math.isfinite(sample):
            raise ValueError(f"sample {seed} is {sample}, should be a finite number")


def _estimate(mean: float, sd: float, n: int, confidence: float) -> Estimate:
    from scipy.special import stdtrit

    half = float(stdtrit(n - 1, (1 + confidence) / 2)) * sd / math.sqrt(n)
    return Estimate(mean, sd, n, mean - half, mean + half, confidence)
