"""Hadamard matrices: entries 1 and -1, orthogonal rows.

Order ``2^k * m`` is a Kronecker product of ``k`` matrices ``[[1, 1], [1, -1]]`` and one of order
``m``, which Paley's constructions give for ``m = q + 1`` (primes ``q`` = 3 mod 4) and
``m = 2q + 2`` (primes ``q`` = 1 mod 4): 12, 20, 28, 36, 44, 60, 68, ...

Source: Paley, "On Orthogonal Matrices", 1933.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from .types import Array


def split(order: int) -> tuple[int, int] | None:
    """``(2^k, m)`` with the least ``m``, 1 or of Paley's, whose product is ``order``.

    None where there is no such construction (orders that are no multiple of 4, but also 92).
    """
    if order < 1:
        return None
    power = order & -order
    while power:
        rest = order // power
        if rest == 1 or _paley(rest) is not None:
            return power, rest
        power //= 2
    return None


def hadamard(order: int) -> Array | None:
    """A Hadamard matrix of ``order``, float64 ``[order, order]``; None without a construction."""
    found = split(order)
    if found is None:
        return None
    power, rest = found
    core = np.ones((1, 1)) if rest == 1 else _paley(rest)
    assert core is not None
    return np.asarray(np.kron(_sylvester(power), core))


def _sylvester(order: int) -> Array:
    matrix: Array = np.ones((1, 1))
    while len(matrix) < order:
        matrix = np.kron([[1.0, 1.0], [1.0, -1.0]], matrix)
    return matrix


@cache
def _paley(order: int) -> Array | None:
    """A matrix of an order that is a multiple of 4, by one of Paley's constructions, else None."""
    if order % 4:
        return None
    if _is_prime(order - 1):  # = 3 mod 4
        q = order - 1
        bordered = np.zeros((order, order))
        bordered[0, 1:], bordered[1:, 0] = 1, -1
        bordered[1:, 1:] = _jacobsthal(q)
        return np.asarray(bordered + np.eye(order))
    q = order // 2 - 1
    if q % 4 == 1 and _is_prime(q):
        bordered = np.ones((q + 1, q + 1))
        bordered[0, 0] = 0
        bordered[1:, 1:] = _jacobsthal(q)
        one = np.array([[1.0, 1.0], [1.0, -1.0]])
        zero = np.array([[1.0, -1.0], [-1.0, -1.0]])
        return np.asarray(np.kron(bordered, one) + np.kron(np.eye(q + 1), zero))
    return None


def _jacobsthal(q: int) -> Array:
    """1 where ``i - j`` is a square modulo the prime ``q``, -1 where it is none, 0 where equal."""
    character = -np.ones(q)
    character[np.square(np.arange(1, q, dtype=np.int64)) % q] = 1
    character[0] = 0
    i = np.arange(q)
    return np.asarray(character[(i[:, None] - i[None, :]) % q])


def _is_prime(n: int) -> bool:
    return n > 1 and all(n % d for d in range(2, int(n**0.5) + 1))
