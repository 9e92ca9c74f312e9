import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from compression.cost import parameter_count
from compression.pruning import ChannelGroup, mask, prune, scaled_width, select_channels, top_channels

STUDENT_CHANNELS = (16, 32, 64, 128, 256, 256, 256, 256)
REPORTED = {
    0.95: (236066, 217850, 200354, 185091, 171606),
    0.9: (216518, 183578, 156084, 132858, 114810),
}
properties = settings(deadline=None, max_examples=25)


def student_groups():
    """Channels between blocks 3 and 7: each block's inputs, scored by its BatchNorm."""
    return tuple(
        ChannelGroup(
            scored_by=f"blocks.{k}.1",
            produced_by=(f"blocks.{k - 1}.3",),
            carried_by=(f"blocks.{k}.0", f"blocks.{k}.1"),
            consumed_by=(f"blocks.{k}.3",),
        )
        for k in range(4, 8)
    )


def plain_model():
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 5, 3, padding=1),
        nn.BatchNorm2d(5),
        nn.Sigmoid(),
        nn.Conv2d(5, 4, 1),
    )
    return model, (ChannelGroup("1", ("0",), ("1",), ("3",)), ChannelGroup("4", ("3",), ("4",), ("6",)))


def flattened_model():
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU6(),
        nn.Flatten(),
        nn.Linear(6 * 4 * 4, 7),
        nn.BatchNorm1d(7),
        nn.Sigmoid(),
        nn.Linear(7, 3),
    )
    return model, (ChannelGroup("1", ("0",), ("1",), ("4",)), ChannelGroup("5", ("4",), ("5",), ("7",)))


class TwoHeads(nn.Module):
    """Two producers that are added, a depthwise layer, and two consumers of the sum."""

    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 6, 1), nn.Conv2d(3, 6, 3, padding=1)
        self.norm, self.depthwise = nn.BatchNorm2d(6), nn.Conv2d(6, 6, 3, padding=1, groups=6)
        self.plain = nn.BatchNorm2d(6, affine=False)
        self.conv, self.linear = nn.Conv2d(6, 2, 3, padding=1), nn.Linear(6, 2)

    def forward(self, images):
        hidden = torch.sigmoid(self.norm(self.left(images) + self.right(images)))
        hidden = self.plain(self.depthwise(hidden))
        return self.conv(hidden).mean((2, 3)) + self.linear(hidden.mean((2, 3)))


def two_headed_model():
    group = ChannelGroup("norm", ("left", "right"), ("norm", "depthwise", "plain"), ("conv", "linear"))
    return TwoHeads(), (group,)


def randomized(model, seed):
    """Non-trivial parameters and statistics, in float64, so that only real differences show."""
    generator = torch.Generator().manual_seed(seed)
    model = model.double().eval()
    for name, tensor in model.state_dict().items():
        if name.endswith("running_var"):
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
        elif tensor.is_floating_point():
            scale = 1 / np.sqrt(max(1, tensor[0].numel())) if tensor.ndim > 1 else 1.0
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * scale)
    return model


