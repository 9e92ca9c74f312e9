import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_claims.recipes.recipe import Augmentation
from pytest_claims.training.augmentation import apply_view, as_input, draw_view

AUGMENTATION = Augmentation(shift=0.1, rotation=15.0, flip=True, views=12)
SIZE = 8


@pytest.fixture
def images():
    return torch.randint(0, 256, (5, 3, SIZE, SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def transforms(rows, count=5):
    return torch.tensor([rows], dtype=torch.float32).expand(count, 2, 3)


def test_the_identity_gives_the_image_in_0_to_1(images):
    moved = apply_view(images, transforms([[1, 0, 0], [0, 1, 0]]))
    assert torch.allclose(moved, images.double().div(255).float(), atol=1e-6)
    assert torch.equal(as_input(images), (images.double() / 255).float())


def test_a_mirror_is_a_flip_left_to_right(images):
    moved = apply_view(images, transforms([[-1, 0, 0], [0, 1, 0]]))
    assert torch.allclose(moved, as_input(images.flip(3)), atol=1e-6)


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_quarter_turn_is_rot90(images, quarters):
    cos, sin = round(math.cos(quarters * math.pi / 2)), round(math.sin(quarters * math.pi / 2))
    moved = apply_view(images, transforms([[cos, -sin, 0], [sin, cos, 0]]))
    assert torch.allclose(moved, as_input(torch.rot90(images, quarters, (2, 3))), atol=1e-5)


@pytest.mark.parametrize(("right", "down"), [(1, 0), (0, 2), (3, 1)])
def test_a_shift_by_whole_pixels_slices_and_reflects_the_edge(images, right, down):
    moved = apply_view(images, transforms([[1, 0, 2 * right / SIZE], [0, 1, 2 * down / SIZE]]))
    pixels = as_input(images)
    inner = moved[:, :, : SIZE - down, : SIZE - right]
    assert torch.allclose(inner, pixels[:, :, down:, right:], atol=1e-5)
    if right:
        edge = pixels[:, :, down:, SIZE - right :].flip(3)
        assert torch.allclose(moved[:, :, : SIZE - down, SIZE - right :], edge, atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.floats(0, 0.5), st.floats(0, 180), st.booleans())
def test_views_stay_in_0_to_1(seed, shift, rotation, flip):
    noise = torch.randint(0, 2, (4, 3, SIZE, SIZE), dtype=torch.uint8, generator=generator(seed)) * 255
    view = draw_view(Augmentation(shift, rotation, flip, 1), 4, generator(seed))
    moved = apply_view(noise, view)
    assert moved.shape == noise.shape
    assert moved.dtype == torch.float32
    assert -1e-6 <= moved.min() <= moved.max() <= 1 + 1e-6


def test_without_any_change_the_view_is_the_identity():
    view = draw_view(Augmentation(0.0, 0.0, False, 1), 5, generator())
    assert torch.equal(view, transforms([[1, 0, 0], [0, 1, 0]]))


def test_changes_keep_within_their_bounds_and_fill_them():
    view = draw_view(AUGMENTATION, 4000, generator())
    mirror = view[:, 0, 0].sign()
    angle = torch.rad2deg(torch.atan2(-view[:, 0, 1], view[:, 1, 1]))
    shift = view[:, :, 2] / 2  # the grid is two units wide
    assert 0.95 < angle.abs().max() / AUGMENTATION.rotation <= 1 + 1e-5
    assert 0.95 < shift.abs().max() / AUGMENTATION.shift <= 1 + 1e-5
    assert 0.45 < (mirror < 0).float().mean() < 0.55
    assert abs(angle.mean()) < 0.5
    assert torch.allclose(view[:, :, 0].square().sum(1), torch.ones(4000), atol=1e-5)
    assert torch.allclose(torch.linalg.det(view[:, :, :2]), mirror, atol=1e-5)


def test_no_change_is_drawn_from_another():
    turned = draw_view(AUGMENTATION, 50, generator())
    unflipped = draw_view(Augmentation(0.1, 15.0, False, 12), 50, generator())
    assert torch.equal(turned[:, :, 1:], unflipped[:, :, 1:])
    assert torch.equal(turned[:, :, 0].abs(), unflipped[:, :, 0].abs())


def test_the_generator_alone_decides_the_view():
    torch.manual_seed(1)
    first = draw_view(AUGMENTATION, 20, generator(3))
    torch.manual_seed(2)
    assert torch.equal(draw_view(AUGMENTATION, 20, generator(3)), first)
    assert not torch.equal(draw_view(AUGMENTATION, 20, generator(4)), first)


def test_the_given_images_stay_and_the_layout_is_channels_last(images):
    before = images.clone()
    moved = apply_view(images, draw_view(AUGMENTATION, 5, generator()))
    assert torch.equal(images, before)
    assert moved.is_contiguous(memory_format=torch.channels_last)
    assert as_input(images).is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(images, before)
