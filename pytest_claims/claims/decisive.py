"""Which part of a claim its verdict rests on: a claim of several parts is as good as its worst."""

import math

from pytest_claims.claims.claim import Claim
from pytest_claims.verdicts.estimates import Estimate
from pytest_claims.verdicts.region import Region, equality_region
from pytest_claims.verdicts.verdict import Judgement, Verdict


def decisive_part(judgement: Judgement, claim: Claim) -> int:
    """The index of the part that decides a judgement.

    Of a refuted claim it is the part that lies outside by the most standard errors, whose p value is the claim's;
    otherwise the one whose interval reaches farthest out of what the verdict is about, or nearest to an edge.
    """
    region = _region_of(judgement.verdict, claim)
    estimated = all(part.sd is not None for part in judgement.estimates)
    rank = _outside if estimated and judgement.verdict is Verdict.REFUTED else _reach
    ranks = [rank(part, region) for part in judgement.estimates]
    return ranks.index(max(ranks))


def _region_of(verdict: Verdict, claim: Claim) -> Region:
    margin = claim.equality()
    return equality_region(margin) if verdict is Verdict.EQUAL and margin is not None else claim.region()


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