def images(shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def assert_mask_equals_cut(model, groups, kept, inputs):
    masked, cut = mask(model, groups, kept), prune(model, groups, kept)
    assert [p.shape for p in masked.parameters()] == [p.shape for p in model.parameters()]
    with torch.no_grad():
        torch.testing.assert_close(cut(inputs), masked(inputs), rtol=1e-9, atol=1e-9)
    return masked, cut


def some_channels(total):
    return st.sets(st.integers(0, total - 1), min_size=1).map(lambda chosen: torch.tensor(sorted(chosen)))


@given(st.integers(0, 2**31), st.sampled_from([plain_model, flattened_model, two_headed_model]), st.data())
@properties
def test_the_masked_and_the_cut_model_compute_the_same(seed, build, data):
    model, groups = build()
    model = randomized(model, seed)
    widths = [model.get_submodule(group.scored_by).num_features for group in groups]
    kept = [data.draw(some_channels(width)) for width in widths]
    assert_mask_equals_cut(model, groups, kept, images((2, 3, 6, 6), seed))


@given(st.integers(0, 2**31), st.lists(st.integers(1, 12), min_size=8, max_size=8), st.data())
@properties
def test_the_masked_and_the_cut_student_compute_the_same(build_student, seed, channels, data):
    model = randomized(build_student(channels, classes=4), seed)
    counts = [data.draw(st.integers(1, channels[k])) for k in range(3, 7)]
    kept = select_channels(model, student_groups(), counts)
    _, cut = assert_mask_equals_cut(model, student_groups(), kept, images((2, 3, 16, 16), seed))
    assert parameter_count(cut) == parameter_count(build_student((*channels[:3], *counts, channels[7]), classes=4))


def test_a_dropped_beta_would_be_seen():
    # A cut that lost the kept channels' beta, or a mask that left the dropped ones', differs from the other.
    model, groups = plain_model()
    model = randomized(model, 3)
    kept = [torch.tensor([0, 2, 5]), torch.tensor([1, 3])]
    masked, cut = assert_mask_equals_cut(model, groups, kept, images((2, 3, 6, 6)))
    for norm, index, group in ((cut[1], kept[0], "1"), (cut[4], kept[1], "4")):
        assert torch.equal(norm.bias, model.get_submodule(group).bias[index])
    inputs = images((2, 3, 6, 6))
    reference = masked(inputs)
    with torch.no_grad():
        cut[4].bias.zero_()
    assert (cut(inputs) - reference).abs().max() > 0.01


def test_masked_channels_contribute_nothing_even_if_something_follows_the_scoring_layer():
    model, groups = two_headed_model()
    model = randomized(model, 4)
    masked = mask(model, groups, [torch.tensor([0, 3])])
    inputs = images((2, 3, 6, 6))
    before = masked(inputs)
    dropped = [1, 2, 4, 5]
    assert not masked.norm.weight[dropped].any()
    assert not masked.norm.bias[dropped].any()
    with torch.no_grad():
        masked.depthwise.bias[dropped] += 7
        masked.plain.running_mean[dropped] -= 5
    assert torch.equal(masked(inputs), before)


def test_every_tensor_is_the_kept_part_of_the_original():
    model, groups = flattened_model()
    model = randomized(model, 5)
    first, second = torch.tensor([1, 4]), torch.tensor([0, 2, 6])
    cut = prune(model, groups, [first, second])
    features = torch.tensor([channel * 16 + position for channel in (1, 4) for position in range(16)])
    assert torch.equal(cut[0].weight, model[0].weight[first])
    assert torch.equal(cut[4].weight, model[4].weight[second][:, features])
    assert torch.equal(cut[4].bias, model[4].bias[second])
    assert torch.equal(cut[7].weight, model[7].weight[:, second])
    assert torch.equal(cut[7].bias, model[7].bias)
    for name in ("weight", "bias", "running_mean", "running_var"):
        assert torch.equal(getattr(cut[1], name), getattr(model[1], name)[first])
        assert torch.equal(getattr(cut[5], name), getattr(model[5], name)[second])


def test_the_sizes_that_layers_state_follow():
    model, groups = two_headed_model()
    cut = prune(model, groups, [torch.tensor([0, 2, 5])])
    assert (cut.left.out_channels, cut.right.out_channels, cut.left.in_channels) == (3, 3, 3)
    depthwise = cut.depthwise
    assert (depthwise.in_channels, depthwise.out_channels, depthwise.groups) == (3, 3, 3)
    assert (cut.norm.num_features, cut.plain.num_features) == (3, 3)
    assert (cut.conv.in_channels, cut.conv.out_channels, cut.linear.in_features) == (3, 2, 3)
    flat, flat_groups = flattened_model()
    cut = prune(flat, flat_groups, [torch.tensor([0]), torch.tensor([1, 2])])
    assert (cut[4].in_features, cut[4].out_features, cut[7].in_features) == (16, 2, 2)


def test_the_original_is_untouched():
    model, groups = plain_model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    kept = [torch.tensor([0]), torch.tensor([1])]
    for other in (prune(model, groups, kept), mask(model, groups, kept)):
        with torch.no_grad():
            for tensor in other.state_dict().values():
                tensor.zero_()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_dtype_flags_and_gradients_asked_for_are_kept():
    model, groups = plain_model()
    model = model.double()
    model[1].eval()
    model[3].weight.requires_grad_(False)
    cut = prune(model, groups, [torch.tensor([0, 1]), torch.tensor([1])])
    assert [module.training for module in cut.modules()] == [module.training for module in model.modules()]
    assert [p.requires_grad for p in cut.parameters()] == [p.requires_grad for p in model.parameters()]
    assert {p.dtype for p in cut.parameters()} == {torch.float64}
    assert [name for name, _ in cut.named_parameters()] == [name for name, _ in model.named_parameters()]
    assert cut.state_dict().keys() == model.state_dict().keys()


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_the_memory_format_is_kept(memory_format):
    model, groups = two_headed_model()
    cut = prune(model.to(memory_format=memory_format), groups, [torch.tensor([0, 2, 3, 5])])
    for name in ("left", "right", "depthwise", "conv"):
        weight = cut.get_submodule(name).weight
        expected = weight.detach().clone().contiguous().to(memory_format=memory_format)
        assert weight.is_contiguous(memory_format=memory_format), name
        assert weight.stride() == expected.stride(), name


def test_the_cut_model_trains():
    model, groups = plain_model()
    cut = prune(model, groups, [torch.tensor([0, 4]), torch.tensor([1, 2])])
    cut(torch.randn(2, 3, 6, 6)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in cut.parameters())


def test_pruning_can_be_repeated():
    model, groups = plain_model()
    model = randomized(model, 6)
    once = prune(model, groups, [torch.tensor([0, 2, 5]), torch.tensor([1, 3, 4])])
    twice = prune(once, groups, [torch.tensor([1, 2]), torch.tensor([0, 2])])
    direct = prune(model, groups, [torch.tensor([2, 5]), torch.tensor([1, 4])])
    assert all(map(torch.equal, twice.state_dict().values(), direct.state_dict().values()))


@pytest.mark.parametrize("rate", REPORTED)
def test_the_reported_parameter_counts_come_out(build_student, rate):
    counted = []
    for step in range(1, 6):
        widths = [scaled_width(width, rate**step) for width in STUDENT_CHANNELS[3:7]]
        model = build_student()
        kept = select_channels(model, student_groups(), widths)
        counted.append(parameter_count(prune(model, student_groups(), kept)))
    assert tuple(counted) == REPORTED[rate]


@given(
    st.lists(st.sampled_from([-2.0, -0.5, -0.0, 0.0, 0.25, 3.0]) | st.floats(-1, 1), min_size=1, max_size=20),
    st.data(),
)
@properties
def test_top_channels_are_the_largest_signed_gammas_the_lower_index_first(gamma, data):
    count = data.draw(st.integers(1, len(gamma)))
    values = torch.tensor(gamma, dtype=torch.float64)
    expected = sorted(sorted(range(len(gamma)), key=lambda i: (-gamma[i], i))[:count])
    assert top_channels(values, count).tolist() == expected


def test_the_sign_of_gamma_counts_not_its_magnitude():
    assert top_channels(torch.tensor([-9.0, 0.1, -0.2, 0.3]), 2).tolist() == [1, 3]


def test_many_equal_gammas_keep_the_first():
    assert top_channels(torch.ones(256), 100).tolist() == list(range(100))


@pytest.mark.parametrize("count", [0, -1, 4])
def test_a_count_out_of_bounds_names_the_layer(count):
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.Conv2d(3, 1, 1))
    group = ChannelGroup("1", ("0",), ("1",), ("2",))
    with pytest.raises(ValueError, match=f"layer '1': {count} channels to keep of 3; from 1 to 3"):
        select_channels(model, [group], [count])


