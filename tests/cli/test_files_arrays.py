"""Evaluation over .npy, .npz and .safetensors files."""

import io
import json
import zipfile
from itertools import product

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from safetensors.numpy import load_file, save_file

from gatewave.cli.files import ContentError, UnsupportedFileError, evaluate_file

SUFFIXES = [".npy", ".npz", ".safetensors"]
SHAPES = [(), (0,), (7,), (3, 0), (3, 5), (2, 3, 4)]
PAIRS = list(product(SUFFIXES, SUFFIXES))
NAMED_PAIRS = list(product(SUFFIXES[1:], SUFFIXES[1:]))
NUMPY_PAIRS = list(product(SUFFIXES[:2], SUFFIXES))
CHUNK = 4
DTYPES = {
    "float16": np.float16,
    "bfloat16": ml_dtypes.bfloat16,
    "float32": np.float32,
    "float64": np.float64,
}


def identity(values):
    return {"y": values["x"]}


def negative(values):
    return {"y": -values["x"]}


def sum_and_product(values):
    return {"sum": values["a"] + values["b"], "product": values["a"] * values["b"]}


def evaluate(source, target, compute=identity, *, dtype="float64", **options):
    """Evaluate with one input x and one output y, by default in small chunks."""
    asked = {"inputs": ["x"], "outputs": ["y"], "chunk_elements": CHUNK} | options
    return evaluate_file(source, target, dtype=dtype, compute=compute, **asked)


def evaluate_both(source, target, **options):
    names = {"inputs": ["a", "b"], "outputs": ["sum", "product"]}
    return evaluate(source, target, sum_and_product, **names, **options)


def save(path, **named):
    match path.suffix:
        case ".npy":
            np.save(path, *named.values())
        case ".npz":
            np.savez(path, **named)
        case ".safetensors":
            save_file({name: np.asarray(value, order="C") for name, value in named.items()}, path)
    return path


def load(path):
    match path.suffix:
        case ".npy":
            return {"y": np.load(path)}
        case ".npz":
            with np.load(path) as archive:
                return dict(archive)
        case _:
            return load_file(path)


def numbers(shape, dtype=np.float64):
    return np.random.default_rng(0).standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("before", "after"), PAIRS)
def test_every_pair_of_formats_keeps_values_and_shape(tmp_path, before, after, shape):
    x = numbers(shape)
    source, target = save(tmp_path / f"x{before}", x=x), tmp_path / f"y{after}"

    assert evaluate(source, target, negative) == x.size
    np.testing.assert_array_equal(load(target)["y"], -x, strict=True)


@pytest.mark.parametrize(("before", "after"), NAMED_PAIRS)
def test_many_inputs_and_outputs_go_by_name(tmp_path, before, after):
    a, b = numbers((3, 5)), numbers((3, 5)) + 1
    source, target = save(tmp_path / f"x{before}", b=b, other=b[0], a=a), tmp_path / f"y{after}"

    evaluate_both(source, target)
    found = load(target)
    assert list(found) == ["sum", "product"] or after == ".safetensors"
    np.testing.assert_array_equal(found["sum"], a + b, strict=True)
    np.testing.assert_array_equal(found["product"], a * b, strict=True)


@pytest.mark.parametrize("dtype", DTYPES)
def test_safetensors_hold_every_dtype(tmp_path, dtype):
    x = numbers((3, 5), DTYPES[dtype])
    source, target = save(tmp_path / "x.safetensors", x=x), tmp_path / "y.safetensors"

    evaluate(source, target, negative, dtype=dtype)
    np.testing.assert_array_equal(load(target)["y"], -x, strict=True)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_numpy_files_hold_what_numpy_can_name(tmp_path, suffix, dtype):
    x = numbers((3, 5), dtype)
    source, target = save(tmp_path / f"x{suffix}", x=x), tmp_path / f"y{suffix}"

    evaluate(source, target, negative, dtype=dtype)
    np.testing.assert_array_equal(load(target)["y"], -x, strict=True)


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_bfloat16_points_to_safetensors_where_numpy_cannot_name_it(tmp_path, suffix):
    source = save(tmp_path / f"x{suffix}", x=numbers(3))

    with pytest.raises(UnsupportedFileError, match=r"y\.np.: cannot hold bfloat16: write \.safet"):
        evaluate(source, tmp_path / f"y{suffix}", dtype="bfloat16")
    evaluate(source, tmp_path / "y.safetensors", dtype="bfloat16")
    assert load(tmp_path / "y.safetensors")["y"].dtype == ml_dtypes.bfloat16


