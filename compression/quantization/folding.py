"""BatchNorm folded into the convolution before it, as integer inference needs.

    folded = fold_batch_norms(model.eval())     # BatchNorm layers become nn.Identity

The fold itself is `torch.nn.utils.fusion`'s.
"""

import copy
from collections import Counter
from collections.abc import Iterator
from typing import Final

from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

_PAIRS: Final = ((nn.Conv1d, nn.BatchNorm1d), (nn.Conv2d, nn.BatchNorm2d), (nn.Conv3d, nn.BatchNorm3d))


def fold_batch_norms(model: nn.Module) -> nn.Module:
    """Return a copy of a model in which each BatchNorm that directly follows a convolution is folded into it.

    Args:
        model: In evaluation mode; stays as it is. `torch.fx` must be able to trace it.

    Returns:
        A model of the same outputs in evaluation mode, but for rounding. A BatchNorm stays where the layer's output
        goes elsewhere, too, where either is used more than once, and where it keeps no running statistics. A layer
        that had no bias gets one, trainable if the BatchNorm's or the layer's weight was.

    Raises:
        ValueError: If the model is in training mode, or can't be traced.
    """
    if model.training:
        raise ValueError("the model is in training mode; call eval() before folding BatchNorm")
    folded = copy.deepcopy(model)
    for layer_name, norm_name in _foldable(folded):
        layer, norm = folded.get_submodule(layer_name), folded.get_submodule(norm_name)
        _fold(layer, norm)
        parent, _, child = norm_name.rpartition(".")
        setattr(folded.get_submodule(parent), child, nn.Identity())
    return folded


def _foldable(model: nn.Module) -> Iterator[tuple[str, str]]:
    try:
        graph = fx.symbolic_trace(model).graph
    except Exception as error:
        raise ValueError(f"the model can't be traced to find its BatchNorms ({error})") from error
    calls = Counter(node.target for node in graph.nodes if node.op == "call_module")
    for node in graph.nodes:
        before = node.args[0] if node.op == "call_module" and node.args else None
        if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) > 1:
            continue
        layer, norm = model.get_submodule(str(before.target)), model.get_submodule(str(node.target))
        if calls[node.target] == calls[before.target] == 1 and _is_pair(layer, norm):
            yield str(before.target), str(node.target)


def _is_pair(layer: nn.Module, norm: nn.Module) -> bool:
    fits = any(type(layer) is conv and type(norm) is batch_norm for conv, batch_norm in _PAIRS)
    # After Linear, BatchNorm1d counts channels on dimension 1, which is the features only for (N, C).
    return fits and norm.running_mean is not None


def _fold(layer: nn.Module, norm: nn.Module) -> None:
    assert isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d)
    assert isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    sources = (layer.weight, norm._parameters["bias"]) if layer.bias is None else (layer.bias,)
    layer.weight, layer.bias = fuse_conv_bn_weights(
        layer.weight, layer.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )
    layer.bias.requires_grad_(any(each.requires_grad for each in sources if each is not None))
