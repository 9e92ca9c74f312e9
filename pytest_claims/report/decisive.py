"""Which part of a claim its verdict rests on: a claim of several parts is as good as its worst."""

import math

from pytest_claims.verdicts.verdicts import Estimate, Judgement, Region, Verdict


def decisive_part(judgement: Judgement, region: Region) -> int:
    """The index of the part that decides a judgement.

    Of a refuted claim it is the part that lies outside by the most standard errors, whose p value is the claim's;
    otherwise the one whose interval reaches farthest out, or nearest to an edge.
    """
    estimated = all(part.sd is not None for part in judgement.estimates)
    rank = _outside if estimated and judgement.verdict is Verdict.REFUTED else _reach
    ranks = [rank(part, region) for part in judgement.estimates]
    return ranks.index(max(ranks))


def _outside(part: Estimate, region: Region) -> tuple[float, float]:
    distance = region.distance(part.mean)
    half_width = part.upper - part.mean
    if half_width == 0:
        return (math.inf if distance > 0 else -math.inf), distance
    return distance / half_width, distance


def _reach(part: Estimate, region: Region) -> tuple[float, float]:
    ends = (part.lower, part.upper)
    reach = math.inf if any(map(math.isinf, ends)) else max(map(region.distance, ends))
    return reach, region.distance(part.mean)
