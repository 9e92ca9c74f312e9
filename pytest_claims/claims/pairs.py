"""What claims on the differences of pairs of models have in common."""

from pytest_claims.claims.claim import Claim, Lookup, Parts, by_seed, difference_unit, differences
from pytest_claims.claims.operands import Pairs, models_of_pairs
from pytest_claims.recipes.measure import Measure


class PairsClaim(Claim):
    """The difference A - B, paired by seed, for each pair [A, B]. Of percent, in points."""

    pairs: Pairs
    at_least: float | None = None
    at_most: float | None = None

    def needed_models(self) -> tuple[str, ...]:
        """Return the models of all pairs."""
        return models_of_pairs(self.pairs)

    def quantities(self, lookup: Lookup) -> Parts:
        """Return each pair's differences."""
        return tuple(differences(*by_seed(self, lookup, pair)) for pair in self.pairs)

    def part_names(self) -> tuple[str, ...]:
        """Return the pairs as differences."""
        return tuple(f"{a} - {b}" for a, b in self.pairs)

    def unit(self, measure: Measure) -> str:
        """Return the unit of a difference."""
        return difference_unit(measure)
