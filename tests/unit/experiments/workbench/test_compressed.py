import pytest
import torch
from torch import nn

from compression.packing.container import PackedFileError
from compression.packing.model_file import model_tensors
from experiments.workbench.compressed import original
from experiments.workbench.context import parent_model, splits, training_batches
from pytest_claims.recipes.recipe import Recipe
from pytest_claims.training.training import augmented_batches


def made_of(run, made, operation, budget, *settings):
    parent = made.context.recipe
    builder = f"experiments.builders.{operation}"
    recipe = Recipe(builder, parent.architecture, "target", budget, settings, (("original", parent),))
    return run(recipe, original=made)


@pytest.fixture(scope="module")
def chain(run, cnn, budget):
    """Pruned, factorized, rewritten, fine-tuned, quantized: each made from the file of the one before."""
    steps = [cnn]
    for operation, *settings in (
        ("prune", ("criterion", "taylor"), ("parameters", 4000)),
        ("factorize", ("ranks", "allocated"), ("parameters", 3600)),
        ("rewrite", ("groups", 0), ("weights", "fitted")),
        ("finetune",),
        ("quantize_weights", ("bits", 4)),
    ):
        steps.append(made_of(run, steps[-1], operation, budget, *settings))
    return steps


def test_every_step_is_measured_on_the_model_that_its_file_holds(chain, check_measurements):
    for made in chain[1:]:
        check_measurements(made)


def test_every_step_is_no_larger_than_the_one_before(chain):
    parameters = [made.built.measurements["parameters"] for made in chain]
    assert parameters == sorted(parameters, reverse=True)
    assert len(set(parameters)) > 3
    assert [made.weights.stat().st_size for made in chain][-1] < chain[0].weights.stat().st_size / 4


def test_an_original_without_layers_of_its_own_is_its_architecture(chain, cnn):
    model, expected = original(chain[1].context), parent_model(chain[1].context, "original")
    assert [type(module) for module in model.modules()] == [type(module) for module in expected.modules()]
    assert all(torch.equal(value, expected.state_dict()[name]) for name, value in model.state_dict().items())


def test_an_original_comes_back_from_its_file_as_it_was_made(chain):
    made, child = chain[2], chain[3]
    model = original(child.context)
    assert any(isinstance(module, nn.Sequential) for module in model.modules())
    assert {name: value.numpy().tobytes() for name, value in model.state_dict().items()} == {
        name: value.numpy().tobytes() for name, value in made.built.state.items()
    }


def test_quantized_weights_are_codes_in_the_file(chain):
    quantized = chain[-1]
    assert all(isinstance(tensor, torch.Tensor) for tensor in model_tensors(original(quantized.context)).values())
    model = original(made_child(quantized))
    codes = [tensor for tensor in model_tensors(model).values() if not isinstance(tensor, torch.Tensor)]
    assert codes
    assert all(tensor.grid.bits == 4 for tensor in codes)


def made_child(made):
    """The context of something made from a run."""
    return type(made.context)(
        made.context.recipe, 0, {"original": made.parent}, made.context.dataset, made.context.device, None
    )


def test_the_images_are_those_of_the_budgets_epochs(chain, budget):
    context = chain[1].context
    training, _ = splits(context)
    expected = [batch for epoch in range(budget.epochs) for batch in augmented_batches(training, budget, 0, epoch)]
    found = list(training_batches(context))
    assert len(found) == len(expected) > budget.epochs
    assert all(torch.equal(a.inputs, b.inputs) for a, b in zip(found, expected, strict=True))


def test_a_damaged_original_is_an_error_that_names_its_file(run, chain, budget, tmp_path):
    pruned = chain[1]
    content = bytearray(pruned.weights.read_bytes())
    content[-5] ^= 1
    damaged = tmp_path / "weights.safetensors"
    damaged.write_bytes(content)
    with pytest.raises(PackedFileError, match=r"weights\.safetensors: its content does not match its digest"):
        made_of(run, type(pruned)(pruned.context, pruned.built, damaged), "finetune", budget)
