"""Layers fitted one after another to what the float network says."""
