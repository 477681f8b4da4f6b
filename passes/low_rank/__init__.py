"""Branches of low rank beside layers of a quantized network."""
