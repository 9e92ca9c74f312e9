from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from compression.quantization.affine import AffineSpec, AffineTensor, Grid, encode, fit_grid, quantize_affine
from compression.quantization.ranges import least_squares, min_max, percentile

LARGEST = float(np.finfo(np.float32).max)
finite = st.floats(-(2.0**126), 2.0**126, width=32) | st.floats(-1, 1, width=32)
arrays = st_numpy.arrays(np.float32, st_numpy.array_shapes(min_dims=1, max_dims=4, max_side=4), elements=finite)
specs = st.builds(AffineSpec, bits=st.integers(2, 8), symmetric=st.booleans(), axis=st.sampled_from([None, 0, -1]))
properties = settings(deadline=None, max_examples=50)


@given(arrays, specs)
@properties
def test_error_is_at_most_half_a_step(values, spec):
    quantized = quantize_affine(torch.from_numpy(values), spec)
    scale = quantized.grid.along(quantized.codes)[0].double().numpy()
    error = np.abs(quantized.dequantize().double().numpy() - values.astype(np.float64))
    # Half a step, the rounding of code * scale, and of value / scale near a half.
    assert (error <= 0.5 * scale * (1 + 1e-4) + np.spacing(np.abs(values)).astype(np.float64)).all()


@given(arrays, specs)
@properties
def test_codes_are_those_of_exact_arithmetic_on_the_grid(values, spec):
    quantized = quantize_affine(torch.from_numpy(values), spec)
    grid = quantized.grid
    scale, zero_point = grid.along(quantized.codes)
    scale, zero_point = (np.broadcast_to(each.numpy(), values.shape).ravel() for each in (scale, zero_point))
    exact = (
        (Fraction(float(v)) / Fraction(float(s)), int(z))
        for v, s, z in zip(values.ravel(), scale, zero_point, strict=True)
    )
    for code, (quotient, zero) in zip(quantized.codes.flatten().tolist(), exact, strict=True):
        expected = min(max(round(quotient) + zero, grid.lowest), grid.highest)
        # Where float32's quotient rounds onto or across a half, the neighbour is as near.
        near_half = abs(abs(quotient - round(quotient)) - Fraction(1, 2)) < Fraction(1, 10**4)
        assert code == expected or (near_half and abs(code - expected) == 1)


@given(arrays, specs)
@properties
def test_zero_is_exact_and_a_second_quantization_changes_nothing(values, spec):
    quantized = quantize_affine(torch.from_numpy(values), spec)
    restored = quantized.dequantize()
    assert (restored.numpy()[values == 0] == 0).all()
    assert torch.isfinite(restored).all()
    assert torch.equal(encode(restored, quantized.grid).codes, quantized.codes)


def test_a_hand_counted_example():
    # Largest magnitude 3 at 3 bits: steps of 1, codes 1 to 7 around 4.
    symmetric = quantize_affine(torch.tensor([-3.0, -0.6, 0.0, 1.5, 2.5, 3.0]), AffineSpec(3, axis=None))
    assert symmetric.codes.tolist() == [1, 3, 4, 6, 6, 7]
    assert symmetric.dequantize().tolist() == [-3, -1, 0, 2, 2, 3]
    # From -1 to 2 at 2 bits: steps of 1, zero is code 1.
    asymmetric = quantize_affine(torch.tensor([-1.0, 0.4, 2.0]), AffineSpec(2, symmetric=False, axis=None))
    assert asymmetric.grid.zero_point.tolist() == [1]
    assert asymmetric.codes.tolist() == [0, 1, 3]


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("axis", [0, 1])
def test_values_agree_with_torchs_own_quantizer(bits, axis):
    values = torch.randn(5, 6, 3, generator=torch.Generator().manual_seed(bits))
    grid = fit_grid(values, AffineSpec(bits, symmetric=False, axis=axis))
    theirs = torch.fake_quantize_per_channel_affine(values, grid.scale, grid.zero_point, axis, 0, 2**bits - 1)
    assert torch.equal(encode(values, grid).dequantize(), theirs)


