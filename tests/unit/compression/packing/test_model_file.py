import copy

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from networks import IMAGE, TORCHVISION, ChannelsLast, every_other, torchvision_network
from random_graphs import draw_network, network_plans
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations
from torchvision.ops import FrozenBatchNorm2d

from compression.architecture.rewriting import rewrite_grouped, rewrite_separable
from compression.low_rank.factorization import Factorization
from compression.low_rank.factorizing import factorize
from compression.low_rank.svd import factorize_linear
from compression.low_rank.tucker import factorize_tucker
from compression.low_rank.uniform import factorize_to_budget
from compression.packing.container import PackedFileError, read, write
from compression.packing.model_file import load_model, model_tensors, save_model
from compression.packing.state_file import affine, cast, load_state_dict, min_max_bytes, pack_state_dict
from compression.packing.tensors import decode_tensors, encode_tensors
from compression.pruning.allocation import keep_counts
from compression.pruning.criteria import signed_gamma
from compression.pruning.cut import prune
from compression.pruning.graph import channel_graph
from compression.pruning.masking import mask
from compression.quantization.activations import quantize_activations
from compression.quantization.affine import AffineSpec, Grid, quantize_affine
from compression.quantization.bias_correction import correct_biases
from compression.quantization.codebook import share_weights
from compression.quantization.fake import attach_grid, bake, follow_weights, quantize_weights
from compression.quantization.folding import fold_batch_norms
from compression.quantization.ranges import min_max
from compression.quantization.state_dict import quantize


