"""Findings in short plain text: numbers with their intervals, and one sentence on what became of a claim."""

import math
from collections import Counter
from collections.abc import Mapping

from pytest_claims.basics.limits import MOST_SEEDS
from pytest_claims.claims.claim import Claim
from pytest_claims.claims.claim import number_text as plain_number_text
from pytest_claims.claims.decisive import decisive_part
from pytest_claims.report.conditions import Conditions
from pytest_claims.suite.judging import Finding
from pytest_claims.verdicts.estimates import CONFIDENCE, Estimate
from pytest_claims.verdicts.verdict import Judgement, Verdict

NOT_JUDGED = "not judged"
"""In place of the verdict of a claim whose runs are not all there."""

ABOUT_INTERVALS = f"Intervals are of {100 * CONFIDENCE:g} % where they do not say otherwise"

NOT_MEASURED = "not measured"

_MORE_DIGITS = 4
"""By so many a number may be lengthened to show on which side of an edge it lies."""

_NOISE = 1e-9


def number_text(finding: Finding, value: float) -> str:
    """A number as its claim counts: points and percent to two decimals, ratios to three digits, counts whole.

    It is given more decimals where these few would put it on an edge of the claim's region, or of its equality, or
    across it: 0.502 points are not shown as 0.50 where 0.5 are allowed.
    """
    edges = _edges(finding.claim)
    text = ""
    for decimals in range(least := finding.claim.decimals(value, finding.measure), least + _MORE_DIGITS + 1):
        text = f"{value:z,.{decimals}f}"
        shown = float(text.replace(",", ""))
        if all(_side(shown, edge) == _side(value, edge) for edge in edges):
            break
    return text


def _edges(claim: Claim) -> tuple[float, ...]:
    region, margin = claim.region(), claim.equality()
    return (region.lower, region.upper) if margin is None else (region.lower, region.upper, -margin, margin)


def _side(value: float, edge: float) -> int:
    """Above (1), below (-1) or on an edge (0), where a mean's binary noise doesn't count."""
    return 0 if math.isclose(value, edge, rel_tol=0.0, abs_tol=_NOISE) else (value > edge) - (value < edge)


def estimate_text(finding: Finding, part: Estimate) -> str:
    """One part with its interval: "84.31 [83.90, 84.72]", "84.31 (1 seed)", or "256,779" where it is exact.

    An interval of another confidence than usual says so: "84.31 [95 %: 83.90, 84.72]".
    """
    mean, lower, upper = (
        number_text(finding, value) if math.isfinite(value) else "" for value in (part.mean, part.lower, part.upper)
    )
    unit = finding.claim.unit(finding.measure)
    if finding.claim.exact:
        return f"{mean if lower == upper else f'{lower} to {upper}'}{unit}"
    if part.n == 1:
        return f"{mean}{unit} (1 seed)"
    return f"{mean} [{_confidence_text(part)}{lower}, {upper}]{unit}"


def _confidence_text(part: Estimate) -> str:
    return "" if part.confidence == CONFIDENCE else f"{100 * part.confidence:g} %: "


def measured(finding: Finding) -> str:
    """What was measured; of a claim of several parts the decisive one, with its name."""
    if finding.judgement is None:
        return NOT_MEASURED
    claim, judgement = finding.claim, finding.judgement
    texts = [estimate_text(finding, part) for part in judgement.estimates]
    if len(texts) == 1:
        return texts[0]
    if len(set(texts)) == 1:
        return f"{texts[0]} (each of {len(texts)})"
    decisive = decisive_part(judgement, claim)
    return f"{texts[decisive]}, {claim.part_names()[decisive]} (worst of {len(texts)})"


def expected(finding: Finding) -> str:
    """What the report says of each part, as a number or a bound."""
    return finding.claim.expectation(finding.measure)


def explanation(finding: Finding) -> str:
    """One sentence for whoever asks why: measured, expected, and what follows."""
    judgement = finding.judgement
    if judgement is None:
        return conclusion(finding)
    seeds = judgement.estimates[0].n
    over = f"over {seeds} seeds " if not finding.claim.exact and seeds > 1 else ""
    return f"measured {over}{measured(finding)}; expected {expected(finding)}; {conclusion(finding)}"


