"""What a profile is: the data, budgets and seeds that claims are judged on, chosen by one option."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pytest_claims.datasets.preparation import DataSpec
from pytest_claims.recipes.recipe import TARGET


class ProfileError(ValueError):
    """A profile cannot be used as asked; the message says what is missing."""


@dataclass(frozen=True)
class Profile:
    """What the claims are judged on. A project's own profiles add what its recipes need, such as budgets.

    A profile is the same experiment on every machine: nothing in it depends on what it runs on.

    Attributes:
        name: Of the option, and of what is recorded.
        data: Whose numbers these are; a claim on a number published for other data is not applicable.
        datasets: The images of each role; models are measured on those of `TARGET`.
        seeds: Each is one repetition of everything.
        minutes: For how long seeds are added for claims that those do not decide; None to add none.
    """

    name: str
    data: str
    datasets: Mapping[str, DataSpec]
    seeds: tuple[int, ...]
    minutes: float | None = field(default=None, kw_only=True)

    @property
    def target(self) -> DataSpec:
        """The images that models are measured on."""
        return self.datasets[TARGET]


@dataclass(frozen=True)
class ProfileRequest:
    """What a profile is made from: options of the command line.

    Attributes:
        data_root: A folder of data.
        skip_bad_images: Leave out images that cannot be read, instead of stopping.
        pretrained_weights: A safetensors file that recipes may start from.
    """

    data_root: Path | None = None
    skip_bad_images: bool = False
    pretrained_weights: Path | None = None

    def refuse_unused(self, profile: str, advice: str = "") -> None:
        """Refuse options for folders of images on behalf of a profile that has no use for them.

        An option that does nothing is a profile forgotten.

        Raises:
            ProfileError: One is given.
        """
        for option in ("data_root", "pretrained_weights", "skip_bad_images"):
            if getattr(self, option):
                dashed = option.replace("_", "-")
                raise ProfileError(f"--profile {profile}: has no use for --{dashed}{advice and '; '}{advice}")


ProfileMaker = Callable[[ProfileRequest], Profile]
"""Makes a profile, or raises ProfileError where an option that it needs is missing."""
