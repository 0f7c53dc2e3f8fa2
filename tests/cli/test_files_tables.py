"""Evaluation over Parquet and CSV files."""

import csv
import datetime as dt
import math
from itertools import product

import numpy as np
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewave.cli.files import ContentError, DamagedFileError, UnsupportedFileError, evaluate_file

SUFFIXES = [".parquet", ".csv"]
PAIRS = list(product(SUFFIXES, SUFFIXES))
CHUNK = 4
SPECIAL = [math.nan, math.inf, -math.inf, 0.0, -0.0, 0.1, 1e-300]


def identity(values):
    return {"y": values["x"]}


def evaluate(source, target, compute=identity, *, dtype="float64", **options):
    """Evaluate with one input x and one output y, by default in small chunks."""
    asked = {"inputs": ["x"], "outputs": ["y"], "chunk_elements": CHUNK} | options
    return evaluate_file(source, target, dtype=dtype, compute=compute, **asked)


def evaluate_text(folder, text, **options):
    """Return the CSV that is computed from CSV."""
    (folder / "x.csv").write_text(text, encoding="utf-8", newline="")
    evaluate(folder / "x.csv", folder / "y.csv", **options)
    return (folder / "y.csv").read_bytes().decode()


def save(path, **columns):
    table = pa.table(columns)
    pq.write_table(table, path) if path.suffix == ".parquet" else arrow_csv.write_csv(table, path)
    return path


def load(path):
    return (pq.read_table if path.suffix == ".parquet" else arrow_csv.read_csv)(path)


@pytest.mark.parametrize(("before", "after"), PAIRS)
def test_every_pair_of_formats_keeps_columns_and_adds_outputs(tmp_path, before, after):
    a, b = np.linspace(-2, 2, 11), np.arange(11)
    names = [f"row, {row}" for row in range(11)]
    source, target = save(tmp_path / f"x{before}", id=names, b=b, a=a), tmp_path / f"y{after}"

    done = evaluate(
        source,
        target,
        lambda values: {"sum": values["a"] + values["b"], "product": values["a"] * values["b"]},
        inputs=["a", "b"],
        outputs=["sum", "product"],
    )
    found = load(target)
    assert done == 11
    assert found.column_names == ["id", "b", "a", "sum", "product"]
    assert found["id"].to_pylist() == names
    np.testing.assert_array_equal(found["b"], b)
    np.testing.assert_array_equal(found["a"], a)
    np.testing.assert_array_equal(found["sum"], a + b)
    np.testing.assert_array_equal(found["product"], a * b)


@pytest.mark.parametrize(("before", "after"), PAIRS)
def test_special_values_pass_unchanged(tmp_path, before, after):
    source, target = save(tmp_path / f"x{before}", x=SPECIAL), tmp_path / f"y{after}"

    evaluate(source, target)
    column = load(target)["y"].cast(pa.float64())
    assert column.to_numpy().tobytes() == np.array(SPECIAL).tobytes()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_table_without_rows_has_its_columns(tmp_path, suffix):
    source = save(tmp_path / f"x{suffix}", x=pa.array([], pa.float32()))

    for target in (tmp_path / "y.csv", tmp_path / "y.parquet"):
        assert evaluate(source, target) == 0
        assert load(target).column_names == ["x", "y"]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_parquet_holds_outputs_in_their_dtype(tmp_path, dtype):
    x = np.linspace(-2, 2, 11).astype(dtype)
    source = save(tmp_path / "x.parquet", x=x)

    evaluate(source, tmp_path / "y.parquet", dtype=dtype)
    found = load(tmp_path / "y.parquet")["y"]
    assert found.to_numpy().dtype == np.dtype(dtype)
    np.testing.assert_array_equal(found, x)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_tables_cannot_hold_bfloat16(tmp_path, suffix):
    source = save(tmp_path / f"x{suffix}", x=[1.0])

    with pytest.raises(UnsupportedFileError, match="cannot hold bfloat16: choose another dtype"):
        evaluate(source, tmp_path / f"y{suffix}", dtype="bfloat16")


