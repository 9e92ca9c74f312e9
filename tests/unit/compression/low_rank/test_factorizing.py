import copy

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from random_networks import (
    DTYPES,
    assert_close,
    assert_exportable,
    assert_trainable_and_savable,
    convolutions,
    dense_convolution,
    effective_kernel,
    images,
    networks,
)
from torch import nn
from torch.nn.utils import parametrizations, prune
from torchvision.models.video.swin_transformer import SwinTransformer3d

from compression.cost import parameter_count
from compression.low_rank.factorization import Factorization, full_ranks, schemes_of, weight_count
from compression.low_rank.factorizing import factorizable_layers, factorize, factorize_layer, left_dense
from compression.low_rank.rank_allocation import plan_for_energy
from compression.low_rank.uniform import factorize_to_budget

properties = settings(deadline=None, max_examples=40)
any_convolution = convolutions(groups=st.integers(1, 3), dtypes=DTYPES)


@st.composite
def factorizations(draw, layer):
    scheme = draw(st.sampled_from(schemes_of(layer)))
    return Factorization(scheme, tuple(draw(st.integers(1, full)) for full in full_ranks(layer, scheme)))


def at_full_ranks(draw, layer):
    scheme = draw(st.sampled_from(schemes_of(layer)))
    return Factorization(scheme, full_ranks(layer, scheme))


@given(any_convolution, st.data())
@properties
def test_factors_compute_a_convolution_of_their_product_with_the_layers_geometry(conv, data):
    factorization = data.draw(factorizations(conv))
    factors = factorize_layer(conv, factorization)
    dense = dense_convolution(conv, effective_kernel(factors, conv), conv.bias)
    inputs = torch.randn(2, conv.in_channels, 6, 7, dtype=conv.weight.dtype)
    assert_close(factors(inputs), dense(inputs))
    biases = 0 if conv.bias is None else conv.out_channels
    assert parameter_count(factors) == weight_count(conv, factorization) + biases


@given(any_convolution, st.data())
@properties
def test_at_full_ranks_factors_compute_what_the_layer_does(conv, data):
    factors = factorize_layer(conv, at_full_ranks(data.draw, conv))
    inputs = torch.randn(2, conv.in_channels, 6, 7, dtype=conv.weight.dtype)
    assert_close(factors(inputs), conv(inputs))


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("scheme", ["spatial", "tucker", "cp"])
def test_named_paddings_are_kept(scheme, padding):
    conv = nn.Conv2d(4, 6, 3, padding=padding, dilation=2, dtype=torch.float64)
    factors = factorize_layer(conv, Factorization(scheme, full_ranks(conv, scheme)))
    inputs = torch.randn(1, 4, 9, 8, dtype=torch.float64)
    assert_close(factors(inputs), conv(inputs))


@pytest.mark.parametrize(
    ("layer", "factorization"),
    [
        (nn.Linear(5, 4), Factorization("svd", (2,))),
        (nn.Conv2d(5, 4, 1), Factorization("svd", (2,))),
        (nn.Conv2d(5, 4, 3), Factorization("spatial", (2,))),
        (nn.Conv2d(5, 4, 3), Factorization("tucker", (2, 3))),
        (nn.Conv2d(5, 4, 3), Factorization("cp", (2,))),
    ],
)
def test_flags_are_kept_the_layer_untouched_and_no_random_number_drawn(layer, factorization):
    layer.eval()
    layer.weight.requires_grad_(False)
    before, state = copy.deepcopy(layer.state_dict()), torch.get_rng_state()
    factors = factorize_layer(layer, factorization)
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(module.training for module in factors.modules())
    assert [p.requires_grad for p in factors.parameters()] == [False] * len(factors) + [True]
    with torch.no_grad():
        for parameter in factors.parameters():
            parameter.zero_()
    assert all(torch.equal(tensor, before[name]) for name, tensor in layer.state_dict().items())