@pytest.mark.parametrize(("before", "after"), NUMPY_PAIRS)
def test_fortran_order_is_read_right(tmp_path, before, after):
    x = np.asfortranarray(numbers((5, 3, 4)))
    source, target = save(tmp_path / f"x{before}", x=x), tmp_path / f"y{after}"

    evaluate(source, target)
    found = load(target)["y"]
    np.testing.assert_array_equal(found, x, strict=True)
    assert found.flags.f_contiguous == (after != ".safetensors")


@pytest.mark.parametrize("save_archive", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("after", [".npz", ".safetensors"])
def test_orders_may_be_mixed(tmp_path, save_archive, after):
    a, b = np.asfortranarray(numbers((5, 7))), numbers((5, 7)) + 1
    source, target = tmp_path / "x.npz", tmp_path / f"y{after}"
    save_archive(source, a=a, b=b)

    evaluate_both(source, target)
    np.testing.assert_array_equal(load(target)["sum"], a + b, strict=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.npz", f"y{after}"]


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
@pytest.mark.parametrize("dtype", [">f2", ">f4", ">f8", ">i4", "<u8", "i1"])
def test_other_numbers_and_byte_orders_are_converted(tmp_path, suffix, dtype):
    x = np.arange(15).reshape(3, 5).astype(dtype)
    source, target = save(tmp_path / f"x{suffix}", x=x), tmp_path / f"y{suffix}"

    evaluate(source, target, dtype="float32")
    np.testing.assert_array_equal(load(target)["y"], x.astype(np.float32), strict=True)


@pytest.mark.parametrize("dtype", ["u1", "i2", "u4", "i8", "f2", "f8", ml_dtypes.bfloat16])
def test_safetensors_of_other_numbers_are_converted(tmp_path, dtype):
    x = np.arange(15).reshape(3, 5).astype(dtype)
    source, target = save(tmp_path / "x.safetensors", x=x), tmp_path / "y.safetensors"

    evaluate(source, target, dtype="float32")
    np.testing.assert_array_equal(load(target)["y"], x.astype(np.float32), strict=True)


@pytest.mark.parametrize("save_archive", [np.savez, np.savez_compressed])
def test_archives_may_be_compressed(tmp_path, save_archive):
    x = numbers(1000)
    save_archive(tmp_path / "x.npz", x=x)

    evaluate(tmp_path / "x.npz", tmp_path / "y.npz", chunk_elements=64)
    np.testing.assert_array_equal(load(tmp_path / "y.npz")["y"], x, strict=True)


def test_members_of_an_archive_are_ready_for_more_than_4_gib(tmp_path):
    evaluate(save(tmp_path / "x.npz", x=numbers(3)), tmp_path / "y.npz")

    # The local header of a ZIP64 member, behind its name, has the extra field 0x0001.
    content = (tmp_path / "y.npz").read_bytes()
    assert content[30 + len("y.npy") :].startswith(b"\x01\x00\x10\x00")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_same_numbers_make_the_same_file(tmp_path, suffix):
    source = save(tmp_path / f"x{suffix}", x=numbers(9))
    first, second = tmp_path / f"1{suffix}", tmp_path / f"2{suffix}"

    evaluate(source, first, chunk_elements=2)
    evaluate(source, second, chunk_elements=9)
    assert first.read_bytes() == second.read_bytes()


def test_tensors_begin_where_the_format_wants_them_aligned(tmp_path):
    evaluate(save(tmp_path / "x.npy", x=numbers(3)), tmp_path / "y.safetensors")

    content = (tmp_path / "y.safetensors").read_bytes()
    length = int.from_bytes(content[:8], "little")
    assert length % 8 == 0
    assert json.loads(content[8 : 8 + length])["y"] == {
        "dtype": "F64",
        "shape": [3],
        "data_offsets": [0, 24],
    }


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_special_values_pass_unchanged(tmp_path, suffix):
    x = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 5e-324, -1.7976931348623157e308])
    source, target = save(tmp_path / f"x{suffix}", x=x), tmp_path / f"y{suffix}"

    evaluate(source, target)
    assert load(target)["y"].tobytes() == x.tobytes()


