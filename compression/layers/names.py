"""Names of modules and tensors in a model, as torch writes them.

Example:
    name_within("layer1.0", "weight")       # "layer1.0.weight"
    name_within("", "weight")               # "weight": a tensor of the model itself
"""


def name_within(module: str, child: str) -> str:
    """Join the full name of a module, "" for the model itself, and the name of a child or tensor in it."""
    return f"{module}.{child}" if module else child