@pytest.mark.slow
@given(networks(), st.data())
@settings(deadline=None, max_examples=15)
def test_a_network_at_full_ranks_computes_what_it_did(model, data):
    plan = {name: at_full_ranks(data.draw, layer) for name, layer in factorizable_layers(model).items()}
    with torch.no_grad():
        assert_close(factorize(model, plan)(images()), model(images()))


@pytest.mark.slow
@given(networks(), st.data())
@settings(deadline=None, max_examples=10)
def test_a_network_can_still_be_trained_and_saved(model, data):
    plan = {name: data.draw(factorizations(layer)) for name, layer in factorizable_layers(model).items()}
    other = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.uniform_(-1, 1)
    assert_trainable_and_savable(factorize(model, plan), factorize(other, plan))


@given(networks(), st.data())
@settings(deadline=None, max_examples=2)
def test_a_network_can_still_be_exported(model, data):
    plan = {name: data.draw(factorizations(layer)) for name, layer in factorizable_layers(model).items()}
    assert_exportable(factorize(model, plan))


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.third = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
        self.second.weight = self.first.weight


def hooked_layer():
    layer = nn.Linear(4, 4)
    layer.register_forward_hook(lambda module, inputs, output: output)
    return layer


def test_what_stays_dense_is_named_with_the_reason():
    model = nn.ModuleDict(
        {
            "conv": nn.Conv2d(3, 4, 3),
            "norm": nn.BatchNorm2d(4),
            "up": nn.ConvTranspose2d(4, 4, 2),
            "tied": Tied(),
            "attention": nn.MultiheadAttention(4, 2),
            "encoder": nn.TransformerEncoderLayer(4, 2, 8),
            "pruned": prune.l1_unstructured(nn.Linear(4, 4), "weight", 0.5),
            "spectral": parametrizations.spectral_norm(nn.Linear(4, 4)),
            "hooked": hooked_layer(),
            "recurrent": nn.LSTM(4, 4),
            "skipped": nn.Sequential(nn.Linear(4, 4), nn.GRUCell(4, 4)),
        }
    )
    assert list(factorizable_layers(model, skip=["skipped"])) == ["conv", "tied.third"]
    assert left_dense(model, skip=["skipped"]) == {
        "up": "is a ConvTranspose2d, not a Linear or Conv2d",
        "tied.first": "shares its weight with another layer",
        "tied.second": "shares its weight with another layer",
        "attention.in_proj_weight": "belongs to a MultiheadAttention, not a Linear or Conv2d",
        "attention.out_proj": "is a NonDynamicallyQuantizableLinear, not a Linear or Conv2d",
        "encoder.self_attn.in_proj_weight": "belongs to a MultiheadAttention, not a Linear or Conv2d",
        "encoder.self_attn.out_proj": "is a NonDynamicallyQuantizableLinear, not a Linear or Conv2d",
        "encoder.linear1": "belongs to a TransformerEncoderLayer, which reads its weight",
        "encoder.linear2": "belongs to a TransformerEncoderLayer, which reads its weight",
        "pruned": "computes its weight",
        "spectral": "is a ParametrizedLinear, not a Linear or Conv2d",
        "hooked": "has hooks, which would be lost",
        "recurrent.weight_ih_l0": "belongs to a LSTM, not a Linear or Conv2d",
        "recurrent.weight_hh_l0": "belongs to a LSTM, not a Linear or Conv2d",
        "skipped.0": "is to be skipped",
        "skipped.1.weight_ih": "is to be skipped",
        "skipped.1.weight_hh": "is to be skipped",
    }


class Positioned(nn.Module):
    """Holds a parameter beside its children, and one that is computed."""

    def __init__(self):
        super().__init__()
        self.offsets, self.embedding = nn.Parameter(torch.zeros(1, 4)), nn.Embedding(8, 4)
        self.cell = parametrizations.weight_norm(nn.RNNCell(4, 4), "weight_ih")


