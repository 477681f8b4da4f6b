"""The selective scan, recovered from recurrences, with the skip, gate and softplus around it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import reduce

from ...ir.graph import Node, Value
from ...ir.ops.activation import Silu, Softplus
from ...ir.ops.elementwise import Add, Mul
from ...ir.ops.selective_scan import BIAS, GATE, START, SelectiveScan
from ...ir.ops.selective_scan import D as SKIP
from ...ir.ops.shape import Concat, Squeeze, Transpose, Unsqueeze
from ...ir.rewrite import Match, Rule, p
from .products import At, Factor, Power, Products, aligned
from .recurrences import STATE, TIME, Recurrence, letters, parallel, scanned, unrolled

# -- the recurrence --------------------------------------------------------------------------


def _recovered(read: Callable[[Node], Recurrence | None]) -> Callable[[Match], Value | None]:
    """The scan in place of the readouts that the matched node makes."""

    def build(m: Match) -> Value | None:
        found, out = read(m.root), m.root.output
        if found is None or (y := _scan(m, found)) is None:
            return None
        at = letters(out)
        if isinstance(m.root.op, Concat):
            axis = m.root.op.axis % out.type.rank
            at = (*at[:axis], TIME, *at[axis + 1 :])
        return _laid_out(m, y, at)

    return build


def _from_body(m: Match) -> Value | None:
    """Both results of a Scan."""
    found, steps = scanned(m.root), m.root.outputs
    if found is None or (y := _scan(m, found)) is None or y.value.producer is None:
        return None
    batch, _, channel = y.at
    state = Factor(y.value.producer.outputs[1], (batch, channel, STATE))
    outs = _laid_out(m, y, (TIME, *letters(steps[1])[1:])), _laid_out(m, state, found.states)
    if outs[0] is None or outs[1] is None:
        return None
    m.graph.replace(steps[1], outs[0])
    return outs[1]


def _scan(m: Match, found: Recurrence) -> Factor | None:
    """The op's first result, if all factors have their parts in it."""
    time = found.time
    matrices, deltas = _parted(found.power)
    inputs, rest = _parted(found.added)
    moved = [f for f in rest if f not in deltas]
    if [len(matrices), len(deltas), len(inputs), len(rest) - len(moved)] != [1] * 4 or not moved:
        return None
    channels = matrices[0].letters - {STATE}
    batches = deltas[0].letters - channels - {time}
    if len(channels) != 1 or len(batches) > 1:
        return None
    (channel,), batch = channels, next(iter(batches), 0)
    wide, narrow, state = (batch, time, channel), (batch, time, STATE), (batch, channel, STATE)
    wanted: list[tuple[Factor, At]] = [(f, wide) for f in (*moved, deltas[0])]
    wanted += [(matrices[0], (channel, STATE)), (inputs[0], narrow), (found.readout, narrow)]
    start = found.start
    if start is not None and (start.value.data is None or start.value.data.any()):
        wanted.append((start, state))
    values = [_laid_out(m, f, at) for f, at in wanted]
    known = [v for v in values if v is not None]
    if len(known) < len(values):
        return None
    u = reduce(lambda a, b: m.make(Mul(), a, b), known[: len(moved)])
    ins: list[Value | None] = [u, *known[len(moved) : len(moved) + 4]]
    if len(known) > len(moved) + 4:
        ins = [*ins, *[None] * (START - len(ins)), known[-1]]
    return Factor(m.make(SelectiveScan(reverse=found.reverse), *ins), wide)


def _parted(factors: Sequence[Factor]) -> tuple[list[Factor], list[Factor]]:
    """Those with an axis of states, and those without."""
    return [f for f in factors if STATE in f.at], [f for f in factors if STATE not in f.at]


def _laid_out(m: Match, factor: Factor, wanted: At) -> Value | None:
    """A tensor with its axes in the order of ``wanted``; None if it has others."""
    value, at = factor
    whole = all(isinstance(i, str) or d == 1 for i, d in zip(at, value.type.shape, strict=True))
    names = [sorted(i for i in a if isinstance(i, str)) for a in (at, wanted)]
    if not whole or names[0] != names[1] or len(set(names[0])) < len(names[0]):
        return None
    if value.data is not None and not (value.name in m.graph and m.graph[value.name] is value):
        value = m.graph.constant(value.data, value.name)
    units, needed = ([k for k, i in enumerate(a) if i == 0] for a in (at, wanted))
    if extra := units[len(needed) :]:
        value = m.make(Squeeze(tuple(extra)), value)
        at = tuple(i for k, i in enumerate(at) if k not in extra)
    missing = needed[len(units) :]
    kept, spare = (i for k, i in enumerate(wanted) if k not in missing), iter(units)
    perm = tuple(next(spare) if i == 0 else at.index(i) for i in kept)
    if perm != tuple(range(len(at))):
        value = m.make(Transpose(perm), value)
    return m.make(Unsqueeze(tuple(missing)), value) if missing else value


# -- what stands around it -------------------------------------------------------------------