@pytest.mark.parametrize("gamma", [torch.tensor([1.0, float("nan")]), torch.ones(2, 2)])
def test_a_gamma_that_cannot_be_ranked_is_an_error(gamma):
    with pytest.raises(ValueError, match="must be one-dimensional and without NaN"):
        top_channels(gamma, 1)


def test_scaled_width_truncates():
    assert [scaled_width(256, 0.9**k) for k in range(6)] == [256, 230, 207, 186, 167, 151]


@pytest.mark.parametrize("multiplier", [0.0, 0.2, -1.0, float("nan"), float("inf")])
def test_a_multiplier_that_leaves_no_channel_is_an_error(multiplier):
    with pytest.raises(ValueError, match=f"multiplier {multiplier} leaves no channel of 4"):
        scaled_width(4, multiplier)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (torch.tensor([], dtype=torch.int64), "at least one index"),
        (torch.tensor([0.0]), "kept channels are torch.float32"),
        (torch.tensor([[0]]), r"of shape \(1, 1\)"),
        (torch.tensor(0), r"of shape \(\)"),
        (torch.tensor([1, 0]), "must ascend without repeats, from 0 to 5"),
        (torch.tensor([1, 1]), "must ascend without repeats"),
        (torch.tensor([-1, 0]), "must ascend without repeats"),
        (torch.tensor([6]), "from 0 to 5"),
    ],
)
@pytest.mark.parametrize("operation", [prune, mask])
def test_unusable_indices_are_an_error_that_names_the_layer(operation, index, message):
    model, groups = plain_model()
    with pytest.raises(ValueError, match=f"layer '1': .*{message}"):
        operation(model, groups, [index, torch.tensor([0])])


