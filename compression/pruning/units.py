"""The smallest sets of channels that can go (units), and the groups that they form.

In `conv_c(conv_a(x) + conv_b(x))` channel i of `conv_a` is tied to channel i of `conv_b`. Tied channels are joined to
one unit, and all units of which one layer makes channels to one group. Added to x itself, the model's input, whose
channels must stay, a channel of `conv_a` is pinned, and the reason kept.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor, nn

from compression.layers import known_layers
from compression.pruning.channels import varying_dims
from compression.pruning.record import Trace


@dataclass(frozen=True, eq=False)
class Numbering:
    """The units of a traced model.

    Attributes:
        of_id: int64: for each channel id its unit, -1 if it must stay.
        groups: The units of each group.
        reason: Tells why the channel of an id must stay.
    """

    of_id: Tensor
    groups: list[range]
    reason: Callable[[Tensor], str]

    def units(self, ids: Tensor) -> Tensor:
        """Return the unit of each id, in the ids' shape."""
        return torch.where(ids >= 0, self.of_id[ids.clamp(min=0)], -1)


def number_units(model: nn.Module, met: Trace) -> Numbering:
    """Join channels that hang together to units, and units that one layer makes to groups.

    Args:
        model: The model that was traced.
        met: The trace of it.
    """
    ids = [*met.outputs.values(), *met.free.values()]
    total = 1 + max((int(part.max()) for part in ids if part.numel()), default=0)
    edges = [(tie.first, tie.second) for tie in met.ties]
    edges += [(row[:, :1].expand(row.shape), row) for row in _layer_ties(model, met)]
    component = _components(total, edges)
    why, reasons = _pinned(model, met, component)
    makers = [outputs for name, outputs in met.outputs.items() if not _carries(model, name)]
    units, groups = _ordered(component, why >= 0, makers, total)
    # At index -1 stands what isn't pinned.
    return Numbering(units, groups, lambda one: [*reasons, "no layer makes its channels"][int(why[component[one]])])


def _carries(model: nn.Module, name: str) -> bool:
    """Tell whether each channel out is tied to one that comes in, as in a depthwise convolution."""
    return known_layers.gives_up_groups(model.get_submodule(name))


def _layer_ties(model: nn.Module, met: Trace) -> Iterator[Tensor]:
    """Yield rows of channels that hang together within a layer, or because it is called more than once."""
    first: dict[str, Tensor] = {}
    for call in met.calls:
        before = first.setdefault(call.layer, call.inputs)
        if before is not call.inputs:
            yield torch.stack([before, call.inputs], 1)
        yield from known_layers.tied_rows(model.get_submodule(call.layer), call.inputs, call.outputs)


def _components(total: int, edges: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """Return the connected component of each channel; pairs with one that can't go are left to `_pinned`."""
    pairs = [torch.stack([first.flatten(), second.flatten()]) for first, second in edges]
    joined = torch.cat(pairs, 1) if pairs else torch.empty(2, 0, dtype=torch.int64)
    joined = joined[:, (joined >= 0).all(0)]
    matrix = coo_array((np.ones(joined.shape[1], np.int8), joined.numpy()), shape=(total, total))
    return torch.from_numpy(connected_components(matrix, directed=False)[1]).to(torch.int64)


def _pinned(model: nn.Module, met: Trace, component: Tensor) -> tuple[Tensor, list[str]]:
    """Return for each component the place of the first reason why it must stay, else -1, and the reasons."""
    why, reasons = torch.full((int(component.max()) + 1,), -1), list[str]()

    def pin(ids: Tensor, reason: str) -> None:
        pinned = component[ids[ids >= 0]]
        why[pinned[why[pinned] < 0]] = len(reasons)
        reasons.append(reason)

    for pinned in met.pins:
        pin(pinned.ids, pinned.reason)
    for row in _layer_ties(model, met):
        mixed = row[(row < 0).any(1)]
        pin(mixed.flatten(), "in its layer it hangs together with a channel that must stay")
    for name, reason in {**_shared(model), **_unreplaceable(model), **met.pinned_layers}.items():
        for call in (call for call in met.calls if call.layer == name):
            pin(torch.cat([call.inputs, call.outputs]), f"layer {name!r}: {reason}")
    for call in met.calls:
        for side in (call.inputs, call.outputs):
            if bool((side >= 0).all()) and len(set(component[side].tolist())) == 1:
                pin(side, f"all {len(side)} channels of {call.layer!r} hang together")
    for name, ids in met.free.items():
        left = component[ids]
        left[why[left] >= 0] = -1
        if len(varying_dims(left)) > 1:
            pin(ids, f"they lie along several dimensions of {name!r}")
    return why, reasons


def _shared(model: nn.Module) -> dict[str, str]:
    """Tell which layers share a parameter with others."""
    owners: dict[int, list[str]] = {}
    for name, module in model.named_modules():
        for parameter in module.parameters(recurse=False):
            owners.setdefault(id(parameter), []).append(name)
    shared = [names for names in owners.values() if len(names) > 1]
    return {
        name: f"its parameters are shared by {' and '.join(map(repr, names))}" for names in shared for name in names
    }


def _unreplaceable(model: nn.Module) -> dict[str, str]:
    found = {
        name: known_layers.reason_to_stay(module)
        for name, module in model.named_modules()
        if known_layers.is_known(module)
    }
    return {name: reason for name, reason in found.items() if reason is not None}


def _ordered(component: Tensor, stays: Tensor, makers: list[Tensor], total: int) -> tuple[Tensor, list[range]]:
    """Assign numbers to the components that can go, group by group, in the order in which their channels are made."""
    sets = len(stays)
    edges, first = list[tuple[Tensor, Tensor]](), torch.full((sets,), total)
    for place, outputs in enumerate(makers):
        made = component[outputs]
        first.scatter_reduce_(0, made, outputs, "amin")
        made = made[~stays[made]]
        edges.append((made, torch.full_like(made, sets + place)))
    group = _components(sets + len(makers), edges)[:sets]
    removable = (~stays & (first < total)).nonzero().flatten()
    start = torch.full((sets + len(makers),), total).scatter_reduce_(0, group[removable], first[removable], "amin")
    # No two groups start with the same channel.
    order = removable[torch.from_numpy(np.lexsort((first[removable], start[group[removable]])))]
    number = torch.full((sets,), -1)
    number[order] = torch.arange(len(order))
    sizes = Counter(group[order].tolist()).values()
    return number[component], [range(begin, end) for begin, end in pairwise([0, *accumulate(sizes)])]
