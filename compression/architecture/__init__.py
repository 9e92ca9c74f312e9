"""Convolutions rewritten as cheaper ones, fresh or from the trained weights, and widths chosen for a budget.

* `separable`, `grouping`: fresh depthwise-separable and group convolutions
* `separable_fit`, `grouping_fit`: the same from a dense convolution's weights, by least squares
* `channel_groups`: which channels go together
* `patch_moments`: what a convolution sees, for least squares on its outputs
* `rewriting`: all convolutions of a trained model at once, and why some stay
* `width`: the widest network within a budget

A trained model with depthwise-separable convolutions, little of what it learned lost:

    names = separable_convolutions(model)
    moments = measure_patch_moments(model, names, batches)
    rewriting = rewrite_separable(model, moments=moments)
    print(rewriting.left)  # the convolutions that stay, each with the reason
    student = rewriting.model
"""

from typing import TYPE_CHECKING

from compression.lazy import lazy_names

if TYPE_CHECKING:
    from compression.architecture.channel_groups import ChannelGroups, best_groups, contiguous_groups
    from compression.architecture.grouping import grouped, grouped_parameters
    from compression.architecture.grouping_fit import fit_grouped
    from compression.architecture.patch_moments import PatchMoments, measure_patch_moments
    from compression.architecture.rewriting import (
        Rewriting,
        grouped_convolutions,
        rewrite_grouped,
        rewrite_separable,
        separable_convolutions,
    )
    from compression.architecture.separable import depthwise_separable, depthwise_separable_parameters
    from compression.architecture.separable_fit import fit_separable, separable_fit_parameters
    from compression.architecture.width import width_for_budget
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "channel_groups": "ChannelGroups best_groups contiguous_groups",
            "grouping": "grouped grouped_parameters",
            "grouping_fit": "fit_grouped",
            "patch_moments": "PatchMoments measure_patch_moments",
            "rewriting": "Rewriting grouped_convolutions rewrite_grouped rewrite_separable separable_convolutions",
            "separable": "depthwise_separable depthwise_separable_parameters",
            "separable_fit": "fit_separable separable_fit_parameters",
            "width": "width_for_budget",
        },
    )

__all__ = [
    "ChannelGroups",
    "PatchMoments",
    "Rewriting",
    "best_groups",
    "contiguous_groups",
    "depthwise_separable",
    "depthwise_separable_parameters",
    "fit_grouped",
    "fit_separable",
    "grouped",
    "grouped_convolutions",
    "grouped_parameters",
    "measure_patch_moments",
    "rewrite_grouped",
    "rewrite_separable",
    "separable_convolutions",
    "separable_fit_parameters",
    "width_for_budget",
]
