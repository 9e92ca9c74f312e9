"""Names of modules and tensors in a model, as torch writes them.

Example:
    name_within("layer1.0", "weight")       # "layer1.0.weight"; within the model itself, "", it is "weight"
"""


def name_within(module: str, child: str) -> str:
    """The full name of what a module of a full name, empty for the model itself, holds under a name."""
    return f"{module}.{child}" if module else child
