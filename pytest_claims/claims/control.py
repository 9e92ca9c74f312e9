"""Controls: effects that are surely there, or surely not, by which a profile shows that it can tell."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from pytest_claims.claims.claim import bounds_text, number_text
from pytest_claims.claims.operands import Text, check_either, check_pairs, region_between
from pytest_claims.claims.pairs import PairsClaim
from pytest_claims.recipes.measure import Measure
from pytest_claims.verdicts.region import Region
from pytest_claims.verdicts.verdict import Verdict

Outcome = Literal["reproduced", "refuted", "not refuted"]


class ControlClaim(PairsClaim):
    """An effect on the difference A - B that is known beforehand; what rests on a control that fails is not judged.

    A *positive* control is surely there: it should be `reproduced`. A *negative* one is surely not: a statement that
    is known to be false should be `refuted`; of two models that are alike but for chance, `equals` 0 should be
    `not refuted`, which is false as often as an interval misses.

    Attributes:
        should_be: What becomes of the statement where the profile can tell.
        equals: The one difference that is allowed, in place of bounds.
        guards: Sections, or ids of claims, that rest on the control; all claims without any.
    """

    is_control: ClassVar[bool] = True

    kind: Literal["control"]
    should_be: Outcome = "reproduced"
    equals: float | None = None
    guards: Annotated[tuple[Text, ...], Field(default_factory=tuple)]

    @model_validator(mode="after")
    def _check_operands(self) -> Self:
        check_pairs(self.pairs)
        check_either("equals", self.equals, "at_least", self.at_least, "at_most", self.at_most)
        if self.equals is not None and self.should_be == "reproduced":
            raise ValueError("'equals' can't be reproduced, since no interval is one number; should be 'not refuted'")
        return self

    def region(self) -> Region:
        """Return the differences that are allowed."""
        if self.equals is not None:
            return Region(self.equals, self.equals)
        return region_between(self.at_least, self.at_most)

    def expectation(self, measure: Measure) -> str:
        """Return what should become of which bounds, such as ">= 3 points" or "not <= -3 points"."""
        bounds = bounds_text(self.at_least, self.at_most) if self.equals is None else number_text(self.equals)
        negation = "not " if self.should_be == "refuted" else ""
        return f"{negation}{bounds}{self.unit(measure)}"

    def outcome(self, found: Verdict) -> Verdict:
        """Return what a verdict on the statement says of the control: reproduced if it holds, refuted if it fails."""
        if self.should_be == "not refuted":
            return Verdict.REFUTED if found is Verdict.REFUTED else Verdict.REPRODUCED
        if found is Verdict.INCONCLUSIVE:
            return found
        return Verdict.REPRODUCED if found.value == self.should_be else Verdict.REFUTED

    def supports(self, section: str, id_: str) -> bool:
        """Return whether a claim rests on this control."""
        return not self.guards or section in self.guards or id_ in self.guards
