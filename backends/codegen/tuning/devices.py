"""Who times kernels: devices behind TVM's RPC, one by its address or a fleet behind a tracker."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from ....ir.errors import BackendError
from ....targets.target import Target
from ..address import Address
from ..link import compiler, tiles
from ..pool import Pool
from ..remote import ANSWER, Device, Lost, drop, library, reason, unreachable
from .measurer import MILLISECONDS, Outcome, Run, Timing, time_all
from .records import Setting
from .trial import Trial, link_trials

_ROUNDS = 7
_BLOCK = 200_000


@dataclass(frozen=True)
class TimeTrials:
    """Times some kernels of a library that ``link_trials`` made for TVM's RPC."""

    address: Address
    path: str
    kernels: tuple[int, ...]

    def __call__(self) -> Outcome | Lost:
        """What the timer's own program would print; ``Lost`` where the device cannot be reached.

        A kernel that kills its session is blamed if the device answers afterwards.
        """
        outcome = Outcome()
        for _ in range(2):  # a connection may have ended since it was last used
            outcome = Outcome()
            try:
                _, module = library(self.address, self.path)
                self._time(module["qc_measure"], outcome)
                if self.address.key:
                    drop(self.address)  # others of the fleet may be waiting for this one
                return outcome
            except Exception as error:
                drop(self.address)
                outcome.death = f"ended its session: {reason(error)}"
            if lost := unreachable(self.address):
                return Lost(lost)
            if outcome.started is not None or outcome.seconds:
                return outcome
        return Lost(outcome.death)

    def _time(self, measure: object, outcome: Outcome) -> None:
        assert callable(measure)
        repeats: dict[int, int] = {}
        for k in self.kernels:
            outcome.started = k
            if measure(k, 1) < 0:
                raise MemoryError(f"no memory for kernel {k}")
            repeats[k] = _BLOCK // (measure(k, 2) // 2 + 1) + 1
        outcome.started = None
        rounds = max(_ROUNDS, MILLISECONDS * 1_000_000 // _BLOCK // 2)
        for turn in range(rounds):
            for k in self.kernels:
                if turn < _ROUNDS or repeats[k] > 1:
                    spent = measure(k, repeats[k]) / repeats[k] / 1e9
                    outcome.seconds.setdefault(k, []).append(spent)


@contextmanager
def devices(target: Target, address: Address) -> Iterator["Devices"]:
    """Who answers at ``address``; ``BackendError`` for a device that is not fit for ``target``."""
    with closing(Device(address)) as device:
        setting = Setting.of(target)
        found = device.check(target.triple, target.required, setting.tvm)
        width = device(Count(address)) if address.key else 1
    with Pool(width, ANSWER, patience=1.0) as pool:
        yield Devices(target, address, f"rpc {address.key or found}", width, pool)


@dataclass(frozen=True)
class Devices:
    """A measurer; ``width``: devices that work side by side, one for each child of ``pool``."""

    target: Target
    address: Address
    name: str
    width: int
    pool: Pool

    def measure(self, groups: Sequence[Mapping[str, Trial]]) -> list[dict[str, Timing]]:
        """Every group on a device of its own, then again without those that died."""
        with tempfile.TemporaryDirectory(prefix="qc-tune-") as scratch:
            libraries = []
            for i, trials in enumerate(groups):
                folder = Path(scratch) / str(i)
                folder.mkdir()
                flags = ["-shared", "-fPIC", "-DQC_MODULE", *tiles(self.target.features)]
                command = compiler(self.target.link)
                libraries.append(str(link_trials(trials, folder, command, flags)))
            jobs = {
                path: TimeTrials(self.address, path, tuple(range(len(trials))))
                for path, trials in zip(libraries, groups, strict=True)
            }
            first = {path: self._outcome(result) for path, result in self.pool.results(jobs)}
            found = []
            for path, trials in zip(libraries, groups, strict=True):
                timed = time_all(range(len(trials)), self._again(path, first[path]))
                found.append({name: timed[k] for k, name in enumerate(trials)})
        return found

    def _again(self, path: str, first: Outcome) -> Run:
        """Times kernels of a library; the first outcome is known."""
        known = [first]
        return lambda kernels: known.pop() if known else self._time(path, kernels)

    def _time(self, path: str, kernels: Sequence[int]) -> Outcome:
        job = TimeTrials(self.address, path, tuple(kernels))
        return self._outcome(next(iter(self.pool.results({path: job})))[1])

    def _outcome(self, result: Outcome | Lost | str) -> Outcome:
        """What became of a job; ``BackendError`` for a lost device."""
        if isinstance(result, Outcome):
            return result
        why = result.why if isinstance(result, Lost) else result
        raise BackendError(
            f"device {self.address} is lost: {why}; the records so far are kept, and the same "
            "command goes on from there"
        )


@dataclass(frozen=True)
class Count:
    """Asks a tracker how many devices of the kind it has."""

    address: Address

    def __call__(self) -> int | Lost:
        """At least one, for one was lent before."""
        from tvm import rpc

        try:
            table = rpc.connect_tracker(self.address.host, self.address.port).summary()
        except Exception as error:
            return Lost(reason(error))
        servers = [s["key"] for s in table["server_info"]]
        return max(1, servers.count(f"server:{self.address.key}"))