@pytest.mark.parametrize("bits", [4, 8])
def test_errors_are_not_above_torchaos(bits):
    # Imported here, as it takes seconds.
    from torchao.quantization import quant_primitives as torchao

    values = torch.randn(8, 64, generator=torch.Generator().manual_seed(0))
    largest = 2 ** (bits - 1) - 1
    mapping = torchao.MappingType.SYMMETRIC_NO_CLIPPING_ERR
    scale, zero_point = torchao.choose_qparams_affine(values, mapping, (1, 64), torch.int8, -largest, largest)
    codes = torchao.quantize_affine(values, (1, 64), scale, zero_point, torch.int8, -largest, largest)
    theirs = torchao.dequantize_affine(codes, (1, 64), scale, zero_point, torch.int8, -largest, largest)
    ours = quantize_affine(values, AffineSpec(bits)).dequantize()
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)


def test_one_scale_a_channel_follows_the_channels():
    values = torch.tensor([[1.0, -2.0], [100.0, 50.0]])
    assert fit_grid(values, AffineSpec(8, axis=0)).scale.tolist() == pytest.approx([2 / 127, 100 / 127])
    assert fit_grid(values, AffineSpec(8, axis=1)).scale.tolist() == pytest.approx([100 / 127, 50 / 127])
    assert fit_grid(values, AffineSpec(8, axis=None)).scale.tolist() == pytest.approx([100 / 127])


@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 3)])
@pytest.mark.parametrize("axis", [None, 0])
@pytest.mark.parametrize("ranges", [min_max, percentile, least_squares])
@pytest.mark.parametrize("symmetric", [True, False])
def test_an_empty_tensor_keeps_its_shape(shape, axis, ranges, symmetric):
    spec = AffineSpec(4, symmetric, axis, ranges)
    assert quantize_affine(torch.empty(shape), spec).dequantize().shape == shape


@pytest.mark.parametrize("symmetric", [True, False])
def test_the_largest_numbers_stay_finite(symmetric):
    values = torch.tensor([-LARGEST, 0.0, LARGEST])
    restored = quantize_affine(values, AffineSpec(8, symmetric, axis=None)).dequantize()
    assert torch.isfinite(restored).all()
    # A step and what float32 leaves of it: with its zero point at 128, the grid must end a step early.
    assert (restored - values).abs().max() <= LARGEST / 127


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AffineSpec(bits=1), "bits are 1; 2 to 8"),
        (lambda: AffineSpec(bits=9), "bits are 9; 2 to 8"),
        (lambda: AffineSpec(bits=4.0), "bits are 4.0, of type float; an int is needed"),
        (lambda: AffineSpec(bits=np.int64(4)), "of type int64; an int is needed"),
        (lambda: quantize_affine(torch.arange(3), AffineSpec(), "w"), "'w' has dtype torch.int64"),
        (lambda: quantize_affine(torch.tensor([float("nan")]), AffineSpec(), "w"), "'w' holds 1 values that are not"),
        (lambda: quantize_affine(torch.zeros(2), AffineSpec(axis=1), "w"), r"'w' of shape \(2,\) has no axis 1"),
        (lambda: Grid(torch.ones(2), torch.zeros(2).int(), 4, False, None), "2 scales without an axis"),
        (lambda: Grid(torch.ones(2), torch.zeros(1).int(), 4, False, 0), "one number a channel"),
        (lambda: Grid(torch.ones(2).double(), torch.zeros(2).int(), 4, False, 0), "scale is torch.float64"),
    ],
)
def test_bad_input_is_an_error_that_names_it(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (torch.zeros(2), "dtype torch.float32"),
        (torch.tensor([0, 3], dtype=torch.uint8), "codes span 0 to 3; 1 to 7"),
        (torch.tensor([1, 8], dtype=torch.uint8), "codes span 1 to 8; 1 to 7"),
    ],
)
def test_codes_off_the_grid_are_an_error(codes, message):
    with pytest.raises(ValueError, match=message):
        AffineTensor(codes, Grid(torch.ones(1), torch.tensor([4], dtype=torch.int32), 3, True, None))
