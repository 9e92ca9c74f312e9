"""Formula-driven images: a class is an iterated function system, an image is a jittered instance of it.

The idea is Kataoka et al., "Pre-training without Natural Images" (ACCV 2020); the systems are drawn with the
contractive sampling of Anderson & Farrell, "Improving Fractal Pre-training" (WACV 2022).

The same specification gives the same bytes on every machine: random numbers come from PCG64's raw 64-bit output,
and every later step is one of IEEE 754's exactly rounded operations (+ - * / sqrt) on float64, never a
transcendental function, a fused multiply-add or a reduction whose order a library may choose.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from pytest_claims.datasets.dataset import Dataset, DatasetError, Split
from pytest_claims.datasets.size import DataSize

Floats = NDArray[np.float64]

MAX_MAPS = 4
"""Affine maps in a system: 2 to 4, as most of Anderson & Farrell's."""

_PARALLEL_POINTS = 64
_WARM_UP_STEPS = 16
_KEPT_STEPS = 40
_CHUNK = 256
_SPLITS = ("training", "validation")


@dataclass(frozen=True)
class FractalSpec:
    """What to draw.

    Attributes:
        first_class: Number of the first class; two specs with disjoint ranges of numbers have disjoint classes.
        classes: How many classes.
        training_per_class: Training images of each class.
        validation_per_class: Validation images of each class.
        resolution: Height and width in pixels.
        jitter: Relative change of every coefficient of a system, uniform in ±jitter, drawn for each image.
        noise: Standard deviation of the pixel noise, in units of the full intensity range.
        drawing: Number of the drawing: another one has other images of the same classes.
    """

    first_class: int
    classes: int
    training_per_class: int
    validation_per_class: int
    resolution: int
    jitter: float
    noise: float
    drawing: int = 0

    def __post_init__(self) -> None:
        for field in fields(self):
            value, least = getattr(self, field.name), 0
            if field.name in ("classes", "training_per_class", "validation_per_class"):
                least = 1
            if field.name == "resolution":
                least = 8
            if not least <= value < math.inf:
                raise DatasetError(f"fractal: {field.name} is {value!r}, must be finite and at least {least}")

    @property
    def size(self) -> DataSize:
        """The images of both splits."""
        training, validation = (self.classes * count for count in (self.training_per_class, self.validation_per_class))
        return DataSize(training, validation, self.resolution * self.resolution)