def pruned(model, images):
    graph = channel_graph(model, tuple(images.shape[1:]))
    selection = {group.name: torch.arange((len(group.units) + 1) // 2) for group in graph.groups}
    try:
        return prune(model, graph, selection)
    except ValueError:
        # Groups of a convolution would be left with different numbers of channels.
        assume(False)


def trained(model, images):
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    model(images).square().mean().backward()
    optimizer.step()
    return model


def factorized(model, images):
    shape = model.head.weight.shape
    return replaced_head(model, factorize_linear(model.head, max(1, min(shape) // 2)))


def replaced_head(model, head):
    changed = copy.deepcopy(model)
    changed.head = head
    return changed


def grouped(model, images):
    return rewrite_grouped(model, 2).model


def separable(model, images):
    return rewrite_separable(model).model


STRUCTURE = {
    "group": grouped,
    "separate": separable,
    "prune": pruned,
    "factorize": factorized,
    "fold": lambda model, images: fold_batch_norms(model),
}
QUANTIZATION = {
    "affine": lambda model, images: quantize_weights(model, AffineSpec(4)),
    "asymmetric": lambda model, images: quantize_weights(model, AffineSpec(3, symmetric=False, axis=None)),
    "codebook": lambda model, images: share_weights(model, 3),
    "follow": lambda model, images: follow_weights(quantize_weights(model, AffineSpec(5)), min_max),
    "none": lambda model, images: model,
}
pipelines = st.tuples(
    st.lists(st.sampled_from(sorted(STRUCTURE)), unique=True).filter(lambda steps: "prune" not in steps[1:]),
    st.sampled_from(sorted(QUANTIZATION)),
    st.booleans(),
    st.sampled_from([torch.float32, torch.float16, torch.bfloat16, torch.float64]),
    st.booleans(),
    st.booleans(),
)


@pytest.mark.slow
@given(network_plans, pipelines)
@settings(deadline=None, max_examples=50)
def test_every_pipeline_comes_back_bit_for_bit(tmp_path_factory, plan, pipeline):
    base, images = draw_network(plan)
    structure, quantization, with_activations, dtype, cast_first, with_training = pipeline
    model = base
    for step in structure:
        model = STRUCTURE[step](model, images)
    model = copy.deepcopy(model)
    if with_training:
        model = trained(model, images)
    model = model.to(dtype if cast_first else torch.float32)
    model = QUANTIZATION[quantization](model, images)
    if with_activations:
        model = quantize_activations(model, [images.to(dtype if cast_first else torch.float32)])
    model, images = model.to(dtype), images.to(dtype)
    folder = tmp_path_factory.mktemp("pipeline")
    save_model(model, folder / "first")
    fresh, _ = draw_network(plan)
    loaded = load_model(folder / "first", fresh)
    assert torch.equal(loaded(images), model(images))
    save_model(loaded, folder / "second")
    assert (folder / "first").read_bytes() == (folder / "second").read_bytes()
    weights = load_state_dict(folder / "first")
    baked = bake(model).state_dict()
    assert {name: tensor.shape for name, tensor in weights.items()} == {n: t.shape for n, t in baked.items()}
    assert all(torch.equal(weights[name], tensor) for name, tensor in baked.items())
    assert torch.equal(base(images.float()), draw_network(plan)[0](images.float()))


def test_a_loaded_model_can_be_trained_and_saved_again(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))
    save_model(share_weights(model, 3, skip=["2"]), tmp_path / "file")
    loaded = load_model(tmp_path / "file", copy.deepcopy(model))
    optimizer = torch.optim.SGD(loaded.parameters(), 0.1)
    inputs = torch.randn(16, 6)
    before = loaded(inputs).square().mean()
    before.backward()
    optimizer.step()
    after = loaded(inputs).square().mean()
    assert after < before
    save_model(loaded, tmp_path / "file")
    assert torch.equal(load_model(tmp_path / "file", model)(inputs), loaded(inputs))


def test_ten_lines_make_a_pruned_factorized_corrected_quantized_file(tmp_path, build_student):
    student = build_student((4, 4, 8, 8, 8, 16, 16, 16)).eval()
    images = torch.randn(4, 3, 32, 32)
    graph = channel_graph(student, (3, 32, 32))
    small = prune(student, graph, keep_counts(graph, signed_gamma(student, graph), {"blocks.4.3": 3}))
    small = factorize_to_budget(small, int(0.95 * sum(p.numel() for p in small.parameters())))
    small = fold_batch_norms(small)
    small = correct_biases(quantize_weights(small, AffineSpec(4)), small, [images])
    small = quantize_activations(small, [images])
    size = save_model(small, tmp_path / "small")
    assert torch.equal(load_model(tmp_path / "small", student)(images), small(images))
    assert size < 0.6 * 4 * sum(p.numel() for p in student.parameters())


@pytest.mark.slow
def test_a_resnet18_needs_nothing_but_its_constructor(tmp_path):
    torch.manual_seed(0)
    model = torchvision.models.resnet18(num_classes=3)
    model.eval()
    small = quantize_weights(factorize_to_budget(model, 2_000_000), AffineSpec(4))
    save_model(small, tmp_path / "small")
    loaded = load_model(tmp_path / "small", torchvision.models.resnet18(num_classes=3).eval())
    images = torch.randn(1, 3, 32, 32)
    assert torch.equal(loaded(images), small(images))


@pytest.mark.slow
@pytest.mark.parametrize("name", TORCHVISION)
def test_a_pruned_torchvision_network_comes_back_and_can_be_trained(tmp_path, name):
    base = torchvision_network(name).float()
    graph = channel_graph(base, IMAGE)
    cut = prune(base, graph, every_other(graph))
    assert_comes_back(tmp_path / "cut", cut, base)


def assert_comes_back(path, model, base):
    """The same outputs bit for bit, then again after the same step of training."""
    save_model(model, path)
    loaded = load_model(path, base)
    images = torch.randn(2, *IMAGE)
    for _ in range(2):
        results = [each(images) for each in (model, loaded)]
        assert torch.equal(*results)
        for each, result in zip((model, loaded), results, strict=True):
            result.square().mean().backward()
            torch.optim.SGD(each.parameters(), 0.01).step()
            each.zero_grad()
    save_model(loaded, path)
    first = path.read_bytes()
    assert save_model(model, path) == len(first)
    assert path.read_bytes() == first
    assert not torch.equal(model(images), results[0])


def test_what_stands_for_a_layer_is_known_as_such_in_the_loaded_model_too(tmp_path):
    base = nn.Sequential(nn.Sequential(nn.Linear(8, 8)))
    save_model(factorize_to_budget(base, 60), tmp_path / "file")
    loaded = load_model(tmp_path / "file", base)
    with pytest.raises(AttributeError, match=r"layer '0\.0' was replaced by several, which have no 'weight'"):
        loaded[0][0].weight.sum()


@pytest.mark.parametrize("change", sorted(STRUCTURE))
def test_what_is_not_trained_stays_so(tmp_path, change):
    torch.manual_seed(0)
    base, images = nn.Sequential(), torch.randn(2, 4, 6, 6)
    base.body, base.norm, base.head = nn.Conv2d(4, 8, 3), nn.BatchNorm2d(8), nn.Linear(4, 6)
    base.body.weight.requires_grad_(False)
    base.head.weight.requires_grad_(False)
    base.norm.bias.requires_grad_(False)
    base.eval()
    changed = STRUCTURE[change](base, images)
    if change == "prune":
        changed.head.weight.requires_grad_(False)
    save_model(changed, tmp_path / "file")
    loaded = load_model(tmp_path / "file", base)
    flags = [{name: p.requires_grad for name, p in each.named_parameters()} for each in (changed, loaded)]
    assert flags[0] == flags[1]
    assert not all(flags[0].values())


@pytest.mark.parametrize(
    ("base", "change"),
    [
        (nn.Conv2d(8, 8, 3, padding=1), lambda conv: rewrite_separable(conv).model),
        (nn.Conv2d(8, 8, 3, padding=1), lambda conv: rewrite_grouped(conv, 2).model),
        (nn.Conv2d(8, 8, 3), lambda conv: factorize(conv, {"": Factorization("tucker", (2, 2))})),
        (nn.Linear(32, 3), lambda linear: quantize_weights(factorize_to_budget(linear, 60), AffineSpec(4))),
    ],
    ids=["separable", "grouped", "factorized", "quantized"],
)
def test_a_model_of_one_layer_comes_back(tmp_path, base, change):
    base.eval()
    model = change(base)
    assert str(model) != str(base)
    save_model(model, tmp_path / "file")
    loaded = load_model(tmp_path / "file", base)
    images = torch.randn(2, 8, 32, 32)
    assert torch.equal(loaded(images), model(images))
    assert not any(module.training for module in (loaded, *loaded.children()))


class Scaled(nn.Module):
    """A free parameter, a free buffer, and a norm of a class of its own."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 2, 1)
        self.scale = nn.Parameter(torch.rand(8, 1, 1))
        self.register_buffer("shift", torch.rand(8, 1, 1))
        self.norm = FirstNorm(8)

    def forward(self, images):
        return self.second(self.norm(self.first(images) * self.scale + self.shift)).mean((2, 3))


class FirstNorm(nn.LayerNorm):
    def forward(self, images):
        channels_last = images.permute(0, 2, 3, 1)
        return F.layer_norm(channels_last, self.normalized_shape, self.weight, self.bias).permute(0, 3, 1, 2)


class OwnConv(nn.Conv2d):
    """Computes what a Conv2d does."""


class OwnBatchNorm(nn.BatchNorm2d):
    """Computes what a BatchNorm2d does."""


def between(*layers):
    return nn.Sequential(nn.Conv2d(3, 8, 3), *layers, nn.Conv2d(8, 2, 1))


def masked_twice(model, graph, selection):
    first = graph.groups[0]
    return mask(mask(model, graph, selection), graph, {first.name: torch.arange(1, len(first.units))})


@pytest.mark.parametrize("made", [prune, mask, masked_twice])
@pytest.mark.parametrize(
    "base",
    [
        Scaled(),
        between(nn.SyncBatchNorm(8)),
        between(nn.GroupNorm(1, 8, eps=0.1)),
        between(nn.GroupNorm(1, 8, affine=False)),
        between(ChannelsLast(8)),
        between(OwnBatchNorm(8), FrozenBatchNorm2d(8), nn.ReLU(), OwnConv(8, 8, 1)),
        rewrite_grouped(between(nn.Conv2d(8, 8, 3)), 4, skip=["0", "2"]).model,
    ],
    ids=["free", "sync", "group", "plain", "last", "own", "orders"],
)
def test_whatever_pruning_makes_smaller_comes_back(tmp_path, base, made):
    base.eval()
    graph = channel_graph(base, IMAGE)
    smaller = made(base, graph, every_other(graph))
    assert_comes_back(tmp_path / "file", smaller, base)


@pytest.mark.parametrize(
    ("layer", "tensor", "message"),
    [
        (nn.Linear(2, 2), torch.ones(3, 2), r"layer '0': its weight has shape \(3, 2\), and .* sizes \(2, 2\)"),
        (nn.BatchNorm2d(4), torch.ones(2), r"layer '0': its weight has shape \(2,\), and .* sizes \(4,\)"),
    ],
)
def test_a_layer_that_belies_its_sizes_is_not_saved(tmp_path, layer, tensor, message):
    layer.weight = nn.Parameter(tensor)
    with pytest.raises(ValueError, match=message):
        save_model(nn.Sequential(layer), tmp_path / "file")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "shape"),
    [("scale", (9, 1, 1)), ("shift", (8, 1, 2)), ("scale", (8,)), ("scale", (0, 1, 1)), ("norm.weight", (4,))],
)
def test_a_tensor_larger_than_the_bases_is_an_error(tmp_path, name, shape):
    save_model(Scaled(), tmp_path / "file")
    rewritten(tmp_path / "file", exchanged(name, torch.ones(shape)))
    with pytest.raises(PackedFileError, match=rf"tensor '{name}' has shape .*; the base model .* needs \(8"):
        load_model(tmp_path / "file", Scaled())


def small_model():
    return nn.Sequential(nn.Conv2d(2, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1, bias=False))


@pytest.fixture
def saved(tmp_path):
    torch.manual_seed(0)
    model = quantize_activations(quantize_weights(small_model(), AffineSpec(3)), [torch.randn(2, 2, 3, 3)])
    save_model(model, tmp_path / "file")
    return tmp_path / "file"


def rewritten(path, change):
    header, tensors = read(path)
    change(header, tensors)
    write(path, header, tensors)


def rename(header, _):
    header["tensors"][0]["name"] = "unknown"


def exchanged(name, tensor):
    """Puts another tensor in a file, with all that it needs."""

    def change(header, stored):
        decoded = decode_tensors(header["tensors"], stored)
        header["tensors"], again = encode_tensors({**decoded, name: tensor})
        stored.clear()
        stored.update(again)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda header, _: header.update(layers=None), "'layers' is 'None'"),
        (lambda header, _: header.pop("layers"), "'layers' is 'None'"),
        (lambda header, _: header.update(version=9), "format version is 9"),
        (lambda header, _: header.update(activations={}), "'activations' is"),
        (lambda header, _: header["activations"][0].update(layer="9"), "fits no layer"),
        (lambda header, _: header["activations"][0].update(role="forward"), "fits no layer"),
        (lambda header, _: header["activations"][0].update(bits=99), "bits are 99"),
        (lambda header, _: header["activations"].append(header["activations"][0]), "fits no layer"),
        (lambda header, _: header["activations"].pop(), "unknown"),
        (lambda header, _: header["layers"][1].update(out_channels=5), "has shape|0.weight"),
        (lambda header, _: header["layers"][1].update(out_channels=2_000_000_000), "has shape"),
        (exchanged("0.input_quantizer.scale", torch.tensor([0.0])), "'0.input_quantizer': its scale is not above zero"),
        (exchanged("0.input_quantizer.scale", torch.tensor([torch.nan])), "'0.input_quantizer': its scale is not"),
        (exchanged("0.output_quantizer.zero_point", torch.tensor([256]).int()), "its zero point is none of its codes"),
        (exchanged("0.bias", torch.ones(2, 2)), r"'0.bias' has shape \(2, 2\); the base model .* needs \(4,\)"),
        (exchanged("0.bias", torch.ones(4).short()), "'0.bias' is torch.int16; the model has torch.float32"),
        (rename, r"tensors \['0.bias'\] are missing, \['unknown'\] unknown"),
        (exchanged("2.weight", quantize(torch.randn(2, 4, 1, 1))), "no model's weights"),
        (exchanged("0.bias", quantize_affine(torch.randn(4), AffineSpec(axis=None))), "only a layer's weight may be"),
        (exchanged("1.weight", quantize_affine(torch.randn(4), AffineSpec(axis=None))), "only a convolution's or"),
    ],
)
def test_a_file_that_lies_is_an_error_that_names_it(saved, change, message):
    rewritten(saved, change)
    with pytest.raises(PackedFileError, match=rf"file: .*({message})"):
        load_model(saved, small_model())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda header, _: header.update(masks=None), "'masks' is 'None'"),
        (lambda header, _: header.update(masks=[1]), "'masks' is"),
        (lambda header, _: header["masks"][0].update(layer="9"), "mask .* fits no layer"),
        (lambda header, _: header["masks"][0].update(layer=""), "mask .* fits no layer"),
        (lambda header, _: header["masks"].append(header["masks"][0]), "mask .* fits no layer"),
        (lambda header, _: header["masks"][0].update(inputs=3), "mask of layer '0': .* has no flags"),
        (lambda header, _: header["masks"][0].update(outputs="0000"), "mask of layer '0': .* has no flags"),
        (lambda header, _: header["masks"][0].update(outputs="11x1"), "mask of layer '0': .* has no flags"),
        (lambda header, _: header["masks"][0].update(dim=0), "mask of layer '0': .* has no flags"),
        (
            lambda header, _: header["masks"][0].update(outputs="111"),
            "mask of layer '0': 2 channels in and 3 out; the layer has .2, 4.",
        ),
    ],
)
def test_a_mask_that_lies_is_an_error_that_names_it(tmp_path, change, message):
    base, path = small_model(), tmp_path / "file"
    graph = channel_graph(base, (2, 4, 4))
    save_model(mask(base, graph, every_other(graph)), path)
    rewritten(path, change)
    with pytest.raises(PackedFileError, match=rf"file: {message}"):
        load_model(path, small_model())


def test_an_order_that_is_no_permutation_is_an_error(tmp_path):
    model = rewrite_grouped(small_model(), 2).model
    path = tmp_path / "file"
    save_model(model, path)
    assert torch.equal(load_model(path, small_model())[0][0].order, model[0][0].order)
    for order in ([0, 0], [0, 2], [-1, 0]):
        rewritten(path, exchanged("0.0.order", torch.tensor(order)))
        with pytest.raises(PackedFileError, match=r"layer '0\.0': its order must have each of 2 channels once"):
            load_model(path, small_model())


def test_a_base_that_does_not_fit_is_an_error(saved):
    with pytest.raises(PackedFileError, match="the model as a whole is of another type"):
        load_model(saved, small_model()[:2])
    with pytest.raises(PackedFileError, match="parametrized layers; plain ones are needed"):
        load_model(saved, quantize_weights(small_model(), AffineSpec()))
    pack_state_dict(small_model()[:2].state_dict(), saved, lambda tensor, _: tensor)
    with pytest.raises(PackedFileError, match=r"does not fit the base model: tensors .* are missing"):
        load_model(saved, small_model())


@pytest.mark.parametrize("method", [min_max_bytes(), affine(AffineSpec(4)), cast(torch.float16)])
def test_a_state_dicts_file_gives_the_base_model_with_its_weights(tmp_path, method):
    pack_state_dict(small_model().state_dict(), tmp_path / "file", method)
    base = small_model()
    before = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    loaded, expected = load_model(tmp_path / "file", base), load_state_dict(tmp_path / "file")
    assert [type(module) for module in loaded.modules()] == [type(module) for module in base.modules()]
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, expected[name]), name
        assert torch.equal(base.state_dict()[name], before[name]), name


def test_a_base_that_ties_what_the_file_does_not_is_an_error(tmp_path):
    tied = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    save_model(tied, tmp_path / "file")
    tied[1].weight = tied[0].weight
    with pytest.raises(PackedFileError, match="the base model ties it to another one"):
        load_model(tmp_path / "file", tied)
    save_model(tied, tmp_path / "file")
    loaded = load_model(tmp_path / "file", tied)
    assert loaded[1].weight is loaded[0].weight


class TiedEmbedding(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(9, 4)
        self.head = nn.Linear(4, 9)
        self.head.weight = self.embed.weight

    def forward(self, indices):
        return self.head(self.embed(indices))


def tied_layers():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    model[2].weight = model[0].weight
    return model


@pytest.mark.parametrize("where", ["cpu", "meta", "rebuilt"])
def test_what_the_base_ties_is_tied_again(tmp_path, where):
    torch.manual_seed(0)
    indices, model = torch.arange(5), TiedEmbedding()
    save_model(model, tmp_path / "file")
    with torch.device("meta" if where == "meta" else "cpu"):
        base = TiedEmbedding()
    if where == "rebuilt":
        base.embed, base.head = nn.Embedding(9, 6), nn.Linear(6, 9)
        base.head.weight = base.embed.weight
    loaded = load_model(tmp_path / "file", base)
    assert loaded.head.weight is loaded.embed.weight
    for each in (model, loaded):
        each(indices).square().sum().backward()
        torch.optim.SGD(each.parameters(), 0.1).step()
    assert torch.equal(loaded(indices), model(indices))


def test_layers_that_share_a_weight_share_it_again_or_are_an_error(tmp_path):
    indices, inputs = torch.arange(5), torch.randn(2, 4)
    for base, given_to, quantized in (
        (TiedEmbedding(), indices, lambda model: quantize_weights(model, AffineSpec(4), skip=["head"])),
        (tied_layers(), inputs, lambda model: quantize_weights(model, AffineSpec(4))),
        (tied_layers(), inputs, lambda model: share_weights(model, 2)),
    ):
        model = quantized(base)
        save_model(model, tmp_path / "file")
        loaded = load_model(tmp_path / "file", base)
        assert len(list(loaded.parameters())) == len(list(model.parameters())) == len(list(base.parameters()))
        assert torch.equal(loaded(given_to), model(given_to))
        assert len(list(bake(loaded).parameters())) == len(list(base.parameters()))
    for model, names in (
        (quantize_weights(TiedEmbedding(), AffineSpec(4)), "'embed.weight' and 'head.weight'"),
        (quantize_weights(tied_layers(), AffineSpec(4), skip=["0"]), r"'0\.weight' and '2\.weight'"),
    ):
        with pytest.raises(ValueError, match=f"{names} are one parameter, but not quantized alike"):
            save_model(model, tmp_path / "refused")
    assert not (tmp_path / "refused").exists()


def test_a_layer_comes_back_with_all_its_arguments(tmp_path):
    embedding = nn.Embedding(10, 4, padding_idx=2, max_norm=0.5, norm_type=1.0, scale_grad_by_freq=True)
    batch_norm = nn.BatchNorm1d(4, eps=np.float64(0.25), momentum=None)
    model = nn.Sequential(embedding, nn.Linear(4, np.int64(3)), nn.Linear(3, np.prod((2, 2))), batch_norm).eval()
    save_model(model, tmp_path / "file")
    base = nn.Sequential(nn.Embedding(12, 5), nn.Linear(5, 4), nn.Linear(4, 4), nn.BatchNorm1d(4)).eval()
    loaded, indices = load_model(tmp_path / "file", base), torch.arange(10)
    assert str(loaded) == str(model)
    assert torch.equal(loaded(indices), model(indices))


def test_layers_lie_in_memory_as_the_bases_do(tmp_path):
    base = nn.Sequential(nn.Conv2d(3, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3)).to(memory_format=torch.channels_last)
    graph, images = channel_graph(base, (3, 8, 8)), torch.randn(2, 3, 8, 8)
    for model in (base, prune(base, graph, every_other(graph))):
        save_model(model, tmp_path / "file")
        loaded = load_model(tmp_path / "file", base)
        assert [each.stride() for each in loaded.parameters()] == [each.stride() for each in model.parameters()]
        assert torch.equal(loaded(images), model(images))


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.EmbeddingBag])
def test_a_smaller_layer_of_torch_that_can_not_be_built_does_not_fit(tmp_path, kind):
    save_model(kind(4, 8), tmp_path / "file")
    with pytest.raises(PackedFileError, match=r"has shape .*; the base model .* needs"):
        load_model(tmp_path / "file", kind(6, 8))


class Positions(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.register_buffer("positions", torch.arange(4.0), persistent=False)


def test_a_base_without_what_no_file_holds_is_an_error(tmp_path):
    save_model(Positions(), tmp_path / "file")
    assert torch.equal(load_model(tmp_path / "file", Positions()).positions, torch.arange(4.0))
    with torch.device("meta"):
        base = Positions()
    with pytest.raises(PackedFileError, match="buffer 'positions': no file holds it"):
        load_model(tmp_path / "file", base)


class Counted(nn.Linear):
    def get_extra_state(self):
        return torch.zeros(2)

    def set_extra_state(self, state):
        pass


def test_a_modules_own_kind_of_state_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"'0\._extra_state' of the model's state is a module's own kind of state"):
        save_model(nn.Sequential(Counted(2, 2)), tmp_path / "file")


def test_centroids_trained_in_double_precision_come_back(tmp_path):
    torch.manual_seed(0)
    base, inputs = nn.Sequential(nn.Linear(4, 4)).double(), torch.randn(2, 4, dtype=torch.float64)
    model = share_weights(base, 2)
    model(inputs).square().sum().backward()
    torch.optim.SGD(model.parameters(), 0.01).step()
    save_model(model, tmp_path / "file")
    loaded = load_model(tmp_path / "file", base)
    assert torch.equal(loaded(inputs), model(inputs))
    assert not torch.equal(loaded[0].weight, loaded[0].weight.float().double())


@pytest.mark.parametrize("largest", [3e-7, 1e-6, 7e-6, 1e-5, 1e-3])
@pytest.mark.parametrize("symmetric", [True, False])
def test_a_channel_near_the_least_number_of_a_short_type_comes_back(tmp_path, largest, symmetric):
    torch.manual_seed(0)
    base, inputs = nn.Sequential(nn.Linear(64, 2)), torch.randn(8, 64).half()
    base[0].weight.data[0] *= largest
    model = quantize_weights(copy.deepcopy(base).half(), AffineSpec(8, symmetric))
    save_model(model, tmp_path / "file")
    assert torch.equal(load_model(tmp_path / "file", base)(inputs), model(inputs))


def test_a_grid_that_is_finer_than_the_weights_type_is_an_error(tmp_path):
    layer = nn.Linear(2, 1).half()
    nn.init.constant_(layer.weight, 8 * 2.0**-24)
    attach_grid(layer, Grid(torch.tensor([0.45 * 2.0**-24]), torch.tensor([4], dtype=torch.int32), 3, True, None))
    with pytest.raises(ValueError, match=r"layer '0': torch\.float16 is too coarse for its grid; cast it before"):
        save_model(nn.Sequential(layer), tmp_path / "file")


@pytest.mark.parametrize("shape", [(8, 6, 3, 3), (5, 3, 5, 5)])
@pytest.mark.parametrize("ranks", [(1, 1), (1, 3), (2, 1), (2, 2)])
def test_a_factorized_convolution_of_any_ranks_computes_the_same_when_loaded(tmp_path, shape, ranks):
    outputs, inputs, *kernel = shape
    base = nn.Sequential(nn.Conv2d(inputs, outputs, tuple(kernel)))
    model = nn.Sequential(factorize_tucker(base[0], ranks))
    save_model(model, tmp_path / "file")
    loaded = load_model(tmp_path / "file", base)
    images = torch.randn(2, inputs, 9, 9)
    assert torch.equal(loaded(images), model(images))
    strides = [[parameter.stride() for parameter in each.parameters()] for each in (model, loaded)]
    assert strides[0] == strides[1]


class Counter(nn.Linear):
    def get_extra_state(self):
        return {"count": 1}

    def set_extra_state(self, state):
        pass


class Doubled(nn.Module):
    def forward(self, bias):
        return 2 * bias


def with_doubled_bias():
    model = nn.Sequential(nn.Linear(2, 2))
    nn.utils.parametrize.register_parametrization(model[0], "bias", Doubled())
    return model


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Sequential(Counter(2, 2)), "'0._extra_state' of the model's state is a dict"),
        (nn.Sequential(parametrizations.weight_norm(nn.Linear(2, 2))), r"layer '0': its weight is parametrized by"),
        (with_doubled_bias(), "layer '0': its bias is parametrized"),
    ],
)
def test_what_can_not_be_stored_is_an_error_and_writes_nothing(tmp_path, model, message):
    with pytest.raises(ValueError, match=message):
        save_model(model, tmp_path / "file")
    assert not list(tmp_path.iterdir())


def test_a_layer_of_its_own_is_stored_under_plain_names():
    layer = quantize_weights(nn.Linear(3, 2), AffineSpec(4))
    assert list(model_tensors(layer)) == ["bias", "weight"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize(
    "quantize_layers", [lambda m: quantize_weights(m, AffineSpec(4)), lambda m: share_weights(m, 2)]
)
def test_a_quantized_model_keeps_its_type(tmp_path, dtype, quantize_layers):
    base = nn.Sequential(nn.Linear(4, 4)).to(dtype)
    inputs = torch.randn(2, 4, dtype=dtype)
    model = quantize_activations(quantize_layers(base), [inputs])
    save_model(model, tmp_path / "file")
    loaded = load_model(tmp_path / "file", base)
    assert loaded(inputs).dtype == dtype
    assert torch.equal(loaded(inputs), model(inputs))


def test_codes_that_become_integers_are_an_error(saved):
    rewritten(saved, lambda header, _: header["tensors"][-1].update(becomes="int8"))
    with pytest.raises(PackedFileError, match=r"'2.weight': codes become 'int8'; one of float16"):
        load_model(saved, small_model())
