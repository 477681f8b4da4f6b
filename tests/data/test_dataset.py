"""Data in all its forms: streams, rank rule, element types, refusals, bounded memory."""

import io
import tracemalloc
import zipfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from qc.data.columns import Chain, columns
from qc.data.dataset import Dataset, Feeds, InputSpec, known_shapes
from qc.data.images import Preprocess, load_preprocess
from qc.data.npz import NpzFile
from qc.ir.errors import DataError

X = InputSpec("x", "float32", (1, 2, 3))


def npz(path: Path, **arrays: object) -> Path:
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


def ramp(*shape: int) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_slices_of_the_inputs_own_rank(tmp_path: Path, save: object) -> None:
    save(tmp_path / "d.npz", x=ramp(5, 2, 3), labels=np.arange(5))  # type: ignore[operator]
    data = Dataset(tmp_path / "d.npz", [X])
    for _ in range(2):  # re-iterable
        feeds = list(data)
        assert [f["x"].shape for f in feeds] == [(1, 2, 3)] * 5
        assert np.array_equal(np.concatenate([f["x"] for f in feeds]), ramp(5, 2, 3))
    assert (len(data), data.samples, list(data.labels)) == (5, 5, [0, 1, 2, 3, 4])


def test_an_extra_axis_gives_whole_inputs(tmp_path: Path) -> None:
    specs = [InputSpec("state", "float32", (2, 1, 4)), InputSpec("sr", "int64", ())]
    path = npz(tmp_path / "d.npz", state=ramp(3, 2, 1, 4), sr=np.full(3, 16000))
    feeds = list(Dataset(path, specs))
    assert np.array_equal(feeds[1]["state"], ramp(3, 2, 1, 4)[1])
    assert isinstance(feeds[1]["sr"], np.ndarray)  # runtimes take no bare numbers
    assert feeds[1]["sr"].shape == ()
    assert feeds[1]["sr"] == 16000


def test_a_last_partial_batch_is_filled_and_counted(tmp_path: Path) -> None:
    path = npz(tmp_path / "d.npz", x=ramp(5, 3), labels=np.arange(5))
    batches = list(Dataset(path, [InputSpec("x", "float32", (2, 3))]).batches())
    assert [(b.start, b.count) for b in batches] == [(0, 2), (2, 2), (4, 1)]
    assert np.array_equal(batches[2].feed["x"], ramp(5, 3)[[4, 4]])
    assert list(batches[2].labels) == [4]


def test_fortran_order_is_read_right(tmp_path: Path) -> None:
    path = npz(tmp_path / "d.npz", x=np.asfortranarray(ramp(7, 2, 3)))
    assert NpzFile(path).members["x"].fortran
    assert np.array_equal(np.concatenate([f["x"] for f in Dataset(path, [X])]), ramp(7, 2, 3))


def test_folder_of_files_is_one_stream(tmp_path: Path) -> None:
    npz(tmp_path / "a.npz", x=ramp(5, 3)[:2], labels=np.arange(5)[:2])
    npz(tmp_path / "b.npz", x=ramp(5, 3)[2:], labels=np.arange(5)[2:])
    data = Dataset(tmp_path, [InputSpec("x", "float32", (2, 3))])
    assert (data.samples, len(data)) == (5, 3)
    batches = list(data.batches())
    assert np.array_equal(np.concatenate([b.feed["x"] for b in batches])[:5], ramp(5, 3))
    assert list(np.concatenate([b.labels for b in batches])) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7, 50])
def test_blocks_span_files(tmp_path: Path, size: int) -> None:
    whole = ramp(10, 2)
    cuts = [0, 1, 6, 10]
    parts = [npz(tmp_path / f"{i}.npz", x=whole[a:b]) for i, (a, b) in enumerate(pairwise(cuts))]
    chain = Chain(tuple(NpzFile(p).members["x"] for p in parts))
    blocks = list(chain.blocks(size))
    assert all(len(b) == size for b in blocks[:-1])
    assert np.array_equal(np.concatenate(blocks), whole)


def test_files_of_a_folder_must_agree(tmp_path: Path) -> None:
    npz(tmp_path / "a.npz", x=ramp(2, 3))
    npz(tmp_path / "b.npz", y=ramp(2, 3))
    with pytest.raises(DataError, match=r"b\.npz holds \['y'\]"):
        Dataset(tmp_path, [X])
    npz(tmp_path / "b.npz", x=ramp(2, 4))
    with pytest.raises(DataError, match=r"float32\[4\].*float32\[3\]"):
        Dataset(tmp_path, [X])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"X": ramp(2, 2, 3)}, "no array 'x'; did you mean 'X'|no array 'x'; known: X"),
        ({"x": ramp(2, 2, 4)}, r"float32\[2, 2, 4\].*input 'x' takes float32\[1, 2, 3\]"),
        ({"x": ramp(2, 3)}, r"float32\[2, 3\]"),
        ({"x": ramp(0, 2, 3)}, "holds no samples"),
        ({"x": np.array(1.0)}, "a single number"),
        ({"x": np.full((1, 2, 3), "a")}, "takes float32"),
        ({"x": ramp(2, 2, 3).astype(complex)}, "complex128, but the network takes float32"),
        ({"x": ramp(2, 2, 3), "labels": np.arange(3)}, "3 labels for 2 samples"),
        ({"x": np.full((1, 2, 3), None)}, "Python objects"),
    ],
)
def test_wrong_arrays_are_refused(tmp_path: Path, arrays: dict[str, object], message: str) -> None:
    path = npz(tmp_path / "d.npz", **arrays)
    with pytest.raises(DataError, match=message):
        Dataset(path, [X])


