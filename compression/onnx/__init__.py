"""Quantized models as ONNX, which runtimes compute in int8, exactly on every CPU."""

from typing import TYPE_CHECKING

from compression.lazy import lazy_names

if TYPE_CHECKING:
    from compression.onnx.export import export_onnx
    from compression.onnx.session import open_session
else:
    __getattr__, __dir__ = lazy_names(__name__, {"export": "export_onnx", "session": "open_session"})

__all__ = ["export_onnx", "open_session"]
