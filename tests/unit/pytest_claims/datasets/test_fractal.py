import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_claims.datasets import fractal
from pytest_claims.datasets.dataset import DatasetError, content_hash
from pytest_claims.datasets.fractal import MAX_MAPS, FractalSpec, make_fractal_dataset, sample_system
from pytest_claims.keys.code_fingerprint import ROOT

SPEC = FractalSpec(7, classes=2, training_per_class=3, validation_per_class=2, resolution=16, jitter=0.3, noise=0.1)
PINNED = "3941ad3a623aeb4b881a72c243d87d685277f6e644c2bdc9ead471afb9a239de"
NUMBERS = st.integers(0, 100_000)


def test_the_same_specification_gives_the_same_bytes_on_every_machine():
    assert content_hash(make_fractal_dataset(SPEC)) == PINNED


def test_a_cpu_without_vector_instructions_draws_the_same_bytes():
    script = (
        "from pytest_claims.datasets.dataset import content_hash\n"
        "from pytest_claims.datasets.fractal import FractalSpec, make_fractal_dataset\n"
        f"print(content_hash(make_fractal_dataset({SPEC!r})))"
    )
    features = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])
    plain = {**os.environ, "NPY_DISABLE_CPU_FEATURES": " ".join(features)}
    command = [sys.executable, "-c", script]
    output = subprocess.run(command, capture_output=True, check=True, cwd=ROOT, env=plain, text=True).stdout
    assert output.strip() == PINNED


def test_shapes_types_and_labels():
    dataset = make_fractal_dataset(SPEC)
    assert dataset.classes == ("fractal-0007", "fractal-0008")
    for split, per_class in ((dataset.training, 3), (dataset.validation, 2)):
        assert split.images.shape == (2 * per_class, 16, 16, 3)
        assert split.images.dtype == np.uint8
        assert split.labels.tolist() == [0] * per_class + [1] * per_class


def test_no_two_images_are_alike_and_none_is_blank():
    dataset = make_fractal_dataset(replace(SPEC, noise=0.0))
    images = [image for split in (dataset.training, dataset.validation) for image in split.images]
    assert len({image.tobytes() for image in images}) == len(images)
    assert all(image.std(axis=(0, 1)).max() > 5 for image in images)


def test_another_drawing_has_other_images_of_the_same_classes():
    first, second = make_fractal_dataset(SPEC), make_fractal_dataset(replace(SPEC, drawing=1))
    assert first.classes == second.classes
    images = [image for each in (first, second) for image in (*each.training.images, *each.validation.images)]
    assert len({image.tobytes() for image in images}) == len(images)


def test_a_class_is_the_same_in_every_specification_that_has_it():
    dataset, wider = make_fractal_dataset(SPEC), make_fractal_dataset(replace(SPEC, first_class=6, classes=4))
    for split, wide in ((dataset.training, wider.training), (dataset.validation, wider.validation)):
        for label in (0, 1):
            assert np.array_equal(split.images[split.labels == label], wide.images[wide.labels == label + 1])


@pytest.mark.parametrize("change", [{"training_per_class": 5}, {"resolution": 24}, {"jitter": 0.0}, {"classes": 1}])
def test_the_size_of_a_specification_does_not_reach_its_systems(monkeypatch, change):
    asked = []

    def noted(number):
        asked.append((number, sample_system(number)))
        return asked[-1][1]

    monkeypatch.setattr(fractal, "sample_system", noted)
    make_fractal_dataset(replace(SPEC, **change))
    assert {number for number, _ in asked} == set(range(7, 7 + change.get("classes", 2)))
    for number, system in asked:
        assert np.array_equal(system.matrices, sample_system(number).matrices)


def test_disjoint_classes_differ():
    dataset, others = make_fractal_dataset(SPEC), make_fractal_dataset(replace(SPEC, first_class=9))
    assert not {image.tobytes() for image in dataset.training.images} & {
        image.tobytes() for image in others.training.images
    }
    matrices = [sample_system(number).matrices.tobytes() for number in range(200)]
    assert len(set(matrices)) == 200


def in_use(system):
    return np.diff(system.cumulative, prepend=0.0) > 0


