"""CUDA: kernels as source, the host code that launches them, and a device that is emulated."""