def test_inputs_must_have_equally_many_samples(tmp_path: Path) -> None:
    path = npz(tmp_path / "d.npz", a=ramp(3, 1), b=ramp(2, 1))
    specs = [InputSpec("a", "float32", (1, 1)), InputSpec("b", "float32", (1, 1))]
    with pytest.raises(DataError, match="'a' 3, 'b' 2"):
        Dataset(path, specs)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_finite_names_input_and_sample(tmp_path: Path, bad: float) -> None:
    x = ramp(6, 2, 3)
    x[4, 1, 2] = bad
    path = npz(tmp_path / "d.npz", x=x)
    with pytest.raises(DataError, match="input 'x', sample 4"):
        list(Dataset(path, [X]))
    assert len(list(Dataset(path, [X], finite=False))) == 6


def test_reals_are_rounded_integers_stay(tmp_path: Path) -> None:
    path = npz(tmp_path / "d.npz", x=np.full((1, 2, 3), 0.1))
    assert next(iter(Dataset(path, [X])))["x"].dtype == np.float32
    path = npz(tmp_path / "d.npz", x=np.full((1, 2, 3), 200, np.uint8))
    assert next(iter(Dataset(path, [X])))["x"].max() == 200.0
    path = npz(tmp_path / "d.npz", x=np.full((1, 2, 3), 2**24 + 1))
    with pytest.raises(DataError, match="cannot hold exactly"):
        list(Dataset(path, [X]))
    path = npz(tmp_path / "d.npz", x=np.full((1, 2, 3), 1e300))
    with pytest.raises(DataError, match="too large for float32"):
        list(Dataset(path, [X]))
    path = npz(tmp_path / "d.npz", t=np.full((1, 4), 1.0))
    with pytest.raises(DataError, match="float64, but the network takes int64"):
        Dataset(path, [InputSpec("t", "int64", (1, 4))])


@pytest.mark.parametrize("text", [b"", b"not a zip file at all", b"PK\x03\x04" + b"\0" * 50])
def test_what_is_no_npz_is_refused(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "d.npz").write_bytes(text)
    with pytest.raises(DataError, match=r"d\.npz is not an \.npz file or is truncated"):
        Dataset(tmp_path / "d.npz", [X])


def test_missing_and_empty_places(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        Dataset(tmp_path / "no.npz", [X])
    with pytest.raises(DataError, match="is empty"):
        Dataset(tmp_path, [X])


def test_damaged_data_is_refused(tmp_path: Path) -> None:
    path = npz(tmp_path / "d.npz", x=ramp(50, 2, 3))
    raw = bytearray(path.read_bytes())
    raw[400] ^= 0xFF
    path.write_bytes(raw)
    with pytest.raises(DataError, match="'x' is damaged"):
        list(Dataset(path, [X]))


def test_header_that_promises_too_much_is_refused(tmp_path: Path) -> None:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        stream, {"descr": "<f4", "fortran_order": False, "shape": (9, 2, 3)}
    )
    with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
        archive.writestr("x.npy", stream.getvalue() + b"\0" * 24)
    with pytest.raises(DataError, match="ends early"):
        list(Dataset(tmp_path / "d.npz", [X]))


def peak_of_pass(path: Path) -> int:
    data = Dataset(path, [InputSpec("x", "float32", (1, 4096))])
    tracemalloc.start()
    for _ in data:
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_memory_does_not_grow_with_the_samples(tmp_path: Path, save: object) -> None:
    for count in (16, 1024):
        x = np.zeros((count, 4096), np.float32)
        save(tmp_path / f"{count}.npz", x=x)  # type: ignore[operator]
    few, many = peak_of_pass(tmp_path / "16.npz"), peak_of_pass(tmp_path / "1024.npz")
    assert many < few + 65536


def test_symbolic_shapes_come_from_the_data(tmp_path: Path) -> None:
    path = npz(tmp_path / "d.npz", x=ramp(8, 3, 4), s=ramp(8, 2, 5))
    specs = [InputSpec("x", "float32", ("n", 3, "w")), InputSpec("s", "float32", ("a", "b"))]
    found = columns(path, ["x", "s"])
    assert known_shapes(found, specs) == {"x": (1, 3, 4), "s": (2, 5)}
    with pytest.raises(
        DataError, match="dimension 'n' of input 'x' is not known; give --input-shape"
    ):
        Dataset(path, specs)