def test_every_matrix_is_that_of_a_layer_or_named_itself():
    model = Positioned()
    reasons = left_dense(model)
    assert list(reasons) == [
        "embedding",
        "offsets",
        "cell.weight_hh",
        "cell.parametrizations.weight_ih.original0",
        "cell.parametrizations.weight_ih.original1",
    ]
    assert reasons["offsets"] == "belongs to a Positioned, not a Linear or Conv2d"
    assert list(left_dense(nn.LSTM(4, 4))) == ["weight_ih_l0", "weight_hh_l0"]
    assert left_dense(parametrizations.spectral_norm(nn.Linear(4, 4))).keys() == {""}


@pytest.mark.parametrize(("kind", "axes"), [(torchvision.models.SwinTransformer, 2), (SwinTransformer3d, 3)])
def test_attention_that_reads_its_weights_stays_dense_and_the_rest_runs(kind, axes):
    torch.manual_seed(0)
    model = kind([4] * axes, 16, [1, 1], [2, 2], [4] * axes, num_classes=3).eval()
    attention = {name for name, _ in model.named_modules() if name.endswith(("attn.qkv", "attn.proj"))}
    left = left_dense(model)
    assert attention == {name for name, reason in left.items() if "which reads its weight" in reason}
    inputs = torch.randn(2, 3, *[32] * axes)
    for small in (factorize(model, plan_for_energy(model, 0.7)), factorize_to_budget(model, 16_000)):
        assert parameter_count(small) < parameter_count(model)
        assert small(inputs).isfinite().all()


class ReadsItsWeight(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.ModuleDict({"last": nn.Linear(8, 8)})

    def forward(self, features):
        return self.head["last"](features.to(self.head["last"].weight.dtype))


def test_a_model_that_reads_what_a_layer_has_no_more_says_which_and_what_to_do():
    small = factorize(ReadsItsWeight(), {"head.last": Factorization("svd", (2,))})
    message = "layer 'head.last' was replaced by several, which have no 'weight': .* leave it out of the plan, or"
    for model in (small, copy.deepcopy(small)):
        with pytest.raises(AttributeError, match=message):
            model(torch.randn(2, 8))
    assert not hasattr(small.head["last"], "in_features")


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ({"9": Factorization("svd", (1,))}, "layer '9' can't be factorized: it has no weight to factorize"),
        ({"1": Factorization("svd", (1,))}, "layer '1' can't be factorized: it has no weight"),
        ({"2": Factorization("svd", (1,))}, "layer '2' can't be factorized: it is a ConvTranspose2d"),
        ({"0": Factorization("svd", (1,))}, r"layer '0': Conv2d.* can't have the scheme 'svd'; it can have spatial"),
        ({"0": Factorization("spatial", (0,))}, "layer '0': rank is 0; from 1 to 9 is possible"),
        ({"0": Factorization("spatial", (10,))}, "layer '0': rank is 10; from 1 to 9"),
        ({"0": Factorization("tucker", (5, 1))}, "layer '0': r_out is 5; from 1 to 4"),
        ({"0": Factorization("tucker", (1, 4))}, "layer '0': r_in is 4; from 1 to 3"),
        ({"0": Factorization("tucker", (1,))}, r"layer '0': Conv2d.* takes r_out and r_in; got ranks \(1,\)"),
        ({"0": Factorization("cp", (28,))}, "layer '0': rank is 28; from 1 to 27"),
        ({"3": Factorization("svd", (1,))}, "layer '3': the weight of Linear.* not finite"),
    ],
)
def test_an_impossible_plan_is_an_error_that_names_the_layer(plan, message):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.ConvTranspose2d(4, 4, 2), nn.Linear(4, 4))
    with torch.no_grad():
        model[3].weight[0, 0] = float("inf")
    with pytest.raises(ValueError, match=message):
        factorize(model, plan)
