import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from compression.packing.bits import packed_size
from compression.quantization.affine import AffineSpec
from compression.quantization.fake import quantize_each
from compression.quantization.mixed_precision import Choice, choose_bits, layer_choices

tables = st.lists(
    st.lists(st.tuples(st.integers(1, 60), st.floats(-1, 10, width=32)), min_size=1, max_size=4),
    min_size=1,
    max_size=4,
)


def brute_force(choices, budget):
    totals = [
        sum(choice.loss for choice in combination)
        for combination in itertools.product(*choices.values())
        if sum(choice.size for choice in combination) <= budget
    ]
    return min(totals, default=None)


@given(tables, st.integers(1, 200))
@settings(deadline=None, max_examples=50)
def test_the_choice_is_the_optimum_of_all_combinations(table, budget):
    choices = {
        f"layer{index}": [Choice(bits, size, loss) for bits, (size, loss) in enumerate(options, 2)]
        for index, options in enumerate(table)
    }
    optimum = brute_force(choices, budget)
    if optimum is None:
        with pytest.raises(ValueError, match=f"the budget is {budget} bytes; the smallest choices already take"):
            choose_bits(choices, budget)
        return
    bits = choose_bits(choices, budget)
    chosen = [next(option for option in choices[name] if option.bits == bits[name]) for name in choices]
    assert sum(choice.size for choice in chosen) <= budget
    assert sum(choice.loss for choice in chosen) == pytest.approx(optimum, abs=1e-5)


def test_a_tiny_network_gets_the_bits_that_trying_all_would_give():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 4), nn.Linear(4, 2))
    inputs = torch.randn(32, 6)
    targets = model(inputs).detach()

    def loss(candidate):
        return (candidate(inputs) - targets).square().mean().item()

    choices = layer_choices(model, (2, 4, 8), loss)
    budget = 120
    bits = choose_bits(choices, budget)
    assert sum(next(c.size for c in choices[name] if c.bits == bits[name]) for name in bits) <= budget
    best = brute_force(choices, budget)
    assert sum(next(c.loss for c in choices[n] if c.bits == bits[n]) for n in bits) == pytest.approx(best, rel=1e-6)
    for name, options in choices.items():
        weight = model.get_submodule(name).weight
        assert [c.size for c in options] == [packed_size(b, weight.numel()) + 4 * len(weight) for b in (2, 4, 8)]
        alone = quantize_each(model, {name: AffineSpec(2)})
        assert options[0].loss == pytest.approx(loss(alone))


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"a": []}, "layer 'a' has no choices"),
        ({"a": [Choice(4, 1, float("nan"))]}, "layer 'a' at 4 bits has loss nan"),
    ],
)
def test_choices_that_decide_nothing_are_an_error(choices, message):
    with pytest.raises(ValueError, match=message):
        choose_bits(choices, 100)


def test_a_model_without_layers_needs_no_bits():
    assert choose_bits({}, 0) == {}
