"""Code generation: an integer graph becomes a program of kernels, a library, an artifact."""
