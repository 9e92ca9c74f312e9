"""What claims were judged under, as every result says beside its numbers, and how results are laid out."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from pytest_claims.report.accuracies import MeasuredModel


Draw: TypeAlias = "Callable[[Mapping[str, MeasuredModel], Conditions], Figure | None]"


@dataclass(frozen=True)
class Plot:
    """A plot that results may have.

    Attributes:
        name: Of its files.
        caption: What it shows, for those who cannot see it, too.
        section: The section that it belongs to; None for all of them.
        draw: Makes the figure from the measured models and what they were judged under; None where there is nothing
            to draw.
        compares: Whether what it shows are differences of models, which one seed does not tell: then it is not drawn.
    """

    name: str
    caption: str
    section: str | None
    draw: Draw
    compares: bool = True


@dataclass(frozen=True)
class Outline:
    """How a report's results are laid out.

    Attributes:
        title: Of the page.
        sections: Titles by name, in order; a section that is not among them has its name as its title.
        sources: What those are who state claims, by name, in order; without any, claims are not told apart by them.
        families: What each model is grouped under.
        intermediate: Models that are only steps to others, and no results.
        curves: Models that plots join, each list in order.
        plots: The project's own.
    """

    title: str = "Claims"
    sections: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    sources: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    families: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    intermediate: frozenset[str] = frozenset()
    curves: Sequence[Sequence[str]] = ()
    plots: tuple[Plot, ...] = ()

    def section_title(self, name: str) -> str:
        """Return the title of a section."""
        return self.sections.get(name, name)

    def in_order(self, names: Iterable[str]) -> list[str]:
        """Return some sections' names, in the order of the report, each once."""
        return _in_order(self.sections, names)

    def sources_in_order(self, names: Iterable[str]) -> list[str]:
        """Return some sources' names, in the order of the report, each once; none where it tells none apart."""
        return _in_order(self.sources, names) if self.sources else []


def _in_order(known: Iterable[str], names: Iterable[str]) -> list[str]:
    """The names, each once: those that are known in their order, and then the others in theirs."""
    shown = dict.fromkeys(names)
    return [name for name in dict.fromkeys((*known, *shown)) if name in shown]


@dataclass(frozen=True)
class Conditions:
    """Data, budgets and repetitions behind a set of findings.

    Attributes:
        profile: Name of the profile, under which verdicts are recorded, too.
        data: Whose images the models were trained and measured on.
        seeds: One repetition of everything each.
        numerics: The machine and the library that made the runs, in one line.
        outline: How results are laid out.
        coverage: What intervals cover of all that chance decides, in a sentence.
        adds_seeds: Whether claims that those seeds do not decide are judged on more.
    """

    profile: str
    data: str
    seeds: tuple[int, ...]
    numerics: str
    outline: Outline = Outline()
    coverage: str = ""
    adds_seeds: bool = False

    @property
    def title(self) -> str:
        """All of it in one line."""
        repetitions = f"{len(self.seeds)} seed{'' if len(self.seeds) == 1 else 's'}"
        if self.adds_seeds:
            repetitions += " and more where needed"
        return f"{self.data} images, profile {self.profile}, {repetitions}"
