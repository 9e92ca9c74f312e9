from torch import nn

from compression.layers.names import name_within


def test_names_are_those_that_torch_gives():
    model = nn.Sequential(nn.Sequential(nn.Linear(2, 2)))
    names = [
        name_within(owner, tensor)
        for owner, module in (("", nn.Linear(2, 2)), *model.named_modules())
        for tensor, _ in module.named_parameters(recurse=False)
    ]
    assert names == [*dict(nn.Linear(2, 2).named_parameters()), *dict(model.named_parameters())]