def test_parquet_keeps_types_nulls_and_metadata_of_other_columns(tmp_path):
    kept = pa.table(
        {
            "when": [dt.date(2024, 2, 29), None],
            "tags": [["a"], []],
            "kind": pa.array(["p", "q"]).dictionary_encode(),
            "x": pa.array([1, 2], pa.int16()),
        }
    ).replace_schema_metadata({"origin": "here"})
    pq.write_table(kept, tmp_path / "x.parquet")

    evaluate(tmp_path / "x.parquet", tmp_path / "y.parquet")
    found = load(tmp_path / "y.parquet")
    assert found.drop_columns("y").equals(kept, check_metadata=False)
    assert found.schema.metadata[b"origin"] == b"here"


@pytest.mark.parametrize("dtype", [pa.int8(), pa.uint64(), pa.float16(), pa.float32()])
def test_other_numbers_are_converted(tmp_path, dtype):
    source = save(tmp_path / "x.parquet", x=pa.array([0.0, 1.0, 100.0]).cast(dtype))

    evaluate(source, tmp_path / "y.parquet", dtype="float32")
    assert load(tmp_path / "y.parquet")["y"].to_pylist() == [0, 1, 100]


def test_batches_go_across_row_groups_in_order(tmp_path):
    pq.write_table(pa.table({"x": np.arange(100.0)}), tmp_path / "x.parquet", row_group_size=7)

    assert evaluate(tmp_path / "x.parquet", tmp_path / "y.parquet", chunk_elements=11) == 100
    assert load(tmp_path / "y.parquet")["y"].to_pylist() == list(range(100))


def test_chunks_of_csv_are_no_longer_than_asked(tmp_path):
    lengths = []

    def compute(values):
        lengths.append(len(values["x"]))
        return identity(values)

    source = save(tmp_path / "x.csv", x=np.arange(10.0))
    evaluate(source, tmp_path / "y.csv", compute)
    assert lengths == [4, 4, 2]


@pytest.mark.parametrize(("suffix", "total"), [(".parquet", 10), (".csv", None)])
def test_progress_knows_the_total_where_the_format_does(tmp_path, suffix, total):
    seen = []
    source = save(tmp_path / f"x{suffix}", x=np.arange(10.0))

    evaluate(source, tmp_path / "y.csv", progress=lambda *told: seen.append(told))
    assert seen == [(4, total), (8, total), (10, total)]


# CSV to the letter


def test_csv_stays_as_it_is_but_for_the_outputs(tmp_path):
    text = (
        'id,x,"na""me",empty,note\n'
        '007,1.10,"Smith, J",,"two\nlines"\n'
        '1e3,+2,é,"", padded \n'
        "TRUE, 3 ,2024-01-01,NULL,N/A\n"
    )
    lines = evaluate_text(tmp_path, text)
    assert lines == (
        'id,x,"na""me",empty,note,y\n'
        '007,1.10,"Smith, J",,"two\nlines",1.1\n'
        '1e3,+2,é,"", padded ,2\n'
        "TRUE, 3 ,2024-01-01,NULL,N/A,3\n"
    )


def test_line_breaks_in_quotes_may_fall_anywhere(tmp_path):
    text = "x,note\n" + '1,"\n\n\n"\n' * 300_000

    assert evaluate_text(tmp_path, text, chunk_elements=1 << 20).count('1,"\n\n\n",1\n') == 300_000


def test_csv_may_have_a_byte_order_mark_and_windows_line_ends(tmp_path):
    assert evaluate_text(tmp_path, "\ufeffx\r\n1\r\n2\r\n") == "x,y\n1,1\n2,2\n"


@pytest.mark.parametrize("text", ["NaN", "nan", "inf", "-inf", "Infinity", "-Infinity", "+inf"])
def test_csv_spells_nan_and_infinity_in_many_ways(tmp_path, text):
    evaluate_text(tmp_path, f"x\n{text}\n")
    y = (tmp_path / "y.csv").read_text().split()[1].split(",")[1]
    assert y in {"NaN", "inf", "-inf"}
    assert np.array_equal(float(y), float(text), equal_nan=True)