def test_compute_gets_flat_chunks_of_the_dtype(tmp_path):
    seen = []

    def compute(values):
        seen.append(values["x"])
        return identity(values)

    source = save(tmp_path / "x.npy", x=np.arange(10, dtype=">i4").reshape(2, 5))
    evaluate(source, tmp_path / "y.npy", compute, dtype="float16")
    assert [len(x) for x in seen] == [4, 4, 2]
    assert all(x.ndim == 1 and x.dtype == np.float16 and x.flags.contiguous for x in seen)


def test_progress_is_told_of_every_chunk(tmp_path):
    seen = []
    source = save(tmp_path / "x.npy", x=numbers(10))

    evaluate(source, tmp_path / "y.npy", progress=lambda done, total: seen.append((done, total)))
    assert seen == [(4, 10), (8, 10), (10, 10)]


def test_results_may_be_views(tmp_path):
    source = save(tmp_path / "x.npy", x=numbers(10))

    evaluate(source, tmp_path / "y.npy", lambda values: {"y": np.repeat(values["x"], 2)[::2]})
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), np.load(source))


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        ({"z": np.zeros(4)}, "answered 'z', expected 'y' as well"),
        ({"y": np.zeros(3)}, r"answered float64\(3,\) for 'y', expected float64\(4,\)"),
        ({"y": np.zeros(4, np.float32)}, r"answered float32\(4,\) for 'y', expected float64"),
    ],
)
def test_compute_is_held_to_what_was_agreed(tmp_path, answer, complaint):
    source = save(tmp_path / "x.npy", x=numbers(4))

    with pytest.raises(ValueError, match=complaint):
        evaluate(source, tmp_path / "y.npy", lambda _: answer)
    assert not (tmp_path / "y.npy").exists()


def test_a_chunk_has_at_least_one_element(tmp_path):
    with pytest.raises(ValueError, match="chunk_elements is 0"):
        evaluate(save(tmp_path / "x.npy", x=numbers(4)), tmp_path / "y.npy", chunk_elements=0)


# Rounding and range


def nearest_bfloat16(values):
    """Return the closest finite bfloat16 values, ties to even, by brute force."""
    every = np.arange(0x7F80, dtype=np.uint16).view(ml_dtypes.bfloat16).astype(np.float64)
    above = np.clip(np.searchsorted(every, np.abs(values)), 1, len(every) - 1)
    down, up = np.abs(values) - every[above - 1], every[above] - np.abs(values)
    upward = (up < down) | ((up == down) & (above % 2 == 0))
    return np.copysign(np.where(upward, every[above], every[above - 1]), values)


FINITE = st.floats(-3e38, 3e38) | st.floats(-2, 2, width=16)


@given(arrays.arrays(np.float64, st.integers(1, 20), elements=FINITE))
def test_float64_is_rounded_once_to_bfloat16(tmp_path_factory, x):
    folder = tmp_path_factory.mktemp("rounding")
    x = np.concatenate([x, x * (1 + 2.0**-40)])
    evaluate(save(folder / "x.npy", x=x), folder / "y.safetensors", dtype="bfloat16")

    found = load(folder / "y.safetensors")["y"].astype(np.float64)
    np.testing.assert_array_equal(found, nearest_bfloat16(x))


