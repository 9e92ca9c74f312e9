import functools
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from compression.quantization.affine import AffineSpec, quantize_affine
from compression.quantization.ranges import least_squares, min_max, percentile

rows = st_numpy.arrays(np.float64, st.tuples(st.integers(1, 3), st.integers(1, 8)), elements=st.floats(-4, 4, width=32))


@given(rows)
@settings(deadline=None, max_examples=40)
def test_min_max_reaches_every_value_and_zero(values):
    low, high = min_max(torch.from_numpy(values), 15, False)
    np.testing.assert_array_equal(low.numpy(), np.minimum(values.min(axis=1), 0))
    np.testing.assert_array_equal(high.numpy(), np.maximum(values.max(axis=1), 0))
    low, high = min_max(torch.from_numpy(values), 14, True)
    np.testing.assert_array_equal(high.numpy(), np.abs(values).max(axis=1))
    np.testing.assert_array_equal(low.numpy(), -high.numpy())


@given(rows, st.floats(1, 100))
@settings(deadline=None, max_examples=40)
def test_percentile_is_numpys(values, share):
    low, high = percentile(torch.from_numpy(values), 15, False, share)
    expected = np.percentile(values, [(100 - share) / 2, (100 + share) / 2], axis=1)
    np.testing.assert_allclose(low.numpy(), np.minimum(expected[0], 0), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(high.numpy(), np.maximum(expected[1], 0), rtol=1e-9, atol=1e-9)
    _, high = percentile(torch.from_numpy(values), 14, True, share)
    np.testing.assert_allclose(high.numpy(), np.percentile(np.abs(values), share, axis=1), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("share", [0.0, -1.0, 100.5])
def test_a_share_that_is_no_percentage_is_an_error(share):
    with pytest.raises(ValueError, match=f"share is {share}"):
        percentile(torch.zeros(1, 1, dtype=torch.float64), 15, False, share)


def squared_error(values, spec):
    return float((quantize_affine(values, spec).dequantize().double() - values.double()).square().sum())


def least_error_by_breakpoints(values, largest):
    """The exact optimum over symmetric scales: between two scales at which a code changes, the error is a parabola."""
    magnitudes = np.abs(values)
    halves = np.arange(largest) + 0.5
    breaks = np.unique(magnitudes[magnitudes > 0][:, None] / halves)
    edges = np.concatenate([[breaks[0] / 2], breaks, [breaks[-1] * 2]])
    errors = []
    for left, right in itertools.pairwise(edges):
        codes = np.clip(np.round(values / ((left + right) / 2)), -largest, largest)
        scale = np.clip((values @ codes) / max(codes @ codes, 1), left, right)
        errors.append(((scale * codes - values) ** 2).sum())
    return min(errors)


@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("seed", range(20))
def test_least_squares_comes_near_the_exact_optimum_and_beats_min_max(bits, seed):
    values = torch.randn(40, generator=torch.Generator().manual_seed(seed))
    fitted = squared_error(values, AffineSpec(bits, axis=None, ranges=least_squares))
    optimum = least_error_by_breakpoints(values.double().numpy(), 2 ** (bits - 1) - 1)
    assert optimum * (1 - 1e-6) <= fitted <= optimum * 1.02
    assert fitted <= squared_error(values, AffineSpec(bits, axis=None))


@pytest.mark.parametrize("seed", range(5))
def test_a_least_squares_scale_is_the_best_for_its_own_codes(seed):
    values = torch.randn(40, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    levels = 14
    _, high = least_squares(values[None], levels, True)
    scale = 2 * high / levels
    codes = (values / scale).round().clamp(-levels // 2, levels // 2)
    # A scale off a fine grid of ranges, as it would be without settling, is off by up to half a percent.
    assert float(scale) == pytest.approx(float(values @ codes / (codes @ codes)), rel=1e-9)


@given(rows, st.integers(2, 8), st.booleans())
@settings(deadline=None, max_examples=40)
def test_least_squares_is_never_worse_than_min_max(values, bits, symmetric):
    tensor = torch.from_numpy(values).float()
    fitted, plain = (squared_error(tensor, AffineSpec(bits, symmetric, 0, rule)) for rule in (least_squares, min_max))
    assert fitted <= plain * (1 + 1e-4) + 1e-10


def test_clipping_an_outlier_helps_the_rest():
    values = torch.cat([torch.randn(2000, generator=torch.Generator().manual_seed(0)), torch.tensor([60.0])])
    clipped = AffineSpec(4, axis=None, ranges=functools.partial(percentile, share=99.9))
    restored = quantize_affine(values, clipped).dequantize()
    plain = quantize_affine(values, AffineSpec(4, axis=None)).dequantize()
    assert (restored[:-1] - values[:-1]).norm() < 0.3 * (plain[:-1] - values[:-1]).norm()


@pytest.mark.parametrize("values", [1, 700, 2_000])
def test_many_rows_have_the_ranges_that_each_has_alone(monkeypatch, values):
    monkeypatch.setattr("compression.quantization.ranges.VALUES_AT_ONCE", values)
    rows = torch.randn(9, 300, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for symmetric in (True, False):
        together, alone = (
            least_squares(rows, 14, symmetric),
            [least_squares(row[None], 14, symmetric) for row in rows],
        )
        for end, ends in zip(together, zip(*alone, strict=True), strict=True):
            assert torch.equal(end, torch.cat(ends))