@pytest.mark.parametrize(
    ("dtype", "digits"),
    [
        ("float16", "0.1,0.3333,6.55e+04,6e-08"),
        ("float32", "0.1,0.33333334,65504,5.9604645e-8"),
        ("float64", "0.1,0.3333333333333333,65504,5.960464477539063e-8"),
    ],
)
def test_csv_has_the_fewest_digits_that_read_back_the_same(tmp_path, dtype, digits):
    x = ["0.1", "0.3333333333333333", "65504", "5.960464477539063e-8"]
    lines = evaluate_text(tmp_path, "\n".join(["x", *x, ""]), dtype=dtype)

    assert [line.split(",")[1] for line in lines.splitlines()[1:]] == digits.split(",")


@given(st.lists(st.floats(), min_size=1), st.sampled_from(["float16", "float32", "float64"]))
def test_numbers_survive_csv(tmp_path_factory, numbers, dtype):
    folder = tmp_path_factory.mktemp("csv")
    with np.errstate(over="ignore"):
        x = np.array(numbers).astype(dtype)
    evaluate(save(folder / "x.parquet", x=x), folder / "1.csv", dtype=dtype)
    evaluate(
        folder / "1.csv",
        folder / "2.parquet",
        lambda values: {"z": values["y"]},
        inputs=["y"],
        outputs=["z"],
        dtype=dtype,
    )
    np.testing.assert_array_equal(load(folder / "2.parquet")["z"], x)


FIELD = st.text(st.characters(codec="utf-8", exclude_characters="\r\0"))


