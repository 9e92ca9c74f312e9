"""Convolutions rewritten as cheaper ones, fresh or from the trained weights, and widths chosen for a budget.

* `replacement`: layers of a model replaced in a copy, and which ones may be
* `separable`, `grouping`: fresh depthwise-separable and group convolutions
* `separable_fit`, `grouping_fit`: the same from a dense convolution's weights, by least squares
* `channel_groups`: which channels go together; `channel_order`: the layer that puts them there
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
