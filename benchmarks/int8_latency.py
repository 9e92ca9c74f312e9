"""How much faster onnxruntime runs an int8 model than the same model in float32, one thread, alternating.

    taskset -c 1 python benchmarks/int8_latency.py

Random weights; a batch of 8 images of 64 pixels. A row a model: milliseconds a batch, and the ratio of float32 to int8.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import onnxruntime
import torch
import torchvision
from torch import nn

from compression.onnx_export import export_onnx
from compression.quantization.activations import quantize_activations
from compression.quantization.affine import AffineSpec
from compression.quantization.fake import quantize_weights
from compression.quantization.folding import fold_batch_norms

ROUNDS = 20
IMAGES = 8


def session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def milliseconds(session: onnxruntime.InferenceSession, images: torch.Tensor) -> float:
    start = time.perf_counter()
    session.run(None, {"input": images.numpy()})
    return 1000 * (time.perf_counter() - start)


def measure(model: nn.Module, images: torch.Tensor, folder: Path) -> tuple[list[float], list[float]]:
    """Milliseconds in float32 and in int8, for each round."""
    folded = fold_batch_norms(model.eval())
    int8 = quantize_activations(quantize_weights(folded, AffineSpec(8)), [images])
    export_onnx(folded, images, folder / "float32.onnx")
    export_onnx(int8, images, folder / "int8.onnx")
    sessions = [session(folder / name) for name in ("float32.onnx", "int8.onnx")]
    rounds = [[milliseconds(each, images) for each in sessions] for _ in range(ROUNDS + 1)][1:]
    plain, quantized = zip(*rounds, strict=True)
    return list(plain), list(quantized)


def main() -> None:
    torch.manual_seed(0)
    images = torch.randn(IMAGES, 3, 64, 64)
    models: dict[str, Callable[[], nn.Module]] = {
        "resnet18": torchvision.models.resnet18,
        "mobilenet_v2": torchvision.models.mobilenet_v2,
    }
    print(f"{'model':14} {'float32 ms':>11} {'int8 ms':>9} {'ratio (median, least to most)':>32}")
    for name, build in models.items():
        with tempfile.TemporaryDirectory() as folder:
            plain, quantized = measure(build(), images, Path(folder))
        ratios = sorted(a / b for a, b in zip(plain, quantized, strict=True))
        spread = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        print(f"{name:14} {statistics.median(plain):11.1f} {statistics.median(quantized):9.1f} {spread:>32}")


if __name__ == "__main__":
    main()
