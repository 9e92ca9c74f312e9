"""The smallest sets of channels that can go, and the groups that they form."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor, nn

from compression.pruning import layers
from compression.pruning.channels import varying_dims
from compression.pruning.record import Trace


@dataclass(frozen=True, eq=False)
class Numbering:
    """The units of a traced model.

    Attributes:
        of_id: int64: for each channel id its unit, -1 if it must stay.
        groups: The units of each group.
        reason: Of a channel id, why it must stay.
    """

    of_id: Tensor
    groups: list[range]
    reason: Callable[[Tensor], str]

    def units(self, ids: Tensor) -> Tensor:
        """The unit of each id, in its shape."""
        return torch.where(ids >= 0, self.of_id[ids.clamp(min=0)], -1)


def number_units(model: nn.Module, met: Trace) -> Numbering:
    """Joins what hangs together to units, and units that one layer makes to groups.

    Args:
        model: The traced one.
        met: What was met in it.
    """
    ids = [*met.outputs.values(), *met.free.values()]
    total = 1 + max((int(part.max()) for part in ids if part.numel()), default=0)
    edges = [(tie.first, tie.second) for tie in met.ties]
    edges += [(row[:, :1].expand(row.shape), row) for row in _layer_ties(model, met)]
    component = _components(total, edges)
    reasons = _pinned(model, met, component)
    makers = [(name, outputs) for name, outputs in met.outputs.items() if not _carries(model, name)]
    units, groups = _ordered(component, reasons, [outputs for _, outputs in makers], total)
    return Numbering(units, groups, lambda one: reasons.get(int(component[one]), "no layer makes its channels"))


def _carries(model: nn.Module, name: str) -> bool:
    """Whether each channel out is tied to one that comes in, as in a depthwise convolution."""
    return layers.gives_up_groups(model.get_submodule(name))


def _layer_ties(model: nn.Module, met: Trace) -> Iterator[Tensor]:
    """Rows of channels that hang together within a layer, or because it is called more than once."""
    first: dict[str, Tensor] = {}
    for call in met.calls:
        before = first.setdefault(call.layer, call.inputs)
        if before is not call.inputs:
            yield torch.stack([before, call.inputs], 1)
        yield from layers.tied_rows(
            model.get_submodule(call.layer), call.inputs, met.outputs.get(call.layer, call.inputs)
        )


def _components(total: int, edges: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """The connected component of each channel; of pairs with a channel that can't go, `_pinned` takes care."""
    pairs = [torch.stack([first.flatten(), second.flatten()]) for first, second in edges]
    joined = torch.cat(pairs, 1) if pairs else torch.empty(2, 0, dtype=torch.int64)
    joined = joined[:, (joined >= 0).all(0)]
    matrix = coo_array((np.ones(joined.shape[1], np.int8), joined.numpy()), shape=(total, total))
    return torch.from_numpy(connected_components(matrix, directed=False)[1]).to(torch.int64)


def _pinned(model: nn.Module, met: Trace, component: Tensor) -> dict[int, str]:
    """The components that must stay, with the reason of the first channel found so."""
    reasons: dict[int, str] = {}

    def pin(ids: Tensor, reason: str) -> None:
        for one in set(component[ids[ids >= 0]].tolist()):
            reasons.setdefault(one, reason)

    for pinned in met.pins:
        pin(pinned.ids, pinned.reason)
    for row in _layer_ties(model, met):
        mixed = row[(row < 0).any(1)]
        pin(mixed.flatten(), "in its layer it hangs together with a channel that must stay")
    for name, reason in {**_shared(model), **_unreplaceable(model), **met.pinned_layers}.items():
        for call in (call for call in met.calls if call.layer == name):
            pin(torch.cat([call.inputs, met.outputs.get(name, call.inputs)]), f"layer {name!r}: {reason}")
    for call in met.calls:
        for side in (call.inputs, met.outputs.get(call.layer, call.inputs)):
            if bool((side >= 0).all()) and len(set(component[side].tolist())) == 1:
                pin(side, f"all {len(side)} channels of {call.layer!r} hang together")
    for name, ids in met.free.items():
        left = component[ids].clone()
        left[torch.isin(left, _as_ids(reasons))] = -1
        if len(varying_dims(left)) > 1:
            pin(ids, f"they lie along several dimensions of {name!r}")
    return reasons


def _as_ids(numbers: Iterable[int]) -> Tensor:
    return torch.tensor(list(numbers), dtype=torch.int64)


def _shared(model: nn.Module) -> dict[str, str]:
    """Layers whose parameter is another's, too."""
    owners: dict[int, list[str]] = {}
    for name, module in model.named_modules():
        for parameter in module.parameters(recurse=False):
            owners.setdefault(id(parameter), []).append(name)
    shared = [names for names in owners.values() if len(names) > 1]
    return {
        name: f"its parameters are shared by {' and '.join(map(repr, names))}" for names in shared for name in names
    }


def _unreplaceable(model: nn.Module) -> dict[str, str]:
    found = {name: layers.reason_to_stay(module) for name, module in model.named_modules() if layers.is_known(module)}
    return {name: reason for name, reason in found.items() if reason is not None}


def _ordered(
    component: Tensor, reasons: Mapping[int, str], makers: list[Tensor], total: int
) -> tuple[Tensor, list[range]]:
    """Numbers the components that can go, group by group, in the order of the channels that are made first."""
    sets, staying = int(component.max()) + 1, _as_ids(reasons)
    edges, first = list[tuple[Tensor, Tensor]](), torch.full((sets,), total)
    for place, outputs in enumerate(makers):
        made = component[outputs]
        made = made[~torch.isin(made, staying)]
        edges.append((made, torch.full_like(made, sets + place)))
        first.scatter_reduce_(0, component[outputs], outputs, "amin")
    group = _components(sets + len(makers), edges)[:sets].tolist()
    made_first = first.tolist()
    removable = [one for one in range(sets) if one not in reasons and made_first[one] < total]
    start: dict[int, int] = {}
    for one in removable:
        start[group[one]] = min(start.get(group[one], total), made_first[one])
    order = sorted(removable, key=lambda one: (start[group[one]], made_first[one]))
    number = torch.full((sets,), -1)
    number[order] = torch.arange(len(order))
    sizes = Counter(group[one] for one in order)
    stops = [0, *accumulate(sizes[at] for at in sorted(sizes, key=start.__getitem__))]
    return number[component], [range(begin, end) for begin, end in pairwise(stops)]
