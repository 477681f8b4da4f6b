"""Kernel templates for CUDA: tensor cores (IMMA), dot products of four bytes (dp4a), float32.

Threads and blocks are explicit: a kernel whose iterations are blocks carries the attribute
``qc.threads``.  Instructions that TIR has no words for are calls of functions of ``prelude.cuh``.
"""
