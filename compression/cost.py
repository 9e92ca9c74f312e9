"""What a model costs: parameters, and multiply-accumulates for one input."""

import copy

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode


def parameter_count(model: nn.Module) -> int:
    """Count the parameters of a model, trainable or not; one that several layers share counts once."""
    return sum(parameter.numel() for parameter in model.parameters())


def multiply_accumulates(model: nn.Module, input_shape: tuple[int, ...]) -> int:
    """Count the multiply-accumulates of convolutions, linear layers and matrix products for one input.

    Counted from the operations that a forward pass runs in evaluation mode, on a copy without data: the
    model, its training flags and its BatchNorm statistics stay as they are. Additions of biases,
    normalization, activations and pooling count nothing. Tensors that the model makes on the default device, and
    those that are its modules' plain attributes, have no data either.

    Args:
        model: Takes one batch of floating-point numbers, of whatever precision.
        input_shape: Shape of one input, without the batch: (channels, height, width) for images.

    Raises:
        ValueError: If the shape holds a number below 1, the model can't take such an input, or it needs the
            numbers in a tensor to run.
    """
    if any(size < 1 for size in input_shape):
        raise ValueError(f"input_shape is {input_shape}; every size must be at least 1")
    shadow = copy.deepcopy(model).to("meta", torch.float32).eval()
    for module in shadow.modules():
        plain = {name: value.to("meta") for name, value in vars(module).items() if isinstance(value, Tensor)}
        vars(module).update(plain)
    try:
        # What the model itself makes on the default device has no data either.
        with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
            shadow(torch.empty(1, *input_shape))
    except RuntimeError as error:
        raise ValueError(
            f"the model can't take an input of shape {input_shape}, or can't run without data: {error}"
        ) from error
    # The counter takes a multiply-accumulate for two operations.
    return int(counter.get_total_flops()) // 2