@settings(max_examples=50, deadline=None)
@given(NUMBERS)
def test_systems_are_contractive_and_of_the_papers_richness(number):
    system = sample_system(number)
    maps = int(in_use(system).sum())
    singular = np.linalg.svd(system.matrices[:maps], compute_uv=False)
    assert singular.max() <= 1 + 1e-12
    # Anderson & Farrell, section 3.2: sigma1 + 2 sigma2, summed over N maps, from (5 + N) / 2 to (6 + N) / 2.
    assert (5 + maps) / 2 - 1e-9 <= (singular[:, 0] + 2 * singular[:, 1]).sum() <= (6 + maps) / 2 + 1e-9
    assert np.abs(system.offsets).max() <= 1


@settings(max_examples=50, deadline=None)
@given(NUMBERS)
def test_a_map_is_chosen_in_proportion_to_its_determinant(number):
    system = sample_system(number)
    maps = int(in_use(system).sum())
    assert 2 <= maps <= MAX_MAPS
    assert in_use(system).tolist() == [True] * maps + [False] * (MAX_MAPS - maps)
    assert not system.matrices[maps:].any()
    shares = np.maximum(np.abs(np.linalg.det(system.matrices[:maps])), 0.02)
    assert np.allclose(system.cumulative[:maps], np.cumsum(shares) / shares.sum(), rtol=1e-9)
    assert system.cumulative[-1] == 1.0


@settings(max_examples=25, deadline=None)
@given(NUMBERS, st.floats(0, 2))
def test_jitter_moves_coefficients_by_its_share_and_leaves_maps_contractive(number, jitter):
    system = sample_system(number)
    matrices, offsets = fractal._jittered(system, 5, jitter, fractal._Uniform(number))
    assert np.linalg.svd(matrices, compute_uv=False).max() <= 0.98 + 1e-9
    assert (np.abs(offsets - system.offsets) <= jitter * np.abs(system.offsets) + 1e-12).all()


def test_without_jitter_all_images_have_the_classs_own_system():
    system = sample_system(7)
    matrices, offsets = fractal._jittered(system, 3, 0.0, fractal._Uniform(0))
    largest = np.linalg.svd(system.matrices, compute_uv=False).max(axis=1)
    shrunk = system.matrices * (0.98 / np.maximum(largest, 0.98))[:, None, None]
    assert np.allclose(matrices, shrunk, atol=1e-12)
    assert np.array_equal(offsets, np.broadcast_to(system.offsets, (3, MAX_MAPS, 2)))


def test_without_noise_a_figure_has_one_colour_on_a_ground_of_another():
    for image in make_fractal_dataset(replace(SPEC, noise=0.0)).training.images:
        pixels = image.reshape(-1, 3).astype(np.float64)
        _, _, directions = np.linalg.svd(pixels - pixels.mean(0), full_matrices=False)
        off_the_line = (pixels - pixels.mean(0)) @ directions[1:].T
        assert np.abs(off_the_line).max() <= 1.5  # rounding alone


def test_noise_has_the_stated_deviation_and_leaves_the_figure():
    clean, noisy = (
        make_fractal_dataset(replace(SPEC, training_per_class=40, noise=noise)).training.images.astype(np.float64)
        for noise in (0.0, 0.05)
    )
    unclipped = (clean > 64) & (clean < 191)
    noise = (noisy - clean)[unclipped] / 255
    assert noise.size > 5_000
    assert noise.std() == pytest.approx(0.05, rel=0.05)
    assert noise.mean() == pytest.approx(0.0, abs=0.003)


@pytest.mark.parametrize(
    ("field", "value", "least"),
    [
        ("first_class", -1, 0),
        ("classes", 0, 1),
        ("training_per_class", 0, 1),
        ("validation_per_class", -3, 1),
        ("resolution", 7, 8),
        ("jitter", -0.1, 0),
        ("jitter", float("nan"), 0),
        ("jitter", float("inf"), 0),
        ("noise", -0.1, 0),
        ("noise", float("nan"), 0),
        ("noise", float("inf"), 0),
    ],
)
def test_a_bad_specification_names_the_field_the_value_and_the_bound(field, value, least):
    with pytest.raises(DatasetError) as caught:
        replace(SPEC, **{field: value})
    assert str(caught.value) == f"fractal: {field} is {value!r}, must be finite and at least {least}"


def test_the_smallest_specification_is_drawn():
    dataset = make_fractal_dataset(FractalSpec(0, 1, 1, 1, 8, jitter=0, noise=0))
    assert dataset.training.images.shape == (1, 8, 8, 3)
