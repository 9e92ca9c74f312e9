"""Sessions of onnxruntime in which exported models compute exactly on every CPU.

session = open_session("model.onnx", threads=1)         # needs the extra [onnx]
(logits,) = session.run(None, {"input": images.numpy()})
"""

import os
from typing import Any


def open_session(path: str | os.PathLike[str], threads: int | None = None) -> Any:
    """Opens a model that `export_onnx` wrote, of either form, for the CPU.

    On x86 CPUs without VNNI onnxruntime's kernels for int8 weights add pairs of products in int16, which overflows with
    weights beyond -64 and 64. The session makes such weights uint8 while it opens (`session.x64quantprecision`). Other
    weights and CPUs are not concerned.

    Args:
        path: The file.
        threads: How many compute a layer; onnxruntime's choice if None.

    Returns:
        An `onnxruntime.InferenceSession`.

    Raises:
        ImportError: If the extra [onnx] is not installed.
        onnxruntime.capi.onnxruntime_pybind11_state.NoSuchFile: If there is no such file.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.x64quantprecision", "1")
    if threads is not None:
        options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
