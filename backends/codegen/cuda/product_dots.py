"""A product of two matrices of codes by dp4a: a thread has a few rows by four columns."""

from dataclasses import dataclass

from tvm import tirx
from tvm.script.ir_builder import tirx as I

from ..kernels.cuda import rates
from ..kernels.cuda.device import WARP, array, i32, store
from ..loops import Expr, Frame
from ..products import Finish
from .matrices import ONES, Matrices, Reader, Writer

COLUMNS = 4


@dataclass(frozen=True)
class DotTile:
    """``rows`` x 4 sums of a thread."""

    rows: int

    def threads(self, m: Matrices) -> int:
        """Of all products."""
        return m.count * -(-m.rows // self.rows) * -(-m.columns // COLUMNS)

    def cost(self, m: Matrices) -> float:
        """Estimated cycles of a device."""
        steps, products = -(-m.depth // 4), self.rows * COLUMNS
        dots = products + self.rows * m.sums_rows + COLUMNS * m.sums_columns
        chain = steps * (rates.CHUNK + dots * rates.DOT * rates.QUARTERS)
        work = steps * max(dots * rates.DOT, WARP * 4 * (self.rows + COLUMNS) / rates.L1)
        warps = -(-self.threads(m) // WARP)
        return rates.cycles(warps, chain, work + products * rates.FINISH)


def dot_tiles(m: Matrices) -> list[DotTile]:
    """All tiles that suit a product."""
    return [DotTile(rows) for rows in (1, 2, 4) if rows <= m.rows]


def emit_dots(m: Matrices, tile: DotTile, frame: Frame, finish: Finish) -> int:
    """Emit the kernel; an iteration is a thread.  The number of threads."""
    across, down = -(-m.columns // COLUMNS), -(-m.rows // tile.rows)
    with I.serial(frame.lo, frame.hi) as unit:
        first = I.bind(tirx.truncmod(unit, i32(across)) * COLUMNS)
        rest = I.bind(tirx.truncdiv(unit, i32(across)))
        above = I.bind(tirx.truncmod(rest, i32(down)) * tile.rows)
        point = m.point(I.bind(tirx.truncdiv(rest, i32(down))))
        size = tile.rows * COLUMNS
        sums = array(size + tile.rows + COLUMNS, "int32")
        with I.unroll(0, size + tile.rows + COLUMNS) as i:
            store(sums, i32(0), i)
        _accumulate(m, tile, Reader.of(m, frame, point), (above, first), sums)
        write = Writer.of(m, frame, finish, (tile.rows, COLUMNS), point)
        for r in range(tile.rows):
            own = [
                (sums[r * COLUMNS + c], sums[size + r], sums[size + tile.rows + c])
                for c in range(COLUMNS)
            ]
            write(I.bind(above + r), first, own)
    return tile.threads(m)


def _accumulate(
    m: Matrices, tile: DotTile, reader: Reader, corner: tuple[Expr, Expr], sums: Expr
) -> None:
    """The loop over the reduction."""
    above, first = corner
    rows = [reader.row(above + r) for r in range(tile.rows)]
    columns = [reader.column(first + c) for c in range(1 if m.beside else COLUMNS)]
    size = tile.rows * COLUMNS
    with I.serial(0, -(-m.depth // 4)) as step:
        term = I.bind(step * 4)
        codes, weights = array(tile.rows, "int32"), array(COLUMNS, "int32")
        for r, begin in enumerate(rows):
            reader.left(codes, (r,), begin, term, 4)
        if m.beside:
            reader.beside(weights, 0, columns[0], term)
        else:
            for c, begin in enumerate(columns):
                reader.below(weights, (c,), begin, term)
        for r in range(tile.rows):
            for c in range(COLUMNS):
                _dot(sums, r * COLUMNS + c, codes[r], weights[c])
            if m.sums_rows:
                _dot(sums, size + r, codes[r], i32(ONES))
        if m.sums_columns:
            ones = I.bind(reader.kept(i32(ONES), term)) if m.depth % 4 else i32(ONES)
            for c in range(COLUMNS):
                _dot(sums, size + tile.rows + c, ones, weights[c])


def _dot(sums: Expr, place: int, left: Expr, right: Expr) -> None:
    store(sums, tirx.call_pure_extern("int32", "qc_dot", left, right, sums[place]), place)
