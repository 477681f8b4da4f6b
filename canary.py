"""Tensorize one loop, compile and run it: run in a child process, because a wrong version of
apache-tvm-ffi dies here by SIGSEGV."""
# mypy: ignore-errors

import numpy as np
import tvm
from tvm import te
from tvm.s_tir import Schedule, TensorIntrin
from tvm.script import tirx as T


@T.prim_func(s_tir=True)
def desc(
    a: T.Buffer((4,), "int32", offset_factor=1), b: T.Buffer((4,), "int32", offset_factor=1)
) -> None:
    with T.sblock("root"):
        T.reads(a[0:4])
        T.writes(b[0:4])
        for i in T.serial(0, 4):
            with T.sblock("add"):
                v = T.axis.remap("S", [i])
                b[v] = a[v] + 1


@T.prim_func(s_tir=True)
def impl(
    a: T.Buffer((4,), "int32", offset_factor=1), b: T.Buffer((4,), "int32", offset_factor=1)
) -> None:
    with T.sblock("root"):
        T.reads(a[0:4])
        T.writes(b[0:4])
        b[T.ramp(0, 1, 4)] = a[T.ramp(0, 1, 4)] + T.broadcast(1, 4)


TensorIntrin.register("canary", desc, impl)
A = te.placeholder((16,), "int32", name="A")
B = te.compute((16,), lambda i: A[i] + 1, name="B")
schedule = Schedule(tvm.IRModule({"main": te.create_prim_func([A, B])}))
(loop,) = schedule.get_loops(schedule.get_sblock("B"))
outer, inner = schedule.split(loop, [None, 4])
schedule.tensorize(inner, "canary")
ex = tvm.compile(schedule.mod, target=tvm.target.Target({"kind": "llvm"}))

x = tvm.runtime.tensor(np.arange(16, dtype="int32"))
y = tvm.runtime.empty((16,), "int32")
ex["main"](x, y)
assert (y.numpy() == np.arange(1, 17)).all()
print("chirp")
