"""Readers: from a model file to a :class:`qc.ir.graph.Graph`."""
