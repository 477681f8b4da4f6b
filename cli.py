"""The command line: parsing and dispatch.  Nothing heavy is imported until a command runs."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn, TypeAlias

from .lean import tvm_without_torch

_SEARCHERS = ("templates", "metaschedule")
_METRICS = ("top1", "perplexity", "agreement", "mse")
_MODEL = "an .onnx or .pt2 file, or module:callable (a PyTorch module and example inputs)"
_DATA = "an .npz file, a folder of such files, or a folder of images with --preprocess"


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        """Exit with code 2."""
        print(f"qc: error: {message}; see {self.prog} --help", file=sys.stderr)
        raise SystemExit(2)


def parser() -> argparse.ArgumentParser:
    """The parser of all commands; ``command`` names a function ``do_...`` in ``console``."""
    top = Parser(
        prog="qc", description="Compress a trained network and compile it to integer code."
    )
    top.add_argument("--version", action="version", version=f"qc {_version()}")
    commands = top.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for add in (
        _compile,
        _run,
        _generate,
        _eval,
        _bench,
        _inspect,
        _explain,
        _analyze,
        _diff,
        _tune,
        _serve,
        _lists,
        _doctor,
    ):
        add(commands)
    return top


def _version() -> str:
    from . import __version__

    return __version__


Commands: TypeAlias = "argparse._SubParsersAction[Parser]"


def _command(commands: Commands, name: str, text: str) -> argparse.ArgumentParser:
    sub = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    sub.add_argument(
        "--debug", action="store_true", help="show the trace of an error, and log more"
    )
    sub.set_defaults(command=name, module="console.commands")
    return sub


def _compile(commands: Commands) -> None:
    sub = _command(commands, "compile", "compress a model and compile it to an artifact")
    sub.add_argument("model", metavar="MODEL", help=_MODEL)
    sub.add_argument("-o", "--output", metavar="OUT", required=True, help="folder of the artifact")
    sub.add_argument("--target", default="host", metavar="NAME|FILE", help="default: this machine")
    _recipe(sub)
    sub.add_argument("--eval", metavar="DATA", help="evaluation data: the metric of every pass")
    sub.add_argument(
        "--max-drop",
        type=float,
        metavar="POINTS",
        help="raise bits, or leave layers in float, until --eval drops no more; else exit with 1",
    )
    sub.add_argument("--verify", action="store_true", help="check the contract of every pass")
    sub.add_argument("--tune", type=_seconds, metavar="SECONDS",
                     help="measure kernels first, here or on --device")  # fmt: skip
    _searcher(sub)
    sub.add_argument(
        "--capacity", type=int, metavar="N",
        help="make a causal network a decoder: token by token, up to N of them",
    )  # fmt: skip
    _database(sub)
    sub.add_argument("--measured-on", metavar="NAME", default="",
                     help="a part of the name of whom to trust where several measured")  # fmt: skip
    _device(sub)
    sub.add_argument("--json", metavar="FILE", help="write the report ('-': standard output)")


def _recipe(sub: argparse.ArgumentParser) -> None:
    """What decides how a model becomes integers."""
    sub.add_argument("--recipe", metavar="NAME|FILE", help="default: by whether there is --calib")
    sub.add_argument("--calib", metavar="DATA", help=f"calibration data: {_DATA}")
    sub.add_argument("--input-shape", action="append", default=[], metavar="NAME=1,3,224,224")
    sub.add_argument("--keep-float", action="append", default=[], metavar="PATTERN",
                     help="layers that stay float, by name")  # fmt: skip
    sub.add_argument("--preprocess", metavar="FILE", help="TOML: how images become inputs")
    sub.add_argument("--seed", type=int, default=0, metavar="N")
    sub.add_argument(
        "--set", action="append", default=[], metavar="PASS.OPTION=VALUE", dest="options"
    )


def _database(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--db", metavar="FILE", help="tuned kernels (default: QC_DB, else your cache)")


def _device(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--device", metavar="HOST:PORT", help="a machine that runs qc device serve")


def _searcher(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--searcher", choices=_SEARCHERS, default=_SEARCHERS[0],
        help="who proposes kernels: qc's templates, or TVM's MetaSchedule",
    )  # fmt: skip


def _serve(commands: Commands) -> None:
    sub = _command(commands, "device", "let other machines run and measure code on this one")
    sub.add_argument("action", choices=["serve"])
    sub.add_argument("options", nargs=argparse.REMAINDER, help="qc device serve --help lists them")
    sub.set_defaults(module="console.tune")


def _seconds(text: str) -> float:
    """A time above zero."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise ValueError
    return value