@given(st.lists(st.lists(FIELD, min_size=2, max_size=2), max_size=9))
def test_other_columns_survive_csv(tmp_path_factory, texts):
    folder = tmp_path_factory.mktemp("csv")
    rows = [["a", "x", "b"], *([a, "1", b] for a, b in texts)]
    with (folder / "x.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
    evaluate(folder / "x.csv", folder / "y.csv")

    with (folder / "y.csv").open(encoding="utf-8", newline="") as file:
        assert [row[:3] for row in csv.reader(file)] == rows


def test_csv_becomes_parquet_with_inputs_as_numbers_and_the_rest_as_text(tmp_path):
    (tmp_path / "x.csv").write_text("id,x\n007,1.10\n,2\n")

    evaluate(tmp_path / "x.csv", tmp_path / "y.parquet", dtype="float32")
    found = load(tmp_path / "y.parquet")
    assert [str(field.type) for field in found.schema] == ["large_string", "float", "float"]
    assert found["id"].to_pylist() == ["007", None]
    assert found["x"].to_pylist() == [np.float32(1.1), 2]


def test_parquet_becomes_csv_with_nulls_empty_and_texts_quoted_where_needed(tmp_path):
    source = save(
        tmp_path / "x.parquet",
        id=["a,b", None, ""],
        when=[dt.date(2024, 2, 29), None, None],
        half=pa.array([0.1, None, math.nan], pa.float16()),
        x=[1, 2, 3],
    )
    evaluate(source, tmp_path / "y.csv")
    assert (tmp_path / "y.csv").read_text().splitlines() == [
        "id,when,half,x,y",
        '"a,b",2024-02-29,0.1,1,1',
        ",,,2,2",
        '"",,NaN,3,3',
    ]


def test_columns_that_csv_cannot_hold_are_named(tmp_path):
    source = save(tmp_path / "x.parquet", x=[1.0], tags=[["a", "b"]])

    with pytest.raises(ContentError, match="cannot hold column 'tags', which is list<"):
        evaluate(source, tmp_path / "y.csv")


def test_bytes_that_csv_cannot_hold_are_named(tmp_path):
    source = save(tmp_path / "x.parquet", x=[1.0], key=[b"\xff"])

    with pytest.raises(ContentError, match="cannot hold column 'key', which is binary"):
        evaluate(source, tmp_path / "y.csv")


# What is refused


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_missing_number_is_an_error_that_says_where(tmp_path, suffix):
    values = pa.array([1.0, 2, 3, 4, 5, None, 7])
    source = save(tmp_path / f"x{suffix}", id=list("abcdefg"), x=values)

    with pytest.raises(ContentError, match=r"column 'x', row 5 \(the first is 0\): is empty"):
        evaluate(source, tmp_path / f"y{suffix}")


@pytest.mark.parametrize("text", ["NA", "1,5", "0x10", "1_000", "true", "12:30", "1e", "—"])
def test_text_that_is_no_number_is_an_error_that_says_where(tmp_path, text):
    rows = ["1"] * 6 + [f'"{text}"', "1"]

    with pytest.raises(ContentError, match=rf"column 'x', row 6 .*: '{text}' is not a number"):
        evaluate_text(tmp_path, "\n".join(["x", *rows, ""]))


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(("dtype", "value"), [("float32", -1e39), ("float16", 65520.0)])
def test_a_number_beyond_the_dtype_is_an_error_that_says_where(tmp_path, suffix, dtype, value):
    source = save(tmp_path / f"x{suffix}", x=[1.0, 2, 3, 4, 5, value])

    with pytest.raises(ContentError, match=rf"column 'x', row 5 .*: .* is beyond {dtype}"):
        evaluate(source, tmp_path / f"y{suffix}", dtype=dtype)


def test_a_number_that_no_float_can_hold_is_not_read_as_infinity(tmp_path):
    with pytest.raises(ContentError, match=r"row 1 .*: 1e400 is beyond float64"):
        evaluate_text(tmp_path, "x\ninf\n1e400\n")


@pytest.mark.parametrize(
    ("column", "name"),
    [
        (["1"], "string"),
        ([True], "bool"),
        ([[1.0]], "list<.*>"),
        (pa.array([1], pa.timestamp("us")), r"timestamp\[us\]"),
        (pa.array([1], pa.decimal128(5, 2)), r"decimal128\(5, 2\)"),
    ],
)
def test_columns_that_are_no_numbers_are_refused_by_name(tmp_path, column, name):
    source = save(tmp_path / "x.parquet", x=column)

    with pytest.raises(ContentError, match=f"column 'x': holds {name}, expected integers or float"):
        evaluate(source, tmp_path / "y.parquet")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_missing_inputs_list_the_columns_there(tmp_path, suffix):
    source = save(tmp_path / f"x{suffix}", X=[1.0], id=["a"])

    with pytest.raises(ContentError, match=rf"x\{suffix}: no column 'x'; there are 'X', 'id'"):
        evaluate(source, tmp_path / f"y{suffix}")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_output_does_not_take_the_name_of_a_column(tmp_path, suffix):
    source = save(tmp_path / f"x{suffix}", x=[1.0], y=[2.0])

    with pytest.raises(ContentError, match="has a column 'y', which is what the output is called"):
        evaluate(source, tmp_path / f"y{suffix}")


def test_an_input_stands_once(tmp_path):
    with pytest.raises(ContentError, match="more than one column 'x'"):
        evaluate_text(tmp_path, "x,x\n1,2\n")


def test_other_columns_may_share_a_name(tmp_path):
    assert evaluate_text(tmp_path, "a,x,a\n1,2,3\n") == "a,x,a,y\n1,2,3,2\n"


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"x,a\n1\n",
        b"x,a\n1,2,3\n",
        b"x\n1\n\xff\n",
        b"x,\xff\n1,2\n",
        b'x,a\n1,"' + b"a" * (2 << 20),
    ],
    ids=["empty", "short", "long", "not UTF-8", "name not UTF-8", "row of 2 MiB"],
)
def test_broken_csv_is_damaged(tmp_path, text):
    (tmp_path / "x.csv").write_bytes(text)

    with pytest.raises(DamagedFileError, match=r"x\.csv: is damaged, or no \.csv file: "):
        evaluate(tmp_path / "x.csv", tmp_path / "y.csv")
