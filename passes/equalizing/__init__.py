"""Solvers of ``equalize``: which factors and shifts suit channels to one scale per tensor."""