def _tune(commands: Commands) -> None:
    sub = _command(commands, "tune", "measure which kernels run a network fastest on a machine")
    sub.add_argument("model", metavar="MODEL|OUT", nargs="?", help=f"{_MODEL}, or an artifact")
    sub.add_argument("--target", metavar="NAME|FILE",
                     help="default: the artifact's, else this machine")  # fmt: skip
    sub.add_argument("--seconds", type=_seconds, default=300.0, metavar="N",
                     help="when to stop (default: 300)")  # fmt: skip
    _searcher(sub)
    _database(sub)
    _device(sub)
    sub.add_argument("--tracker", metavar="HOST:PORT", help="TVM's tracker, which lends devices")
    sub.add_argument("--key", metavar="K", help="the kind of device to ask the tracker for")
    sub.add_argument("--bundle", metavar="FILE",
                     help="write a .tar that measures on a machine without a network")  # fmt: skip
    sub.add_argument("--import", metavar="FILE", dest="results",
                     help="take what a bundle measured into the database")  # fmt: skip
    _recipe(sub)
    sub.add_argument("--json", metavar="FILE", help="write the result ('-': standard output)")
    sub.set_defaults(module="console.tune")


def _run(commands: Commands) -> None:
    sub = _command(commands, "run", "run an artifact on inputs")
    sub.add_argument("artifact", metavar="OUT")
    sub.add_argument("--inputs", required=True, metavar="DATA", help=_DATA)
    sub.add_argument("-o", "--output", metavar="FILE", help="an .npz file for the outputs")
    sub.add_argument("--reference", action="store_true",
                     help="run the numpy reference and compare the code with it")  # fmt: skip
    sub.add_argument("--preprocess", metavar="FILE", help="TOML: how images become inputs")
    _device(sub)


def _generate(commands: Commands) -> None:
    sub = _command(commands, "generate", "continue a sequence of tokens with a decoder")
    sub.add_argument("artifact", metavar="OUT", help="compiled with --capacity")
    sub.add_argument("--prompt", required=True, metavar="TOKENS|FILE",
                     help="1,403,407 or an .npz file with the network's input")  # fmt: skip
    sub.add_argument("--count", type=int, metavar="N", help="default: as many as fit")
    sub.add_argument("--threads", type=int, default=1, metavar="N")
    sub.add_argument("-o", "--output", metavar="FILE", help="an .npz file for the new tokens")
    sub.add_argument("--json", metavar="FILE", help="write the result ('-': standard output)")
    sub.set_defaults(module="console.decode")


def _eval(commands: Commands) -> None:
    sub = _command(commands, "eval", "measure a model or an artifact on data")
    sub.add_argument("model", metavar="MODEL|OUT")
    sub.add_argument("--data", required=True, metavar="DATA", help=_DATA)
    sub.add_argument("--metric", choices=_METRICS, help="default: by the labels")
    sub.add_argument("--against", metavar="MODEL", help="compare with this model or artifact")
    sub.add_argument("--preprocess", metavar="FILE", help="TOML: how images become inputs")
    sub.add_argument("--json", metavar="FILE", help="write the result ('-': standard output)")


def _bench(commands: Commands) -> None:
    sub = _command(commands, "bench", "measure the latency of an artifact")
    sub.add_argument("artifact", metavar="OUT")
    sub.add_argument("--against", action="append", default=[], metavar="onnxruntime",
                     help="time this engine too, in float and int8, interleaved")  # fmt: skip
    sub.add_argument(
        "--model", metavar="MODEL", help="float model for the peers (default: the source)"
    )
    sub.add_argument("--threads", type=int, default=1, metavar="N")
    _device(sub)
    sub.add_argument("--json", metavar="FILE", help="write the result ('-': standard output)")


