"""Findings in short plain text: numbers with their intervals, and one sentence on what became of a claim."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from pytest_claims.basics.limits import MOST_SEEDS
from pytest_claims.claims.claim import Claim
from pytest_claims.claims.claim import number_text as plain_number_text
from pytest_claims.claims.decisive import decisive_part
from pytest_claims.report.conditions import Conditions
from pytest_claims.suite.judging import Finding
from pytest_claims.suite.more_seeds import Undecided
from pytest_claims.verdicts.estimates import CONFIDENCE, Estimate
from pytest_claims.verdicts.verdict import Judgement, Verdict

NOT_JUDGED = Verdict.NOT_JUDGED.value
"""Also of a claim whose runs are not all there."""

ABOUT_INTERVALS = f"Intervals are of {100 * CONFIDENCE:g} % where they do not say otherwise"

NOT_MEASURED = "not measured"

CONTROL_WORDS = {Verdict.REPRODUCED: "holds", Verdict.REFUTED: "fails", Verdict.INCONCLUSIVE: "not shown"}
"""What is said of controls."""

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
    match finding.verdict:
        case Verdict.NOT_JUDGED:
            return f"{NOT_JUDGED}: {finding.reason}"
        case verdict if finding.claim.is_control and verdict is not Verdict.INCONCLUSIVE:
            return verdict_text(finding)
        case Verdict.REFUTED if not finding.claim.exact:
            return f"refuted, {p_text(judgement.p_refuted)}"
        case Verdict.EQUAL:
            return equality_text(finding.claim.equality(), finding.claim.unit(finding.measure))
        case Verdict.INCONCLUSIVE:
            p_value = judgement.p_refuted
            doubt = f" ({p_text(p_value)} of a refutation)" if p_value < 1 else ""
            return f"{verdict_text(finding)}{doubt}, {_what_would_decide(judgement)}"
        case _:
            control = finding.claim.by_design
            return verdict_text(finding) + (f", by design: {control} says the same" if control else "")


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
    return NOT_JUDGED if finding.verdict is None else _words(finding.claim, finding.verdict)


def recorded_text(finding: Finding, profile: str) -> str:
    """The verdict that was recorded for the profile; empty if none was."""
    recorded = finding.claim.recorded.get(profile)
    return "" if recorded is None else _words(finding.claim, recorded.verdict)


def _words(claim: Claim, verdict: Verdict) -> str:
    return CONTROL_WORDS.get(verdict, verdict.value) if claim.is_control else verdict.value


def added_text(open_claims: Sequence[Undecided], batch: Mapping[str, int], seconds_left: float) -> str:
    """What happens to claims that more seeds would decide: which get some now, or that the time does not suffice."""
    waiting = f"{len(open_claims)} claim{'s' * (len(open_claims) > 1)} that more seeds would decide"
    if not batch:
        return f"{waiting}: no time left for any ({', '.join(each.claim.id for each in open_claims)})"
    seeds = ", ".join(f"{id_} to {count}" for id_, count in batch.items())
    return f"{waiting}; {max(0.0, seconds_left) / 60:.0f} min left; seeds are added: {seeds}"


def fitness(findings: Mapping[str, Finding], conditions: Conditions) -> str:
    """Whether the profile is fit to judge: what its controls say, or that one seed decides nothing."""
    if len(conditions.seeds) == 1:
        return "one seed: decides nothing but counts and sizes; shows only that everything runs"
    controls = {id_: verdict_text(found) for id_, found in findings.items() if found.claim.is_control}
    if not controls:
        return ""
    holds = CONTROL_WORDS[Verdict.REPRODUCED]
    if doubts := [f"{id_} ({words})" for id_, words in controls.items() if words != holds]:
        return f"not fit to judge what rests on {', '.join(doubts)}"
    return f"fit to judge: {'all ' if len(controls) > 1 else ''}{len(controls)} control{'s' * (len(controls) > 1)} hold"


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
    findings = {id_: finding for id_, finding in findings.items() if not finding.claim.is_control}
    counts = Counter(map(verdict_text, findings.values()))
    as_recorded = sum(
        verdict_text(finding) == recorded_text(finding, profile) == Verdict.REFUTED for finding in findings.values()
    )
    notes = {Verdict.REFUTED.value: f" ({as_recorded} as recorded)"}
    order = [verdict.value for verdict in Verdict]
    texts = [f"{counts[name]} {name}{notes.get(name, '')}" for name in order if counts[name]]
    return ", ".join(texts) or "no claims"
