from itertools import product

import pytest
from fake_runs import results
from our_project import make_finding

from pytest_claims.claims.claim import Recorded
from pytest_claims.plugin.outcomes import Outcome, beside_record, outcome, recorded_verdict
from pytest_claims.suite.judging import Finding
from pytest_claims.verdicts.verdict import Verdict

CLAIM = results().claims[0]
RECORDS = (None, Verdict.REPRODUCED, Verdict.REFUTED, Verdict.EQUAL, Verdict.INCONCLUSIVE)


def finding(verdict: Verdict | None) -> Finding:
    return make_finding(CLAIM, verdict, None, {})


@pytest.mark.parametrize(
    ("verdict", "recorded", "expected"),
    [
        (Verdict.REPRODUCED, None, Outcome.PASSED),
        (Verdict.REPRODUCED, Verdict.REPRODUCED, Outcome.PASSED),
        (Verdict.REPRODUCED, Verdict.REFUTED, Outcome.FAILED),
        (Verdict.REPRODUCED, Verdict.INCONCLUSIVE, Outcome.PASSED),
        (Verdict.REPRODUCED, Verdict.EQUAL, Outcome.PASSED),
        (Verdict.REFUTED, None, Outcome.FAILED),
        (Verdict.REFUTED, Verdict.REPRODUCED, Outcome.FAILED),
        (Verdict.REFUTED, Verdict.REFUTED, Outcome.XFAILED),
        (Verdict.REFUTED, Verdict.INCONCLUSIVE, Outcome.XFAILED),
        (Verdict.REFUTED, Verdict.EQUAL, Outcome.XFAILED),
        *((Verdict.EQUAL, recorded, Outcome.EQUAL) for recorded in RECORDS),
    ],
)
@pytest.mark.parametrize("strict", [False, True])
def test_decided_claims_end_by_what_is_recorded(verdict, recorded, expected, strict):
    assert outcome(finding(verdict), recorded, strict=strict) is expected


@pytest.mark.parametrize("recorded", RECORDS)
def test_inconclusive_claims_fail_only_if_strict(recorded):
    assert outcome(finding(Verdict.INCONCLUSIVE), recorded, strict=False) is Outcome.INCONCLUSIVE
    assert outcome(finding(Verdict.INCONCLUSIVE), recorded, strict=True) is Outcome.FAILED


@pytest.mark.parametrize(("recorded", "strict"), list(product(RECORDS, (False, True))))
def test_what_was_not_judged_ends_the_same_whatever_is_recorded(recorded, strict):
    assert outcome(finding(None), recorded, strict=strict) is Outcome.ERROR
    assert outcome(finding(Verdict.NOT_APPLICABLE), recorded, strict=strict) is Outcome.SKIPPED


def test_recording_a_verdict_settles_every_decided_claim():
    for verdict in (Verdict.REPRODUCED, Verdict.REFUTED, Verdict.EQUAL):
        assert outcome(finding(verdict), verdict, strict=True) is not Outcome.FAILED


def test_the_record_of_another_profile_is_none():
    claim = CLAIM.model_copy(update={"recorded": {"default": Recorded(verdict=Verdict.REFUTED)}})
    found = make_finding(claim, Verdict.REPRODUCED, None, {})
    assert recorded_verdict(found, "default") is Verdict.REFUTED
    assert recorded_verdict(found, "tiny") is None


def test_a_reason_ends_with_the_record_or_how_to_make_one():
    assert beside_record(Verdict.REFUTED, "tiny") == "recorded: refuted"
    assert beside_record(None, "tiny") == "nothing is recorded for profile tiny (--record writes it)"