def test_values_next_to_a_tie_are_rounded_to_their_side(tmp_path):
    tie = 1 + 2.0**-8
    x = np.array([tie, tie + 2.0**-40, tie - 2.0**-40, tie + 2.0**-7, -tie - 2.0**-40])
    evaluate(save(tmp_path / "x.npy", x=x), tmp_path / "y.safetensors", dtype="bfloat16")

    expected = [1, 1 + 2**-7, 1, 1 + 2**-6, -1 - 2**-7]
    assert load(tmp_path / "y.safetensors")["y"].astype(float).tolist() == expected


@pytest.mark.parametrize(
    ("stored", "dtype", "value"),
    [
        ("f8", "float32", 1e39),
        ("f8", "float16", -70000.0),
        ("f4", "float16", 65520.0),
        ("i8", "float16", 1 << 40),
        ("f8", "bfloat16", 3.4e38),
        ("f4", "bfloat16", 3.4e38),
    ],
)
def test_a_number_beyond_the_dtype_is_an_error_that_says_where(tmp_path, stored, dtype, value):
    x = np.zeros((3, 5), stored)
    x[1, 2] = value
    source = save(tmp_path / "x.npz", x=x)

    with pytest.raises(
        ContentError, match=rf"x\.npz, array 'x'\[1, 2\]: .* is beyond {dtype}, whi"
    ):
        evaluate(source, tmp_path / "y.safetensors", dtype=dtype)


def test_the_place_of_an_error_is_right_in_fortran_order(tmp_path):
    x = np.zeros((3, 5), order="F")
    x[2, 1] = 1e300
    source = save(tmp_path / "x.npy", x=x)

    for target in ("y.npy", "y.safetensors"):
        with pytest.raises(ContentError, match=r"x\.npy\[2, 1\]: 1e\+300 is beyond float32"):
            evaluate(source, tmp_path / target, dtype="float32")


def test_the_place_of_a_scalar_is_its_file(tmp_path):
    source = save(tmp_path / "x.npy", x=np.array(1e300))

    with pytest.raises(ContentError, match=r"x\.npy: 1e\+300 is beyond float32"):
        evaluate(source, tmp_path / "y.npy", dtype="float32")


def test_infinities_and_small_numbers_are_not_beyond(tmp_path):
    x = np.array([np.inf, -np.inf, np.nan, 1e-300, 65519.0])
    evaluate(save(tmp_path / "x.npy", x=x), tmp_path / "y.npy", dtype="float16")

    expected = np.array([np.inf, -np.inf, np.nan, 0, 65504], np.float16)
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), expected, strict=True)


# What is refused


@pytest.mark.parametrize(
    ("x", "name"),
    [
        (np.array([True]), "bool"),
        (np.array([1j]), "complex128"),
        (np.array(["1"]), "str32"),
        (np.array([1], "M8[s]"), "datetime64"),
        (np.array([(1, 2)], "i4,i4"), "void64"),
        (np.array([1], np.longdouble), np.dtype(np.longdouble).name),
    ],
)
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_what_is_no_number_of_ours_is_refused_by_name(tmp_path, suffix, x, name):
    source = save(tmp_path / f"x{suffix}", x=x)

    with pytest.raises(ContentError, match=f"holds {name}.*, expected integers, or floats of 16"):
        evaluate(source, tmp_path / f"y{suffix}")


def test_pickles_are_refused(tmp_path):
    source = save(tmp_path / "x.npy", x=np.array([{"a": 1}, None], object))

    with pytest.raises(ContentError, match=r"x\.npy: holds object, .* never loaded"):
        evaluate(source, tmp_path / "y.npy")