class _Uniform:
    """Uniform float64 numbers in [0, 1) from a stream that NumPy guarantees never to change."""

    def __init__(self, *entropy: int) -> None:
        self._bits = np.random.PCG64(np.random.SeedSequence(entropy))

    def __call__(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Floats:
        raw = self._bits.random_raw(int(np.prod(shape)))
        unit = (raw >> np.uint64(11)).astype(np.float64) * 2.0**-53
        return low + (high - low) * unit.reshape(shape)


@dataclass(frozen=True)
class _System:
    """Affine maps x -> A x + b with the probabilities of the chaos game, padded to `MAX_MAPS`."""

    matrices: Floats  # (MAX_MAPS, 2, 2)
    offsets: Floats  # (MAX_MAPS, 2)
    cumulative: Floats  # (MAX_MAPS,) upper ends of each map's share of [0, 1)


def make_fractal_dataset(spec: FractalSpec) -> Dataset:
    """Draws both splits; images of a class lie side by side in each."""
    splits = [_draw_split(spec, index) for index in range(len(_SPLITS))]
    names = tuple(f"fractal-{spec.first_class + k:04d}" for k in range(spec.classes))
    return Dataset(names, *splits)


def _draw_split(spec: FractalSpec, split: int) -> Split:
    per_class = (spec.training_per_class, spec.validation_per_class)[split]
    images = np.empty((spec.classes * per_class, spec.resolution, spec.resolution, 3), np.uint8)
    for k in range(spec.classes):
        number = spec.first_class + k
        system = sample_system(number)
        for start in range(0, per_class, _CHUNK):
            count = min(_CHUNK, per_class - start)
            uniform = _Uniform(1, number, split, start, spec.drawing)
            at = k * per_class + start
            images[at : at + count] = _draw_images(system, count, spec, uniform)
    return Split(images, np.repeat(np.arange(spec.classes, dtype=np.int64), per_class))


def sample_system(number: int) -> _System:
    """Draws class `number`'s system, as Anderson & Farrell (section 3.2, algorithm 1)."""
    uniform = _Uniform(0, number)
    maps = 2 + int(uniform(1)[0] * (MAX_MAPS - 1))
    matrices = np.zeros((MAX_MAPS, 2, 2))
    offsets = np.zeros((MAX_MAPS, 2))
    for k, (major, minor) in enumerate(_singular_values(maps, uniform)):
        left, right = _random_rotation(uniform), _random_rotation(uniform)
        signs = np.where(uniform(2) < 0.5, -1.0, 1.0)
        matrices[k] = _product(left * np.array([major, minor]), right) * signs
        offsets[k] = uniform(2, low=-1.0, high=1.0)
    determinants = np.abs(_determinant(matrices))
    shares = np.where(np.arange(MAX_MAPS) < maps, np.maximum(determinants, 0.02), 0.0)
    cumulative = np.empty(MAX_MAPS)
    total = 0.0
    for k in range(MAX_MAPS):
        total += shares[k]
        cumulative[k] = total
    return _System(matrices, offsets, cumulative / total)


def _singular_values(maps: int, uniform: _Uniform) -> Iterator[tuple[float, float]]:
    """Yields each map's (sigma1, sigma2); the sum of sigma1 + 2 sigma2 is in the range of rich, contractive systems."""
    total = float(uniform(1, low=0.5 * (5 + maps), high=0.5 * (6 + maps))[0])
    least, most = total - 3 * maps + 3, total
    for _ in range(maps - 1):
        major = float(uniform(1, low=max(0.0, least / 3), high=min(1.0, most))[0])
        least, most = least - major, most - major
        minor = float(uniform(1, low=max(0.0, least / 2), high=min(major, most / 2))[0])
        least, most = least - 2 * minor + 3, most - 2 * minor
        yield major, minor
    minor = float(uniform(1, low=max(0.0, (most - 1) / 2), high=most / 3)[0])
    yield most - 2 * minor, minor


def _random_rotation(uniform: _Uniform) -> Floats:
    """A rotation matrix by a uniform angle: a point of the unit disk, projected onto the circle (no sine needed)."""
    while True:
        x, y = uniform(2, low=-1.0, high=1.0)
        square = x * x + y * y
        if 0.01 < square < 1:
            cos, sin = x / np.sqrt(square), y / np.sqrt(square)
            return np.array([[cos, -sin], [sin, cos]])


def _product(left: Floats, right: Floats) -> Floats:
    """Matrix product of 2 x 2 matrices with a fixed order of operations."""
    return left[:, :1] * right[:1, :] + left[:, 1:] * right[1:, :]


def _determinant(matrices: Floats) -> Floats:
    return matrices[..., 0, 0] * matrices[..., 1, 1] - matrices[..., 0, 1] * matrices[..., 1, 0]


def _draw_images(system: _System, count: int, spec: FractalSpec, uniform: _Uniform) -> NDArray[np.uint8]:
    x, y = _chaos_game(*_jittered(system, count, spec.jitter, uniform), system.cumulative, uniform)
    column, row = _placed(x, y, spec.resolution, uniform)
    density = _density(column, row, spec.resolution)
    return _coloured(density, spec.noise, uniform)


def _jittered(system: _System, count: int, jitter: float, uniform: _Uniform) -> tuple[Floats, Floats]:
    """Returns (count, MAX_MAPS, 2, 2) matrices, kept contractive, and (count, MAX_MAPS, 2) offsets."""
    matrices = system.matrices * (1 + jitter * uniform(count, MAX_MAPS, 2, 2, low=-1.0, high=1.0))
    offsets = system.offsets * (1 + jitter * uniform(count, MAX_MAPS, 2, low=-1.0, high=1.0))
    squares = matrices * matrices
    energy = squares[..., 0, 0] + squares[..., 0, 1] + squares[..., 1, 0] + squares[..., 1, 1]
    determinant = _determinant(matrices)
    discriminant = np.maximum(energy * energy - 4 * determinant * determinant, 0.0)
    largest = np.sqrt((energy + np.sqrt(discriminant)) / 2)
    shrink = 0.98 / np.maximum(largest, 0.98)
    return matrices * shrink[..., None, None], offsets


def _chaos_game(matrices: Floats, offsets: Floats, cumulative: Floats, uniform: _Uniform) -> tuple[Floats, Floats]:
    """Returns the x and y, each (count, points), of points on every image's attractor."""
    count = len(matrices)
    coefficients = np.concatenate([matrices.reshape(-1, 4), offsets.reshape(-1, 2)], axis=1)
    columns = [np.ascontiguousarray(c) for c in coefficients.T]
    base = (np.arange(count) * MAX_MAPS)[:, None]
    x = np.zeros((count, _PARALLEL_POINTS))
    y = np.zeros_like(x)
    kept_x, kept_y = [], []
    for step in range(_WARM_UP_STEPS + _KEPT_STEPS):
        choice = uniform(count, _PARALLEL_POINTS)
        index = base + sum((choice >= edge).astype(np.int64) for edge in cumulative[:-1])
        a, b, c, d, e, f = (column[index] for column in columns)
        x, y = (a * x + b * y) + e, (c * x + d * y) + f
        if step >= _WARM_UP_STEPS:
            kept_x.append(x)
            kept_y.append(y)
    return np.concatenate(kept_x, axis=1), np.concatenate(kept_y, axis=1)


def _placed(x: Floats, y: Floats, resolution: int, uniform: _Uniform) -> tuple[Floats, Floats]:
    """Fits each attractor into the frame, then turns (up to 45 degrees), scales and shifts it; returns pixel units."""
    count = len(x)
    span = np.maximum(x.max(1) - x.min(1), y.max(1) - y.min(1)) + 1e-6
    x = (x - ((x.max(1) + x.min(1)) / 2)[:, None]) / (span / 2)[:, None]
    y = (y - ((y.max(1) + y.min(1)) / 2)[:, None]) / (span / 2)[:, None]
    half_tangent = uniform(count, 1, low=-0.41421356, high=0.41421356)
    square = half_tangent * half_tangent
    cos, sin = (1 - square) / (1 + square), 2 * half_tangent / (1 + square)
    scale = uniform(count, 1, low=0.65, high=1.05)
    shift_x, shift_y = uniform(2, count, 1, low=-0.2, high=0.2)
    column = (x * cos - y * sin) * scale + shift_x
    row = (x * sin + y * cos) * scale + shift_y
    half = resolution / 2
    return column * half + half, row * half + half


def _density(column: Floats, row: Floats, resolution: int) -> Floats:
    """Returns (count, resolution, resolution) in [0, 1]: the square root of how often each pixel was hit."""
    count = len(column)
    inside = (column >= 0) & (column < resolution) & (row >= 0) & (row < resolution)
    image = np.broadcast_to(np.arange(count)[:, None], column.shape)[inside]
    at = (image * resolution + row[inside].astype(np.int64)) * resolution + column[inside].astype(np.int64)
    hits = np.bincount(at, minlength=count * resolution * resolution).reshape(count, resolution, resolution)
    bright = 4.0 * column.shape[1] / (resolution * resolution)
    density: Floats = np.sqrt(np.minimum(hits / bright, 1.0))
    return density


def _coloured(density: Floats, noise: float, uniform: _Uniform) -> NDArray[np.uint8]:
    """Paints a light figure on a dark ground, both of random colour, and adds pixel noise."""
    count = len(density)
    ground = uniform(count, 1, 1, 3, high=0.5)
    figure = uniform(count, 1, 1, 3, low=0.5)
    image = ground + (figure - ground) * density[..., None]
    image += noise * _nearly_normal(uniform, *image.shape)
    return np.floor(np.clip(image, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)


def _nearly_normal(uniform: _Uniform, *shape: int) -> Floats:
    """Irwin-Hall: the sum of three uniform numbers, centred, has mean 0 and standard deviation 1/2."""
    return 2.0 * ((uniform(*shape) + uniform(*shape) + uniform(*shape)) - 1.5)
