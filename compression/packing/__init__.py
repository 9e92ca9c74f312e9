"""Compressed models and state dicts in one safe file.

* `bits`: codes of 1 to 8 bits without gaps between them
* `entropy`: codes in about as many bits as their entropy
* `container`: the file itself: safetensors, a JSON header, a digest over both
* `tensors`: quantized tensors as what the container holds
* `layer_table`: the layers of a model as JSON, and a base model rebuilt by it
* `state_file`: a state dict, packed and unpacked
* `model_file`: a pruned, factorized, quantized model, saved and loaded

A whole pipeline, for any model (`base` is made anew where the file is read):

    small = factorize_to_budget(prune(model, groups, kept), 2_000_000)
    train(small)
    save_model(quantize_weights(small, AffineSpec(bits=4)), "small.safetensors")
    same = load_model("small.safetensors", base=resnet18())
"""
