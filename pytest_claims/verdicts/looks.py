"""When claims are judged while seeds are added, and what each look may cost.

Judged at 5 % after 5, 10, 20 and 40 seeds, a claim on the edge is reproduced at one of them in 14 % of cases. So the
looks are fixed beforehand, and have one error rate together, of which each may spend its share (alpha spending; Lan &
DeMets, 1983). The shares are halved from look to look, and their sum is a union bound: it holds whatever the dependence
between looks or claims, whatever one stops for (the clock, the outcome, the needs of another claim), and however many
looks there are. The joint distribution of t statistics, which would allow a little more (4 of the 5 % are used), has no
closed form for few seeds.

A confidence sequence holds at every number of seeds (Lai, 1976; Wang & Ramdas, 2023, by a Gaussian mixture), and costs
far more where seeds are few. Half-widths in standard deviations, at a one-sided error rate of 5 %:

    seeds                                        5     10     20     40
    a number of seeds that was fixed          0.95   0.58   0.39   0.27
    these looks, from 5 seeds on              1.24   0.85   0.62   0.46
    confidence sequence, effects of 1 sd      2.28   1.06   0.69   0.48
"""

from dataclasses import dataclass

from pytest_claims.basics.limits import MOST_SEEDS

ERROR_RATE = 0.05
"""One-sided: of a false *reproduced* at an edge, of a false *practically equal*, and of any false *refuted* in the
suite, over all looks together."""


@dataclass(frozen=True)
class Look:
    """One judging of a claim, on its first seeds.

    Attributes:
        seeds: how many it takes.
        level: what it may spend of `ERROR_RATE`.
    """

    seeds: int
    level: float = ERROR_RATE

    @property
    def confidence(self) -> float:
        """Of the two-sided interval whose ends are one-sided tests at this level."""
        return 1 - 2 * self.level


@dataclass(frozen=True)
class Looks:
    """Look k = 0, 1, 2, ... is at first * 2**k seeds, and may spend ERROR_RATE / 2**(k + 1).

    Attributes:
        first: seeds of the first look.

    Raises:
        ValueError: the first look is at fewer than two seeds, which tell no spread.
    """

    first: int

    def __post_init__(self) -> None:
        if self.first < 2:
            raise ValueError(f"the first look is at {self.first} seeds, should be at 2 or more")

    def reached(self, seeds: int) -> Look | None:
        """Return the last look that so many seeds suffice for; None if they are too few for the first."""
        passed = self._passed(seeds)
        return self._look(passed - 1) if passed else None

    def after(self, seeds: int) -> Look:
        """Return the first look that needs more than so many seeds."""
        return self._look(self._passed(seeds))

    def up_to(self, most: int = MOST_SEEDS) -> tuple[Look, ...]:
        """Return all looks at no more than so many seeds."""
        return tuple(map(self._look, range(self._passed(most))))

    def _passed(self, seeds: int) -> int:
        return (seeds // self.first).bit_length()

    def _look(self, number: int) -> Look:
        return Look(self.first * 2**number, ERROR_RATE / 2 ** (number + 1))
