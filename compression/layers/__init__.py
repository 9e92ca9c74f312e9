"""What the compression methods need to know of layers, and the layers that they put into models.

* `known_layers`: layers whose channels are understood: where these lie, which hang together, how a layer gets smaller
* `weights`: layers whose weights can be quantized, and how a weight is computed from others
* `replacement`: layers replaced in a copy of a model, and which of them may be
* `channel_order`: channels in another order, as a layer
* `masked_layers`: layers that behave as if some of their channels were not there
* `batch_norm`: running statistics measured anew on given batches
* `evaluation_mode`: evaluation mode for a while; `names`: full names of a module's tensors
"""

from typing import TYPE_CHECKING

from compression.lazy import lazy_names

if TYPE_CHECKING:
    from compression.layers.batch_norm import reestimate_batch_norm
    from compression.layers.channel_order import ChannelOrder
    from compression.layers.masked_layers import LayerMask, MaskedNorm
    from compression.layers.replacement import Replacement, replace_convolutions, replace_layers, replaceable_layers
    from compression.layers.weights import weight_layers
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "batch_norm": "reestimate_batch_norm",
            "channel_order": "ChannelOrder",
            "masked_layers": "LayerMask MaskedNorm",
            "replacement": "Replacement replace_convolutions replace_layers replaceable_layers",
            "weights": "weight_layers",
        },
    )

__all__ = [
    "ChannelOrder",
    "LayerMask",
    "MaskedNorm",
    "Replacement",
    "reestimate_batch_norm",
    "replace_convolutions",
    "replace_layers",
    "replaceable_layers",
    "weight_layers",
]