def test_feeds_of_a_program_are_checked() -> None:
    good = [{"x": ramp(1, 2, 3).astype(np.float64)}]
    assert next(iter(Feeds(good, [X])))["x"].dtype == np.float32
    with pytest.raises(DataError, match="not an iterator"):
        Feeds(iter(good), [X])
    with pytest.raises(DataError, match="feed 0 has no array 'x'"):
        list(Feeds([{"y": ramp(1)}], [X]))
    with pytest.raises(DataError, match=r"is \[2, 3\], but input 'x'"):
        list(Feeds([{"x": ramp(2, 3)}], [X]))
    with pytest.raises(DataError, match="sample 1"):
        list(Feeds([*good, {"x": np.full((1, 2, 3), np.nan)}], [X]))


# -- images ------------------------------------------------------------------------------------


def image(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array.astype(np.uint8)).save(path)
    return path


def colors(height: int, width: int) -> np.ndarray:
    return np.stack([np.full((height, width), v) for v in (10, 20, 30)], -1)


def test_classes_come_from_folders(tmp_path: Path) -> None:
    image(tmp_path / "dog" / "1.png", colors(2, 2))
    image(tmp_path / "cat" / "1.png", colors(2, 2))
    image(tmp_path / "cat" / "0.png", colors(2, 2) + 1)
    data = Dataset(tmp_path, [InputSpec("in", "float32", (1, 3, 2, 2))], Preprocess())
    assert list(data.labels) == [0, 0, 1]
    assert next(iter(data))["in"][0, :, 0, 0].tolist() == [11, 21, 31]


def test_folders_with_numbers_are_labels(tmp_path: Path) -> None:
    image(tmp_path / "10" / "a.png", colors(2, 2))
    image(tmp_path / "9" / "a.png", colors(2, 2))
    data = Dataset(tmp_path, [InputSpec("in", "float32", (1, 3, 2, 2))], Preprocess())
    assert list(data.labels) == [10, 9]


def test_images_without_classes_have_no_labels(tmp_path: Path) -> None:
    image(tmp_path / "a.png", colors(2, 2))
    spec = InputSpec("in", "float32", (1, 3, 2, 2))
    assert Dataset(tmp_path, [spec], Preprocess()).labels is None
    with pytest.raises(DataError, match="--preprocess FILE"):
        Dataset(tmp_path, [spec])
    with pytest.raises(DataError, match="the network has 2"):
        Dataset(tmp_path, [spec, spec], Preprocess())


def test_preprocessing_follows_its_formula(tmp_path: Path) -> None:
    path = image(tmp_path / "a.png", colors(4, 8))
    pre = Preprocess((2, 4), (), "bgr", (1.0, 2.0, 3.0), (2.0, 1.0, 1.0), "nchw")
    assert pre.apply(path)[:, 0, 0].tolist() == [14.5, 18.0, 7.0]
    assert pre.apply(path).shape == (3, 2, 4)
    assert Preprocess((2,), layout="nhwc").apply(path).shape == (2, 4, 3)
    assert Preprocess((2,), (2,)).apply(path).shape == (3, 2, 2)
    assert Preprocess(color="grey").apply(path).shape == (1, 4, 8)
    with pytest.raises(DataError, match="smaller than crop 5x5"):
        Preprocess(crop=(5,)).apply(path)


def test_crop_is_taken_from_the_centre(tmp_path: Path) -> None:
    array = np.zeros((5, 5, 3))
    array[2, 2] = 9
    assert Preprocess(crop=(1, 1)).apply(image(tmp_path / "a.png", array)).max() == 9


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("colour = 'rgb'", "unknown key 'colour'; did you mean 'color'"),
        ("color = 'gbr'", "did you mean"),
        ("layout = 'hwc'", "did you mean 'nhwc'"),
        ("size = [1.5, 2]", "size takes integers"),
        ("size = [0, 2]", "positive integers"),
        ("mean = [1, 2]", "mean takes 1 or 3 numbers, not 2"),
        ("std = [0, 1, 1]", "std must not be 0"),
        ("std = 'one'", "std takes numbers"),
        ("=", "cannot be read"),
    ],
)
def test_wrong_preprocess_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "p.toml").write_text(text)
    with pytest.raises(DataError, match=message):
        load_preprocess(tmp_path / "p.toml")


def test_preprocess_file_is_read(tmp_path: Path) -> None:
    text = 'size = [2, 4]\ncrop = 2\ncolor = "bgr"\nmean = [1, 2, 3]\nstd = 255\nlayout = "nhwc"\n'
    (tmp_path / "p.toml").write_text(text)
    expected = Preprocess((2, 4), (2,), "bgr", (1, 2, 3), (255,), "nhwc")
    assert load_preprocess(tmp_path / "p.toml") == expected


def test_broken_and_uneven_images_are_named(tmp_path: Path) -> None:
    image(tmp_path / "a.png", colors(2, 2))
    image(tmp_path / "b.png", colors(3, 3))
    data = Dataset(tmp_path, [InputSpec("in", "float32", (1, 3, 2, 2))], Preprocess())
    with pytest.raises(DataError, match=r"b\.png' becomes \[3, 3, 3\].*set size"):
        list(data)
    (tmp_path / "a.png").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"a\.png' cannot be read"):
        Dataset(tmp_path, [InputSpec("in", "float32", (1, 3, 2, 2))], Preprocess())
