"""Training towards channels that can go (Liu et al., Network Slimming, 2017)."""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def gamma_penalty(model: nn.Module) -> Tensor:
    """Return the sum of |gamma| over all BatchNorm layers; a loss gets it times a weight, 1e-4 say.

    Its gradient is the sign of gamma, and 0 where gamma is 0, which is the subgradient that network slimming steps by.

    Returns:
        A scalar of shape ().

    Raises:
        ValueError: If no BatchNorm layer has a gamma.
    """
    gammas = [norm.weight for norm in model.modules() if isinstance(norm, _BatchNorm) and norm.affine]
    if not gammas:
        raise ValueError(f"{type(model).__name__} has no BatchNorm layer with a gamma to penalize")
    return torch.stack([gamma.abs().sum() for gamma in gammas]).sum()