def test_bfloat16_that_lost_its_name_is_recognised(tmp_path):
    source = save(tmp_path / "x.npy", x=np.zeros(3, ml_dtypes.bfloat16))

    with pytest.raises(ContentError, match=r"x\.npy: holds void16, .* use \.safetensors"):
        evaluate(source, tmp_path / "y.npy")


@pytest.mark.parametrize(("dtype", "name"), [("?", "BOOL"), ("c8", "C64")])
def test_tensors_that_are_no_numbers_of_ours_are_refused_by_name(tmp_path, dtype, name):
    source = save(tmp_path / "x.safetensors", x=np.zeros(3, dtype))

    with pytest.raises(ContentError, match=f"tensor 'x': holds {name}, expected one of F16, BF16"):
        evaluate(source, tmp_path / "y.safetensors")


def test_floats_of_8_bits_are_refused(tmp_path):
    source = save(tmp_path / "x.safetensors", x=np.zeros(3, ml_dtypes.float8_e4m3fn))

    with pytest.raises(ContentError, match="tensor 'x': holds F8_E4M3, expected one of"):
        evaluate(source, tmp_path / "y.safetensors")


@pytest.mark.parametrize(("suffix", "noun"), [(".npz", "array"), (".safetensors", "tensor")])
def test_missing_inputs_list_those_that_are_there(tmp_path, suffix, noun):
    source = save(tmp_path / f"x{suffix}", a=numbers(3), weight=numbers(3))

    complaint = rf"x\{suffix}: no {noun} 'b'; there are 'a', 'weight'"
    with pytest.raises(ContentError, match=complaint):
        evaluate_both(source, tmp_path / f"y{suffix}")


def test_a_long_list_of_names_is_cut_short(tmp_path):
    source = save(tmp_path / "x.npz", **{f"layer{i:02}": numbers(1) for i in range(25)})

    with pytest.raises(ContentError, match=r"'layer19', and 5 more$"):
        evaluate(source, tmp_path / "y.npz")


def test_an_archive_without_arrays_says_so(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("readme.txt", "nothing")

    with pytest.raises(ContentError, match="no array 'x'; there are none"):
        evaluate(tmp_path / "x.npz", tmp_path / "y.npz")


@pytest.mark.parametrize("suffix", SUFFIXES[1:])
def test_unequal_shapes_are_named(tmp_path, suffix):
    source = save(tmp_path / f"x{suffix}", a=numbers((2, 3)), b=numbers((3, 2)))

    with pytest.raises(ContentError, match=r"one shape: .*'a' has \(2, 3\), .*'b' has \(3, 2\)"):
        evaluate_both(source, tmp_path / f"y{suffix}")


def test_npy_holds_one_input(tmp_path):
    source = save(tmp_path / "x.npy", x=numbers(3))

    with pytest.raises(UnsupportedFileError, match=r"x\.npy: a \.npy file holds one array, .*'a'"):
        evaluate_both(source, tmp_path / "y.npz")


def test_npy_holds_one_output(tmp_path):
    source = save(tmp_path / "x.npz", a=numbers(3), b=numbers(3))

    with pytest.raises(UnsupportedFileError, match=r"y\.npy: .* outputs are 'sum', 'product': use"):
        evaluate_both(source, tmp_path / "y.npy")


def test_npy_version_3_is_refused(tmp_path):
    content = io.BytesIO()
    np.lib.format.write_array(content, numbers(3), version=(3, 0))
    (tmp_path / "x.npy").write_bytes(content.getvalue())

    with pytest.raises(UnsupportedFileError, match=r"version \(3, 0\)"):
        evaluate(tmp_path / "x.npy", tmp_path / "y.npy")


def test_npy_version_2_is_read(tmp_path):
    with (tmp_path / "x.npy").open("wb") as file:
        np.lib.format.write_array(file, numbers(3), version=(2, 0))

    evaluate(tmp_path / "x.npy", tmp_path / "y.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), numbers(3))
