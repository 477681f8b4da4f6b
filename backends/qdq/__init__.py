"""Portable ONNX: float graphs and graphs with explicit quantize and dequantize nodes."""
