"""Exports versions to other formats (ONNX)."""