def _inspect(commands: Commands) -> None:
    sub = _command(commands, "inspect", "show what a model or an artifact consists of")
    sub.add_argument("model", metavar="MODEL|OUT")
    sub.add_argument("--text", action="store_true", help="print the whole graph as IR text")
    sub.add_argument(
        "--groups", action="store_true",
        help="print the groups of coupled channels, and what can be done to them",
    )  # fmt: skip
    sub.set_defaults(module="console.inspect")


def _explain(commands: Commands) -> None:
    sub = _command(
        commands, "explain", "show for every layer of an artifact why it is integer or float"
    )
    sub.add_argument("artifact", metavar="OUT")


def _analyze(commands: Commands) -> None:
    sub = _command(commands, "analyze", "rank the layers of a model by what a recipe does to them")
    sub.add_argument("model", metavar="MODEL", help=_MODEL)
    sub.add_argument("--target", default="host", metavar="NAME|FILE", help="default: this machine")
    _recipe(sub)
    sub.add_argument("--samples", type=int, default=16, metavar="N",
                     help="of the calibration data, to measure each layer on")  # fmt: skip
    sub.add_argument("--json", metavar="FILE", help="write the result ('-': standard output)")
    sub.set_defaults(module="console.analysis", db=None, searcher=_SEARCHERS[0])


def _diff(commands: Commands) -> None:
    sub = _command(commands, "diff", "show layer by layer where an artifact departs from its model")
    sub.add_argument("model", metavar="MODEL", help=_MODEL)
    sub.add_argument("artifact", metavar="OUT")
    sub.add_argument("--data", required=True, metavar="DATA", help=_DATA)
    sub.add_argument("--preprocess", metavar="FILE", help="TOML: how images become inputs")
    sub.add_argument("--samples", type=int, default=8, metavar="N", help="to compare on")
    sub.add_argument("--all", action="store_true",
                     help="list all results, not only those of layers that multiply")  # fmt: skip
    sub.add_argument("--json", metavar="FILE", help="write the result ('-': standard output)")
    sub.set_defaults(module="console.analysis")


def _lists(commands: Commands) -> None:
    _command(commands, "targets", "list the targets")
    _command(commands, "recipes", "list the recipes")
    _command(commands, "passes", "list the passes and their options")


def _doctor(commands: Commands) -> None:
    _command(commands, "doctor", "check that everything needed is installed and works")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.  Exit codes: 0 done, 1 work failed, 2 bad usage or input, 130 interrupted."""
    args = parser().parse_args(argv)
    _limit_threads(args)
    previous = signal.signal(signal.SIGTERM, _terminate)
    try:
        module = import_module(f".{args.module}", __package__)
        with tvm_without_torch():
            return int(getattr(module, f"do_{args.command}")(args))
    except KeyboardInterrupt:
        print("qc: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        return _failed(error, args.debug)
    finally:
        signal.signal(signal.SIGTERM, previous)


def _limit_threads(args: argparse.Namespace) -> None:
    """A benchmark of N threads lets no other library start more."""
    if args.command == "bench":
        os.environ.setdefault("OMP_NUM_THREADS", str(args.threads))


def _terminate(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _failed(error: Exception, debug: bool) -> int:
    """One line for a person; the exit code says whether the input or the work was bad."""
    from .ir.errors import ContractError, PassError, PreconditionError, QcError

    if debug:
        import traceback

        traceback.print_exception(error)
    known = isinstance(error, QcError | OSError | MemoryError)
    text = " ".join(str(error).split()) or type(error).__name__
    if not known:
        text = f"internal error: {type(error).__name__}: {text} (--debug shows where)"
    print(f"qc: error: {text}", file=sys.stderr)
    if isinstance(error, PreconditionError):
        return 2
    return 1 if isinstance(error, ContractError | PassError) or not known else 2


if __name__ == "__main__":
    sys.exit(main())
