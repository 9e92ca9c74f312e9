import itertools
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from compression.packing.bits import packed_size
from compression.packing.model_file import model_tensors
from compression.packing.tensors import encode_tensors
from compression.quantization import mixed_precision
from compression.quantization.affine import AffineSpec
from compression.quantization.fake import quantize_each, quantize_weights
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
    assert sum(choice.loss for choice in chosen) == pytest.approx(optimum, rel=1e-9, abs=1e-9)


@given(
    st.lists(
        st.lists(st.tuples(st.integers(1, 60), st.integers(-4, 4)), min_size=1, max_size=4), min_size=1, max_size=5
    ),
    st.integers(1, 250),
)
@settings(deadline=None, max_examples=100)
def test_small_losses_count_beside_huge_ones(table, budget):
    choices = {
        f"layer{index}": [Choice(bits, size, 10.0**power) for bits, (size, power) in enumerate(options, 2)]
        for index, options in enumerate(table)
    }
    optimum = brute_force(choices, budget)
    if optimum is not None:
        bits = choose_bits(choices, budget)
        chosen = [next(option for option in choices[name] if option.bits == bits[name]) for name in choices]
        assert sum(choice.size for choice in chosen) <= budget
        assert sum(choice.loss for choice in chosen) == pytest.approx(optimum, rel=1e-9)


def test_a_loss_of_ten_million_hides_no_other():
    choices = {
        "a": [Choice(2, 100, 1e7), Choice(4, 200, 0.0)],
        "b": [Choice(2, 100, 0.5), Choice(4, 200, 0.001)],
        "c": [Choice(2, 100, 0.001), Choice(4, 200, 0.0)],
    }
    assert choose_bits(choices, 500) == {"a": 4, "b": 4, "c": 2}


@pytest.mark.parametrize("spec", [AffineSpec(), AffineSpec(symmetric=False), AffineSpec(axis=None)])
def test_sizes_are_those_of_stored_tensors(spec):
    model = nn.Sequential(nn.ConvTranspose2d(4, 16, 3, bias=False))
    for choice in layer_choices(model, (2, 3, 8), lambda _: 0.0, spec)["0"]:
        tensors = model_tensors(quantize_weights(model, replace(spec, bits=choice.bits)))
        _, stored = encode_tensors(tensors, entropy_coded=False)
        assert choice.size == sum(tensor.nbytes for tensor in stored.values())


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


def test_losses_in_proportion_to_bytes_are_an_error_but_for_rounded_sizes(monkeypatch):
    monkeypatch.setattr(mixed_precision, "MOST_COMBINATIONS", 100_000)
    sizes = torch.randint(1000, 100_000, (30,), generator=torch.Generator().manual_seed(0)).tolist()
    choices = {
        f"layer{index}": [Choice(bits, size * bits, -size * bits / 1e6) for bits in (2, 3, 4, 5, 6, 8)]
        for index, size in enumerate(sizes)
    }
    budget = 4 * sum(sizes)
    with pytest.raises(ValueError, match=r"for 30 layers is not found among 100000 combinations.*sizes rounded up"):
        choose_bits(choices, budget)
    units = {name: [-(-choice.size // 8192) for choice in options] for name, options in choices.items()}
    rounded = {
        name: [replace(choice, size=size, loss=-size) for choice, size in zip(choices[name], options, strict=True)]
        for name, options in units.items()
    }
    reachable = {0}
    for options in units.values():
        reachable = {total + size for total in reachable for size in options}
    bits = choose_bits(rounded, budget // 8192)
    taken = sum(next(choice.size for choice in rounded[name] if choice.bits == bits[name]) for name in bits)
    assert taken == max(total for total in reachable if total <= budget // 8192)


def test_a_model_without_layers_needs_no_bits():
    assert choose_bits({}, 0) == {}
