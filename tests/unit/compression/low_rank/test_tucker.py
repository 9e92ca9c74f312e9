import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_networks import convolutions, effective_kernel
from tensorly.decomposition import partial_tucker
from tensorly.tenalg import multi_mode_dot
from torch import nn

from compression.low_rank.factorization import full_ranks
from compression.low_rank.tucker import factorize_tucker, higher_order_svd

properties = settings(deadline=None, max_examples=25)
spatial_convolutions = convolutions(st.sampled_from([(3, 3), (1, 3), (2, 2)]), most=6)


def random_convolution(inputs, outputs, seed=1):
    torch.manual_seed(seed)
    return nn.Conv2d(inputs, outputs, 3, dtype=torch.float64)


def error(conv, ranks, iterations=0):
    factors = factorize_tucker(conv, ranks, iterations)
    return (effective_kernel(factors, conv) - effective_kernel(conv, conv)).norm().item()


def truncated_hosvd(kernel, ranks):
    unfoldings = (kernel.reshape(kernel.shape[0], -1), kernel.swapaxes(0, 1).reshape(kernel.shape[1], -1))
    bases = [np.linalg.svd(u, full_matrices=False)[0][:, :r] for u, r in zip(unfoldings, ranks, strict=True)]
    return np.einsum("po,qi,oihw->pqhw", *[basis @ basis.T for basis in bases], kernel)


@given(spatial_convolutions, st.data())
@properties
def test_a_kernel_is_the_truncated_hosvd_of_numpy(conv, data):
    ranks = tuple(data.draw(st.integers(1, full)) for full in full_ranks(conv, "tucker"))
    built = effective_kernel(factorize_tucker(conv, ranks), conv).numpy()
    np.testing.assert_allclose(built, truncated_hosvd(conv.weight.detach().numpy(), ranks), atol=1e-10)


def test_each_group_has_its_own_bases():
    conv = nn.Conv2d(6, 8, 3, groups=2, dtype=torch.float64)
    built = effective_kernel(factorize_tucker(conv, (2, 1)), conv).numpy()
    for group, kernel in enumerate(np.split(conv.weight.detach().numpy(), 2)):
        outputs, inputs = slice(4 * group, 4 * group + 4), slice(3 * group, 3 * group + 3)
        np.testing.assert_allclose(built[outputs, inputs], truncated_hosvd(kernel, (2, 1)), atol=1e-12)
        assert not built[outputs, 3 - 3 * group : 6 - 3 * group].any()


@pytest.mark.parametrize("iterations", [1, 3, 100])
def test_iterations_are_those_of_tensorly(iterations):
    conv = random_convolution(6, 8)
    kernel = conv.weight.detach().numpy()
    # Its first core comes before any sweep, as ours.
    (core, bases), _ = partial_tucker(kernel, rank=[3, 2], modes=[0, 1], n_iter_max=iterations, tol=0, init="svd")
    theirs = multi_mode_dot(core, bases, modes=[0, 1])
    built = effective_kernel(factorize_tucker(conv, (3, 2), iterations), conv).numpy()
    np.testing.assert_allclose(built, theirs, atol=1e-9)


@given(spatial_convolutions)
@properties
def test_the_error_never_grows_with_a_rank(conv):
    most_out, most_in = full_ranks(conv, "tucker")
    errors = {ranks: error(conv, ranks) for ranks in itertools.product(range(1, most_out + 1), range(1, most_in + 1))}
    for rank_out, rank_in in errors:
        for larger in ((rank_out + 1, rank_in), (rank_out, rank_in + 1)):
            assert errors.get(larger, 0) <= errors[rank_out, rank_in] + 1e-12
    assert errors[most_out, most_in] < 1e-12


def test_iterations_never_enlarge_the_error_and_end_where_neither_basis_can_improve():
    conv = random_convolution(6, 8)
    kernel = conv.weight.detach().numpy()
    errors = [error(conv, (3, 2), iterations) for iterations in (0, 1, 2, 5, 200)]
    assert all(later <= earlier + 1e-12 for earlier, later in itertools.pairwise(errors))
    assert errors[-1] < errors[0] - 1e-6
    inner, core, outer = (layer.weight.detach().numpy() for layer in factorize_tucker(conv, (3, 2), 200))
    # The best 3 output and 2 input directions, given the other basis, capture no more than the core holds.
    given_inner = np.einsum("oihw,bi->obhw", kernel, inner[:, :, 0, 0]).reshape(8, -1)
    given_outer = np.einsum("oihw,oa->iahw", kernel, outer[:, :, 0, 0]).reshape(6, -1)
    for unfolding, rank in ((given_inner, 3), (given_outer, 2)):
        best = np.linalg.svd(unfolding, compute_uv=False)[:rank]
        assert (best**2).sum() == pytest.approx((core**2).sum(), rel=1e-9)


@given(spatial_convolutions, st.data())
@properties
def test_a_leading_block_of_the_full_core_holds_what_a_truncation_keeps(conv, data):
    rank_out, rank_in = (data.draw(st.integers(1, full)) for full in full_ranks(conv, "tucker"))
    kept = higher_order_svd(conv.weight.detach())[:rank_out, :rank_in].square().sum().item()
    lost = error(conv, (rank_out, rank_in)) ** 2
    assert kept + lost == pytest.approx(conv.weight.square().sum().item(), rel=1e-10)


def test_geometry_lies_with_the_core_and_the_bias_with_the_last():
    conv = nn.Conv2d(4, 6, 3, stride=2, padding=2, dilation=2, padding_mode="reflect")
    inner, core, outer = factorize_tucker(conv, (3, 2))
    assert (core.stride, core.padding, core.dilation, core.padding_mode) == ((2, 2), (2, 2), (2, 2), "reflect")
    assert [layer.weight.shape[:2] for layer in (inner, core, outer)] == [(2, 4), (3, 2), (6, 3)]
    assert [layer.bias is None for layer in (inner, core, outer)] == [True, True, False]
    assert torch.equal(outer.bias, conv.bias)


def test_iterations_below_none_are_an_error():
    with pytest.raises(ValueError, match="iterations is -1; it must be at least 0"):
        factorize_tucker(nn.Conv2d(3, 4, 3), (2, 2), -1)
