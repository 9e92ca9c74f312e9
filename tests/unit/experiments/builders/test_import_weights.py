import urllib.error

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torchvision.models import resnet18

from compression.packing.state_file import save_state_dict
from experiments.builders import import_weights
from experiments.builders.import_weights import WeightsError
from pytest_claims.keys.file_hash import file_hash
from pytest_claims.recipes.recipe import Architecture, Recipe

RESNET = Architecture("experiments.models.resnet18")
PUBLISHED = Recipe(
    "experiments.builders.import_weights", RESNET, settings=(("torchvision", "IMAGENET1K_V1"),), shared=True
)


@pytest.fixture
def tensors():
    generator = torch.Generator().manual_seed(0)
    return {
        "conv1.weight": torch.randn(64, 3, 7, 7, generator=generator),
        "bn1.running_mean": torch.randn(64, generator=generator),
        "bn1.num_batches_tracked": torch.tensor(7),
        "fc.bias": torch.randn(1000, generator=generator),
    }


@pytest.fixture
def load(run, tmp_path):
    """Imports a file under the hash that it has, after a change of it."""

    def load_file(write, expected_hash=None):
        path = tmp_path / "given.safetensors"
        write(path)
        settings = (("sha256", expected_hash or file_hash(path)),)
        return run(
            Recipe("experiments.builders.import_weights", RESNET, settings=settings, shared=True), weights_file=path
        )

    return load_file


@pytest.mark.parametrize("save", [save_file, save_state_dict], ids=["another program's", "our own"])
def test_a_files_tensors_are_kept_as_they_are(load, tensors, save):
    made = load(lambda path: save(tensors, path))
    assert made.built.measurements == {}
    assert made.built.history == []
    assert made.state.keys() == tensors.keys()
    assert all(torch.equal(torch.from_numpy(value), tensors[name]) for name, value in made.state.items())


def test_another_files_hash_is_told(load, tensors, tmp_path):
    with pytest.raises(WeightsError) as caught:
        load(lambda path: save_file(tensors, path), expected_hash="ab" * 32)
    given = file_hash(tmp_path / "given.safetensors")
    path = tmp_path / "given.safetensors"
    assert str(caught.value) == f"{path}: its SHA-256 is {given[:12]}..., the recipe's is {('ab' * 32)[:12]}..."


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t | {"module.conv1.weight": torch.zeros(2)}, "tensor 'module.conv1.weight' is none of ResNet18's"),
        (
            lambda t: t | {"conv1.weight": torch.zeros(64, 3, 3, 3)},
            "tensor 'conv1.weight' has shape [64, 3, 3, 3], ResNet18's has [64, 3, 7, 7]",
        ),
        (lambda t: t | {"fc.bias": torch.zeros(11)}, "tensor 'fc.bias' has shape [11], ResNet18's has [1000]"),
        (lambda t: {}, "holds no tensors, must hold some of ResNet18's"),
    ],
)
def test_tensors_that_do_not_fit_are_told_with_the_file(load, tensors, tmp_path, change, message):
    with pytest.raises(WeightsError) as caught:
        load(lambda path: save_file(change(tensors), path))
    assert str(caught.value) == f"{tmp_path / 'given.safetensors'}: {message}"


@pytest.mark.parametrize("cut", [0, 4, 100, -1])
def test_a_truncated_file_is_told(load, tensors, cut):
    def write(path):
        save_file(tensors, path)
        path.write_bytes(path.read_bytes()[:cut])

    with pytest.raises(WeightsError, match=r"given\.safetensors: no readable safetensors file \(.+\)"):
        load(write)


def test_a_file_that_was_not_given_is_asked_for(run):
    recipe = Recipe("experiments.builders.import_weights", RESNET, settings=(("sha256", "ab" * 32),))
    with pytest.raises(WeightsError, match="the recipe needs a file of weights; give it with --pretrained-weights"):
        run(recipe)


@pytest.fixture
def download(monkeypatch):
    """Puts something in the place of torch's download."""

    def replace(result):
        asked = []

        def fetch(url, **options):
            asked.append((url, options))
            if isinstance(result, Exception):
                raise result
            return result

        monkeypatch.setattr(torchvision.models._api, "load_state_dict_from_url", fetch)
        return asked

    return replace


@pytest.mark.parametrize(
    "error",
    [
        urllib.error.URLError("no route to host"),
        RuntimeError('invalid hash value (expected "f37072fd", got "00")'),
        EOFError("Ran out of input"),
    ],
    ids=["network", "hash", "damaged file"],
)
def test_a_failed_download_tells_the_way_out(run, download, error):
    download(error)
    with pytest.raises(WeightsError) as caught:
        run(PUBLISHED)
    message = str(caught.value)
    assert message.startswith("torchvision's ResNet18 weights IMAGENET1K_V1 cannot be downloaded or read (")
    assert str(error) in message
    assert message.endswith("give a safetensors file with --pretrained-weights")
    assert caught.value.__cause__ is error


@pytest.mark.slow
def test_a_download_is_verified_and_read_without_pickled_code(run, download):
    state = resnet18().state_dict()
    asked = download(state)
    made = run(PUBLISHED)
    ((url, options),) = asked
    assert url == torchvision.models.ResNet18_Weights.IMAGENET1K_V1.url
    assert options["check_hash"] is True
    assert options["weights_only"] is True
    assert made.state.keys() == state.keys()
    assert all(torch.equal(torch.from_numpy(made.state[name]), value) for name, value in state.items())


def test_a_download_of_another_model_is_told_by_its_name(download, run):
    download({"features.0.weight": torch.zeros(3)})
    with pytest.raises(WeightsError, match=r"IMAGENET1K_V1: tensor 'features\.0\.weight' is none of ResNet18's"):
        run(PUBLISHED)


def test_a_name_that_torchvision_lacks_is_told():
    with pytest.raises(KeyError, match="IMAGENET1K_V9"):
        import_weights.torchvision_weights("IMAGENET1K_V9")
