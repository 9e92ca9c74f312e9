"""Network compression for any `torch.nn.Module`; `python -m compression` packs files of weights.

Four methods that don't know each other, each a package:

* `pruning`: channels cut out of a model, or masked; single weights set to zero
* `quantization`: weights and activations in fewer bits, after training or during it
* `low_rank`: linear and convolutional layers as products of smaller ones
* `architecture`: convolutions rewritten as depthwise-separable or grouped ones

What goes with them:

* `distillation`: losses of a student that learns from a teacher
* `packing`: compressed models and state dicts in one safe file
* `onnx`: quantized models as ONNX that runtimes compute in int8, exactly on every CPU
* `layers`: what the methods need to know of layers
* `cli`: the command line

This package itself gives `parameter_count` and `multiply_accumulates` (what a model costs), `tapped` (what its layers
take and return while it runs), and from `onnx`: `export_onnx` and `open_session`.
"""

from typing import TYPE_CHECKING

from compression.lazy import lazy_names

if TYPE_CHECKING:
    from compression.cost import multiply_accumulates, parameter_count
    from compression.onnx.export import export_onnx
    from compression.onnx.session import open_session
    from compression.taps import Run, Taps, tapped
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "cost": "multiply_accumulates parameter_count",
            "onnx.export": "export_onnx",
            "onnx.session": "open_session",
            "taps": "Run Taps tapped",
        },
    )

__all__ = [
    "Run",
    "Taps",
    "export_onnx",
    "multiply_accumulates",
    "open_session",
    "parameter_count",
    "tapped",
]
