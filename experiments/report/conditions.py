"""What claims were judged under, as every result says beside its numbers."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Conditions:
    """Data, budgets and repetitions behind a set of findings.

    Attributes:
        profile: Name of the profile, under which verdicts are recorded, too.
        data: Whose images the models were trained and measured on.
        seeds: One repetition of everything each.
        numerics: The machine and the library that made the runs, in one line.
    """

    profile: str
    data: str
    seeds: tuple[int, ...]
    numerics: str

    @property
    def title(self) -> str:
        """All of it in one line."""
        repetitions = f"{len(self.seeds)} seed{'' if len(self.seeds) == 1 else 's'}"
        return f"{self.data} images, profile {self.profile}, {repetitions}"