def grouped_model():
    return nn.Sequential(
        nn.Conv2d(4, 4, 1),
        nn.BatchNorm2d(4),
        nn.Conv2d(4, 4, 3, groups=2),
        nn.Conv2d(4, 8, 3, groups=4),
        nn.BatchNorm2d(4, affine=False),
        nn.Linear(6, 2),
        nn.Conv2d(3, 4, 1),
        nn.Conv2d(4, 4, 1),
    )


@pytest.mark.parametrize(
    ("group", "message"),
    [
        (ChannelGroup("9", (), ("9",), ()), "layer '9': the model has no such layer"),
        (ChannelGroup("1", ("x.y",), ("1",), ()), "layer 'x.y': the model has no such layer"),
        (ChannelGroup("0", (), ("0",), ()), "layer '0': .* has no gamma"),
        (ChannelGroup("4", (), ("4",), ()), "layer '4': .* has no gamma"),
        (ChannelGroup("1", ("2",), ("1",), ()), "layer '2': can't cut the outputs of .*groups=2"),
        (ChannelGroup("1", ("1",), ("1",), ()), "layer '1': can't cut the outputs of BatchNorm2d"),
        (ChannelGroup("1", (), ("1",), ("2",)), "layer '2': can't cut the inputs of .*groups=2"),
        (ChannelGroup("1", (), ("1", "2"), ()), "layer '2': can't cut the inputs and outputs"),
        (ChannelGroup("1", (), ("1", "3"), ()), "layer '3': can't cut the inputs and outputs"),
        (ChannelGroup("1", (), ("1",), ("5",)), "layer '5': has 6 inputs; a multiple of 4 is needed"),
        (ChannelGroup("1", (), ("1",), ("6",)), "layer '6': has 3 inputs; 4 is needed"),
        (ChannelGroup("1", ("5",), ("1",), ()), "layer '5': has 2 outputs; 4 is needed"),
        (ChannelGroup("1", ("0", "0"), ("1",), ()), "layer '0': its outputs are in the groups"),
    ],
)
def test_a_group_that_does_not_fit_is_an_error_that_names_the_layer(group, message):
    model = grouped_model()
    for operation in (prune, mask):
        with pytest.raises(ValueError, match=message):
            operation(model, [group], [torch.tensor([0])])


def test_a_layer_in_two_groups_is_an_error():
    model = grouped_model()
    model.append(nn.BatchNorm2d(4))
    groups = [ChannelGroup("1", ("0",), ("1",), ("7",)), ChannelGroup("8", ("0",), ("8",), ())]
    with pytest.raises(ValueError, match="layer '0': its outputs are in the groups scored by '1' and '8'"):
        prune(model, groups, [torch.tensor([0])] * 2)


def test_a_scoring_layer_outside_its_group_is_an_error():
    with pytest.raises(ValueError, match=r"scored_by is 'norm'; it must be one of carried_by \('other',\)"):
        ChannelGroup("norm", (), ("other",), ())


def test_too_few_counts_or_indices_are_an_error():
    model, groups = plain_model()
    with pytest.raises(ValueError, match="1 counts for 2 groups"):
        select_channels(model, groups, [3])
    with pytest.raises(ValueError, match="1 kept for 2 groups"):
        prune(model, groups, [torch.tensor([0])])
