"""Integer nodes from float nodes between Dequantize and Quantize."""