def _skip(m: Match) -> Value | None:
    """``scan + D * u``."""
    at = letters(m.root.output)
    products = Products()
    for one, other in (m.root.operands, m.root.operands[::-1]):
        scan = _scanned(products.factors(one, at))
        if scan is None or _operand(scan, SKIP) is not None or _operand(scan, GATE) is not None:
            continue
        rest: list[Factor | Power] = products.factors(other, at)
        for f in products.factors(_given(scan, 0), scan.at):
            if f not in rest:
                break
            rest.remove(f)
        else:
            if len(rest) == 1 and (d := _vector(m, rest[0], scan.at[2])) is not None:
                return _changed(m, scan, {SKIP: d}, at)
    return None


def _gate(m: Match) -> Value | None:
    """``scan * silu(z)``."""
    at = letters(m.root.output)
    found = Products().factors(m.root.output, at)
    for one, other in (found, found[::-1]) if len(found) == 2 else ():
        scan = _scanned([one])
        if scan is None or not isinstance(other, Factor) or _operand(scan, GATE) is not None:
            continue
        gate = other.value.producer
        if gate is not None and isinstance(gate.op, Silu):
            z = _laid_out(m, Factor(gate.operands[0], other.at), scan.at)
            return None if z is None else _changed(m, scan, {GATE: z}, at)
    return None


def _softplus(m: Match) -> Value | None:
    """``delta = softplus(x)``."""
    scan, made = _delta(m, Softplus)
    assert isinstance(m.root.op, SelectiveScan)
    if made is None or m.root.op.softplus or _operand(scan, BIAS) is not None:
        return None
    delta = _laid_out(m, Factor(_producer(made.value).operands[0], made.at), scan.at)
    return None if delta is None else _changed(m, scan, {1: delta}, scan.at, softplus=True)


def _bias(m: Match) -> Value | None:
    """``delta = softplus(x + bias)``."""
    scan, made = _delta(m, Add)
    assert isinstance(m.root.op, SelectiveScan)
    if made is None or not m.root.op.softplus or _operand(scan, BIAS) is not None:
        return None
    operands = _producer(made.value).operands
    for x, bias in (operands, operands[::-1]):
        vector = _vector(m, Factor(bias, aligned(bias, made.at)), scan.at[2])
        if vector is not None and x.type == made.value.type:
            delta = _laid_out(m, Factor(x, made.at), scan.at)
            return None if delta is None else _changed(m, scan, {1: delta, BIAS: vector}, scan.at)
    return None


def _delta(m: Match, kind: type[Softplus] | type[Add]) -> tuple[Factor, Factor | None]:
    """The matched scan, and the result of a ``kind`` that is its delta, if that is one."""
    scan = Factor(m.root.output, letters(m.root.output))
    found = Products().factors(_given(scan, 1), scan.at)
    if len(found) == 1 and isinstance(found[0], Factor):
        producer = found[0].value.producer
        if producer is not None and isinstance(producer.op, kind):
            return scan, found[0]
    return scan, None


def _scanned(found: Sequence[Factor | Power]) -> Factor | None:
    """The only factor, if it is the first result of a scan."""
    if len(found) != 1 or not isinstance(found[0], Factor):
        return None
    node = found[0].value.producer
    whole = node is not None and isinstance(node.op, SelectiveScan)
    return found[0] if whole and found[0].value is node.output else None  # type: ignore[union-attr]


def _vector(m: Match, factor: Factor | Power, letter: str | int) -> Value | None:
    """A constant along the channels alone."""
    if not isinstance(factor, Factor) or factor.value.data is None or factor.letters != {letter}:
        return None
    return _laid_out(m, factor, (letter,))


def _changed(
    m: Match, scan: Factor, operands: dict[int, Value], at: At, softplus: bool = False
) -> Value | None:
    """The scan with other operands, laid out like the matched result.

    None where somebody reads the last state before the matched node: it would come too late.
    """
    node = _producer(scan.value)
    assert isinstance(node.op, SelectiveScan)
    here, last = m.graph.index(m.root), node.outputs[1]
    if any(m.graph.index(user) < here for user in last.uses):
        return None
    ins = [operands.get(i, _operand(scan, i)) for i in range(START + 1)]
    while ins[-1] is None:
        ins.pop()
    y = m.make(replace(node.op, softplus=node.op.softplus or softplus), *ins)
    m.graph.replace(last, _producer(y).outputs[1])
    return _laid_out(m, Factor(y, scan.at), at)


def _operand(scan: Factor, index: int) -> Value | None:
    ins = _producer(scan.value).inputs
    return ins[index] if index < len(ins) else None


def _given(scan: Factor, index: int) -> Value:
    value = _operand(scan, index)
    assert value is not None
    return value


def _producer(value: Value) -> Node:
    assert value.producer is not None
    return value.producer


SCANS = [
    Rule("scan-unrolled", p.Concat(p.x), _recovered(unrolled)),
    Rule("scan-parallel", p.ReduceSum(p.x), _recovered(parallel)),
    Rule("scan-parallel-product", p.MatMul(p.x, p.c), _recovered(parallel)),
    Rule("scan-body", p.Scan(p.x), _from_body),
    Rule("scan-skip", p.Add(p.x, p.y), _skip),
    Rule("scan-gate", p.Mul(p.x, p.y), _gate),
    Rule("scan-softplus", p.SelectiveScan(p.u, p.delta), _softplus),
    Rule("scan-bias", p.SelectiveScan(p.u, p.delta), _bias),
]
