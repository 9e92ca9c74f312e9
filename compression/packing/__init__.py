"""Compressed models and state dicts in one safe file.

* `bits`: codes of 1 to 8 bits without gaps between them
* `entropy`: codes in about as many bits as their entropy
* `container`: the file itself: safetensors, a JSON header, a digest over both
* `tensors`: quantized tensors as what the container holds
* `layer_table`: the layers of a model as JSON, and a base model rebuilt by it
* `state_file`: a state dict, saved, packed and loaded
* `model_file`: a pruned, factorized, quantized model, saved and loaded

A whole pipeline, for any model (`base` is made anew where the file is read):

    small = factorize_to_budget(prune(model, graph, kept), 2_000_000)
    train(small)
    save_model(quantize_weights(small, AffineSpec(bits=4)), "small.safetensors")
    same = load_model("small.safetensors", base=resnet18())
"""

from typing import TYPE_CHECKING

from compression.lazy import lazy_names

if TYPE_CHECKING:
    from compression.packing.container import PackedFileError, is_packed
    from compression.packing.model_file import load_model, save_model
    from compression.packing.state_file import (
        Method,
        affine,
        cast,
        codebook,
        load_state_dict,
        min_max_bytes,
        pack_state_dict,
        save_state_dict,
    )
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "container": "PackedFileError is_packed",
            "model_file": "load_model save_model",
            "state_file": "Method affine cast codebook load_state_dict min_max_bytes pack_state_dict save_state_dict",
        },
    )

__all__ = [
    "Method",
    "PackedFileError",
    "affine",
    "cast",
    "codebook",
    "is_packed",
    "load_model",
    "load_state_dict",
    "min_max_bytes",
    "pack_state_dict",
    "save_model",
    "save_state_dict",
]
