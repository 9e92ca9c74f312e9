"""The whole file of claims, as data: `{"format": 1, "title": ..., "sections": ..., "sources": ..., "claims": [...]}`.

Importing this needs only pydantic, so that collecting tests stays instant.
"""

import json
from collections.abc import Collection, Mapping
from typing import Annotated, Self, TypeAlias

from pydantic import Field, field_validator, model_validator

from pytest_claims.claims.accuracy import AccuracyClaim
from pytest_claims.claims.claim import Claim, Entry
from pytest_claims.claims.comparison import ComparisonClaim
from pytest_claims.claims.control import ControlClaim
from pytest_claims.claims.counts import ParametersClaim
from pytest_claims.claims.curve import CurveClaim
from pytest_claims.claims.operands import Text
from pytest_claims.claims.size import SizeClaim

AnyClaim: TypeAlias = Annotated[
    ParametersClaim | SizeClaim | AccuracyClaim | ComparisonClaim | CurveClaim | ControlClaim,
    Field(discriminator="kind"),
]

KINDS: Mapping[str, type[Claim]] = {
    "parameters": ParametersClaim,
    "size": SizeClaim,
    "accuracy": AccuracyClaim,
    "comparison": ComparisonClaim,
    "curve": CurveClaim,
    "control": ControlClaim,
}
"""The class of each kind of claim."""

FORMAT = 1


class ExpectedResults(Entry):
    """All claims of a report; ids are unique.

    Attributes:
        schema_place: Where editors find the file's JSON Schema.
        format: Of the file.
        title: Of the report's page.
        sections: Titles of the sections that claims are shown in, by the names that claims use; without any, claims
            may name any section.
        sources: What those are who state claims, by the names that claims use; without any, claims may name any source.
        claims: In the order in which they are shown.
    """

    schema_place: Annotated[Text | None, Field(alias="$schema")] = None
    format: int
    title: Text = "Claims"
    sections: Mapping[Text, Text] = Field(default_factory=dict)
    sources: Mapping[Text, Text] = Field(default_factory=dict)
    claims: Annotated[tuple[AnyClaim, ...], Field(min_length=1)]

    @field_validator("format")
    @classmethod
    def _check_format(cls, number: int) -> int:
        if number != FORMAT:
            raise ValueError(f"this version reads format {FORMAT}")
        return number

    @model_validator(mode="after")
    def _check_claims(self) -> Self:
        first: dict[str, int] = {}
        for index, claim in enumerate(self.claims):
            if claim.id in first:
                raise ValueError(f"claims[{index}] repeats the id {claim.id!r} of claims[{first[claim.id]}]")
            first[claim.id] = index
            _check_known(f"claims[{index}] ({claim.id}): section", claim.section, self.sections)
            _check_known(f"claims[{index}] ({claim.id}): source", claim.source, self.sources)
        self._check_controls()
        return self

    def _check_controls(self) -> None:
        controls = [claim for claim in self.claims if isinstance(claim, ControlClaim)]
        judged = [claim for claim in self.claims if not claim.is_control]
        known = {name for claim in judged for name in (claim.section, claim.id)}
        for control in controls:
            if unknown := [name for name in control.guards if name not in known]:
                raise ValueError(f"{control.id}: guards {unknown[0]!r}, should name a section with claims, or a claim")
        ids = {control.id for control in controls}
        for claim in judged:
            if claim.by_design is not None and claim.by_design not in ids:
                raise ValueError(f"{claim.id}: by_design is {claim.by_design!r}, should be a control's id")


def _check_known(what: str, name: str, known: Collection[str]) -> None:
    if known and name not in known:
        raise ValueError(f"{what} {name!r} is not among {', '.join(known)}")


def schema_text() -> str:
    """Return the file's JSON Schema, as it is published."""
    return json.dumps(ExpectedResults.model_json_schema(), indent=2) + "\n"
