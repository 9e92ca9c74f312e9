"""Small networks drawn by hypothesis: strides, dilation, groups, missing biases, residual and concatenating graphs."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from hypothesis import strategies as st
from torch import Tensor, nn


@dataclass(frozen=True)
class BlockPlan:
    kind: str
    kernel: int
    stride: int
    dilation: int
    groups: int
    bias: bool
    norm: bool
    factor: int


@dataclass(frozen=True)
class NetworkPlan:
    blocks: tuple[BlockPlan, ...]
    size: int
    seed: int


block_plans = st.builds(
    BlockPlan,
    kind=st.sampled_from(["chain", "residual", "concat"]),
    kernel=st.sampled_from([1, 2, 3]),
    stride=st.integers(1, 2),
    dilation=st.integers(1, 2),
    groups=st.sampled_from([1, 2, 4]),
    bias=st.booleans(),
    norm=st.booleans(),
    factor=st.integers(1, 2),
)
network_plans = st.builds(
    NetworkPlan,
    blocks=st.lists(block_plans, min_size=1, max_size=3).map(tuple),
    size=st.sampled_from([1, 5, 8]),
    seed=st.integers(0, 1000),
)


class Block(nn.Module):
    def __init__(self, plan: BlockPlan, inputs: int) -> None:
        super().__init__()
        self.kind = plan.kind
        outputs = inputs if plan.kind == "residual" else 4 * plan.factor
        stride = 1 if plan.kind == "residual" else plan.stride
        kernel = 1 if plan.kind == "residual" else plan.kernel
        self.conv = nn.Conv2d(
            inputs, outputs, kernel, stride, plan.dilation * (kernel // 2), plan.dilation, plan.groups, plan.bias
        )
        self.norm = nn.BatchNorm2d(outputs) if plan.norm else nn.Identity()
        self.act = nn.ReLU()
        self.other = nn.Conv2d(inputs, 4, kernel, stride, plan.dilation * (kernel // 2), plan.dilation)
        self.outputs = outputs + (4 if plan.kind == "concat" else 0)

    def forward(self, inputs: Tensor) -> Tensor:
        main = self.act(self.norm(self.conv(inputs)))
        if self.kind == "residual":
            return main + inputs
        return torch.cat([main, self.other(inputs)], dim=1) if self.kind == "concat" else main


class Network(nn.Module):
    def __init__(self, blocks: Sequence[BlockPlan]) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 1)
        layers: list[Block] = []
        for plan in blocks:
            layers.append(Block(plan, layers[-1].outputs if layers else 4))
        self.blocks = nn.Sequential(*layers)
        self.head = nn.Linear(layers[-1].outputs, 5)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(inputs)).mean(dim=(2, 3)))


def draw_network(plan: NetworkPlan) -> tuple[Network, Tensor]:
    """A network in evaluation mode, none of whose BatchNorms is the identity, and inputs."""
    generator = torch.Generator().manual_seed(plan.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed)
        network = Network(plan.blocks)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.bias.data, module.running_mean):
                tensor.copy_(torch.randn(tensor.shape, generator=generator))
            module.running_var.copy_(torch.rand(module.running_var.shape, generator=generator) + 0.5)
    # Blocks of kinds other than concat never call `other`.
    for block in network.blocks:
        if block.kind != "concat":
            block.other = nn.Identity()
    return network.eval(), torch.randn(3, 3, plan.size, plan.size, generator=generator)