def conclusion(finding: Finding) -> str:
    """What follows: the verdict, with the p value of a refutation or how many seeds would decide."""
    judgement = finding.judgement
    if judgement is None:
        return finding.reason or NOT_JUDGED
    match judgement.verdict:
        case Verdict.REFUTED if not finding.claim.exact:
            return f"refuted, {p_text(judgement.p_refuted)}"
        case Verdict.EQUAL:
            return equality_text(finding.claim.equality(), finding.claim.unit(finding.measure))
        case Verdict.INCONCLUSIVE:
            p_value = judgement.p_refuted
            doubt = f" ({p_text(p_value)} of a refutation)" if p_value < 1 else ""
            return f"inconclusive{doubt}, {_what_would_decide(judgement)}"
        case verdict:
            return verdict.value


def equality_text(margin: float | None, unit: str = "") -> str:
    """What practical equality says: "practically equal, no difference of more than 0.5 points"."""
    return f"{Verdict.EQUAL}, no difference of more than {plain_number_text(margin)}{unit}"


def judged_text(judgement: Judgement, expected: str, equal_within: float | None = None) -> str:
    """What became of numbers without a claim of the file: measured, expected, and the verdict."""
    part = judgement.estimates[0]
    interval = f"[{_confidence_text(part)}{part.lower:.4g}, {part.upper:.4g}] over {part.n} seeds"
    verdict = judgement.verdict.value
    if judgement.verdict is Verdict.INCONCLUSIVE:
        verdict += f", {_what_would_decide(judgement)}"
    elif judgement.verdict is Verdict.EQUAL:
        verdict = equality_text(equal_within)
    return f"measured {part.mean:.4g} {interval if part.n > 1 else '(1 seed)'}; expected {expected}; {verdict}"


def _what_would_decide(judgement: Judgement) -> str:
    if judgement.seeds_needed is not None:
        return f"{judgement.seeds_needed:,} seeds would decide it"
    if any(part.n == 1 for part in judgement.estimates):
        return "since one seed does not tell how much seeds differ"
    return f"more than {MOST_SEEDS:,} seeds would be needed"


def p_text(p_value: float) -> str:
    """A p value to two digits."""
    return "p < 0.0001" if p_value < 0.0001 else f"p = {p_value:.2g}"


def verdict_text(finding: Finding) -> str:
    """The verdict in words."""
    return NOT_JUDGED if finding.verdict is None else finding.verdict.value


def recorded_text(finding: Finding, profile: str) -> str:
    """The verdict that was recorded for the profile; empty if none was."""
    recorded = finding.claim.recorded.get(profile)
    return "" if recorded is None else recorded.verdict.value


def other_numerics(findings: Mapping[str, Finding], conditions: Conditions) -> str:
    """Which records were made on another machine or with another library; empty where none was."""
    records = [finding.claim.recorded.get(conditions.profile) for finding in findings.values()]
    others = Counter(record.numerics or "numerics that are not told" for record in records if record)
    others.pop(conditions.numerics, None)
    return "; ".join(
        f"{count} records beside which verdicts are shown were made on {numerics}, these on {conditions.numerics}: "
        "other bits, the same statistics"
        for numerics, count in others.items()
    )


def summary(findings: Mapping[str, Finding], profile: str) -> str:
    """How many claims have which verdict, as "39 reproduced, 4 refuted (3 as recorded), 7 inconclusive"."""
    counts = Counter(map(verdict_text, findings.values()))
    as_recorded = sum(
        verdict_text(finding) == recorded_text(finding, profile) == Verdict.REFUTED for finding in findings.values()
    )
    notes = {Verdict.REFUTED.value: f" ({as_recorded} as recorded)"}
    order = [*(verdict.value for verdict in Verdict), NOT_JUDGED]
    texts = [f"{counts[name]} {name}{notes.get(name, '')}" for name in order if counts[name]]
    return ", ".join(texts) or "no claims"
