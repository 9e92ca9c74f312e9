"""Accuracy and speed of the forms in which int8 models are exported, in onnxruntime, one thread, alternating.

    taskset -c 1 python benchmarks/int8_latency.py

A row a model and form. Trains ResNet18 and the student for some epochs on the default profile's fractals (some
minutes), and tells top-1 of its 2,002 validation images: of the file, less that of the fake-quantized model, and less
that of the float model. Then milliseconds of processor time for a batch of 16 images, and the ratio of float32 to them.

`int8` is exact with VNNI alone; without, `int8-opened` shows what `open_session` makes of the file.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import onnxruntime
import torch
from torch import Tensor, nn

from compression.onnx.export import export_onnx
from compression.onnx.session import open_session
from compression.quantization.activations import quantize_activations
from compression.quantization.affine import AffineSpec
from compression.quantization.fake import quantize_weights
from compression.quantization.folding import fold_batch_norms
from experiments.models import resnet18, student
from experiments.profiles import PROFILES
from pytest_claims.datasets.fractal import make_fractal_dataset
from pytest_claims.recipes.profile import ProfileRequest
from pytest_claims.training.augmentation import as_input
from pytest_claims.training.training import Images

ROUNDS = 20
IMAGES = 16
BATCH = 64
CALIBRATION = 512
CLASSES = 11
MODELS: dict[str, tuple[Callable[[int], nn.Module], int, float]] = {
    "resnet18": (resnet18.build, 6, 0.02),
    "student": (student.build, 14, 0.1),
}
"""How each is built, its epochs and highest learning rate."""
FORMS = {"uint8": (8, False), "int8 of 7 bits": (7, False), "int8": (8, True)}
"""Bits of weights, and whether 8 are stored as int8."""


def trained(name: str, data: Images) -> nn.Module:
    build, epochs, rate = MODELS[name]
    torch.manual_seed(0)
    model = build(CLASSES).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(model.parameters(), rate, momentum=0.9, nesterov=True, weight_decay=2.5e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=epochs * (len(data) // BATCH))
    for _ in range(epochs):
        for batch in torch.randperm(len(data)).split(BATCH)[: len(data) // BATCH]:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(as_input(data.images[batch])), data.labels[batch]).backward()
            optimizer.step()
            schedule.step()
    return fold_batch_norms(model.eval())


def plain_session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def top_1(compute: Callable[[Tensor], Tensor], data: Images) -> float:
    batches = zip(data.images.split(BATCH), data.labels.split(BATCH), strict=True)
    right = sum(int((compute(as_input(images)).argmax(1) == labels).sum()) for images, labels in batches)
    return 100 * right / len(data)


def computed_by(session: onnxruntime.InferenceSession) -> Callable[[Tensor], Tensor]:
    return lambda images: torch.from_numpy(session.run(None, {"input": images.contiguous().numpy()})[0])


def milliseconds(session: onnxruntime.InferenceSession, images: Tensor) -> float:
    """Processor time, which other programs disturb less than the clock's."""
    start = time.thread_time()
    session.run(None, {"input": images.numpy()})
    return 1000 * (time.thread_time() - start)


def measure(model: nn.Module, training: Images, validation: Images, folder: Path) -> list[str]:
    """A row for each form of a trained model."""
    seen = as_input(training.images[:CALIBRATION])
    example = seen[:2].contiguous()
    export_onnx(model, example, folder / "float32.onnx")
    sessions, fakes = {"float32": plain_session(folder / "float32.onnx")}, {"float32": top_1(model, validation)}
    for form, (bits, signed) in FORMS.items():
        quantized = quantize_activations(quantize_weights(model, AffineSpec(bits)), [seen])
        export_onnx(quantized, example, folder / f"{form}.onnx", signed_weights=signed)
        sessions[form], fakes[form] = plain_session(folder / f"{form}.onnx"), top_1(quantized, validation)
    sessions["int8-opened"], fakes["int8-opened"] = open_session(folder / "int8.onnx", threads=1), fakes["int8"]
    images = as_input(validation.images[:IMAGES]).contiguous()
    rounds = [{form: milliseconds(each, images) for form, each in sessions.items()} for _ in range(ROUNDS + 1)][1:]
    rows = []
    for form, session in sessions.items():
        accuracy = top_1(computed_by(session), validation)
        ratios = sorted(each["float32"] / each[form] for each in rounds)
        rows.append(
            f"{form:15} {accuracy:6.2f} {accuracy - fakes[form]:+7.2f} {accuracy - fakes['float32']:+7.2f} "
            f"{statistics.median(each[form] for each in rounds):8.1f} "
            f"{statistics.median(ratios):6.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        )
    return rows


def main() -> None:
    torch.set_num_threads(1)
    data = make_fractal_dataset(PROFILES["default"](ProfileRequest()).target)
    training, validation = (Images.of(each, torch.device("cpu")) for each in (data.training, data.validation))
    print(
        f"{'model':10} {'form':15} {'top-1':>6} {'to fake':>7} {'to float':>8} {'ms':>7} {'ratio (median, range)':>22}"
    )
    for name in MODELS:
        model = trained(name, training)
        with tempfile.TemporaryDirectory() as folder, torch.no_grad():
            for row in measure(model, training, validation, Path(folder)):
                print(f"{name:10} {row}", flush=True)


if __name__ == "__main__":
    main()
