"""Properties of files of every format: atomic writes, clear errors, bounded memory."""

import errno
import os
import signal
import stat
import subprocess
import sys
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from gatewave.cli.files import (
    DamagedFileError,
    FileAccessError,
    FileError,
    UnsupportedFileError,
    evaluate_file,
)

SUFFIXES = [".npy", ".npz", ".safetensors", ".parquet", ".csv"]
ROOT = Path(__file__).parents[2]


def identity(values):
    return {"y": values["x"], "z": -values["x"]}


def evaluate(source, target, compute=identity, **options):
    asked = {"inputs": ["x"], "outputs": ["y"], "dtype": "float32", "chunk_elements": 4} | options
    return evaluate_file(source, target, compute=compute, **asked)


def save(path, x):
    match path.suffix:
        case ".npy":
            np.save(path, x)
        case ".npz":
            np.savez_compressed(path, x=x)
        case ".safetensors":
            save_file({"x": x}, path)
        case ".parquet":
            pq.write_table(pa.table({"x": x}), path)
        case ".csv":
            arrow_csv.write_csv(pa.table({"x": x}), path)
    return path


@pytest.fixture(params=SUFFIXES)
def source(request, tmp_path):
    """Return a file of ten float32 numbers, for each format."""
    return save(tmp_path / f"x{request.param}", np.linspace(-2, 2, 10, dtype=np.float32))


@pytest.fixture
def target(source):
    """Return an existing file of the same format."""
    path = source.with_stem("y")
    path.write_bytes(b"before")
    return path


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# All or nothing


def test_the_target_is_replaced(source, target):
    assert evaluate(source, target) == 10
    assert target.read_bytes() != b"before"
    assert names(target.parent) == [source.name, target.name]


def test_the_target_may_be_the_source(source):
    expected = source.with_stem("expected")
    evaluate(source, expected)

    evaluate(source, source)
    assert source.read_bytes() == expected.read_bytes()


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, ZeroDivisionError, OSError])
@pytest.mark.parametrize("chunk", [0, 1, 2])
def test_an_interruption_leaves_the_target_as_it_was(source, target, interruption, chunk):
    chunks = iter(range(3))

    def compute(values):
        if next(chunks) == chunk:
            raise interruption
        return identity(values)

    with pytest.raises(interruption):
        evaluate(source, target, compute)
    assert target.read_bytes() == b"before"
    assert names(target.parent) == [source.name, target.name]


def test_an_interruption_leaves_no_file_of_waiting_outputs(tmp_path):
    source = save(tmp_path / "x.npz", np.zeros(10))

    def compute(_):
        assert len(names(tmp_path)) == 3
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(source, tmp_path / "y.npz", compute, outputs=["y", "z"])
    assert names(tmp_path) == ["x.npz"]


def test_nobody_sees_the_target_before_it_is_complete(source, target):
    seen = set()
    evaluate(source, target, progress=lambda *_: seen.add(target.read_bytes()))
    assert seen == {b"before"}


def test_ctrl_c_in_a_terminal_leaves_the_target_as_it_was(source, target):
    script = (
        "import signal, sys; from pathlib import Path\n"
        "from gatewave.cli.files import evaluate_file\n"
        # As in a terminal, even where the tests run in the background, which ignores it.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "def wait(values): print('computing', flush=True); sys.stdin.read()\n"
        "evaluate_file(Path(sys.argv[1]), Path(sys.argv[2]), inputs=['x'], outputs=['y'],"
        " dtype='float32', compute=wait)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, source, target],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        process.stdout.readline()
        assert len(names(target.parent)) == 3
        process.send_signal(signal.SIGINT)
        assert process.stderr.read().endswith(b"KeyboardInterrupt\n")
    assert target.read_bytes() == b"before"
    assert names(target.parent) == [source.name, target.name]


def test_the_target_keeps_its_permissions(source, target):
    target.chmod(0o640)
    evaluate(source, target)
    assert stat.S_IMODE(target.stat().st_mode) == 0o640


def test_a_new_target_has_the_permissions_of_new_files(source, tmp_path):
    (tmp_path / "other").touch()
    evaluate(source, tmp_path / f"new{source.suffix}")
    assert (tmp_path / f"new{source.suffix}").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_a_link_stays_and_what_it_leads_to_is_replaced(source, target):
    link = target.with_stem("link")
    link.symlink_to(target.name)

    evaluate(source, link)
    assert link.is_symlink()
    assert target.read_bytes() != b"before"


def test_a_full_disk_is_told_as_an_error_of_the_target(source, target, monkeypatch):
    def fail(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(FileAccessError, match=rf"{target.name}: No space left on device"):
        evaluate(source, target)
    assert target.read_bytes() == b"before"
    assert names(target.parent) == [source.name, target.name]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_target_that_grows_beyond_what_is_allowed_is_told_as_its_error(tmp_path, suffix):
    source = save(tmp_path / f"x{suffix}", np.linspace(0, 1, 50_000, dtype=np.float32))
    script = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from gatewave.cli.files import FileAccessError, evaluate_file\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "_, most = resource.getrlimit(resource.RLIMIT_FSIZE)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, most))\n"
        "try:\n"
        "    evaluate_file(Path(sys.argv[1]), Path(sys.argv[2]), inputs=['x'], outputs=['y', 'z'],"
        " dtype='float32', compute=lambda v: {'y': v['x'], 'z': v['x']}, chunk_elements=1000)\n"
        "except FileAccessError as error:\n"
        "    print(error)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))"
    )
    target = tmp_path / "y.npz" if suffix == ".npy" else tmp_path / f"y{suffix}"
    arguments = [sys.executable, "-W", "error", "-c", script, source, target]
    ended = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=True)
    assert ended.stdout.endswith(": File too large\n")
    assert not ended.stderr
    assert names(tmp_path) == [source.name]


# Errors


def test_a_missing_source_is_told(source, target):
    source.unlink()
    with pytest.raises(FileAccessError, match=rf"{source.name}: there is no such file"):
        evaluate(source, target)


def test_a_folder_is_no_source(source, target):
    source.unlink()
    source.mkdir()
    with pytest.raises(FileAccessError, match=rf"{source.name}: is not a file"):
        evaluate(source, target)


def test_a_missing_folder_is_told(source, tmp_path):
    target = tmp_path / "nowhere" / source.name
    with pytest.raises(FileAccessError, match=r"there is no folder .*nowhere: make it first"):
        evaluate(source, target)


def test_a_folder_is_no_target(source, target):
    target.unlink()
    target.mkdir()
    with pytest.raises(UnsupportedFileError, match=rf"{target.name}: expected a file to replace"):
        evaluate(source, target)


def test_a_pipe_is_no_target(source, target):
    target.unlink()
    os.mkfifo(target)
    with pytest.raises(UnsupportedFileError, match=rf"{target.name}: expected a file to replace"):
        evaluate(source, target)


@pytest.mark.parametrize("name", ["x.txt", "x", "x.csv.gz", ".npy"])
def test_an_unknown_suffix_lists_those_that_are_known(source, tmp_path, name):
    complaint = r"is not known: use \.npy or \.npz or \.safetensors or \.parquet or \.csv"
    for from_, to in ((source, tmp_path / name), (tmp_path / name, source)):
        with pytest.raises(UnsupportedFileError, match=complaint):
            evaluate(from_, to)


def test_suffixes_may_be_in_capitals(source, target):
    loud = source.rename(source.with_suffix(source.suffix.upper()))
    assert evaluate(loud, target.with_suffix(target.suffix.upper())) == 10


def test_arrays_do_not_become_tables_nor_tables_arrays(tmp_path):
    arrays, table = save(tmp_path / "x.npy", np.zeros(3)), save(tmp_path / "x.csv", [0.0])

    with pytest.raises(UnsupportedFileError, match=r"holds arrays, not tables: write \.npy or \.n"):
        evaluate(arrays, tmp_path / "y.csv")
    with pytest.raises(UnsupportedFileError, match=r"holds tables, not arrays: write \.parquet or"):
        evaluate(table, tmp_path / "y.npy")


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_tables_say_what_to_install(tmp_path, suffix):
    source = save(tmp_path / f"x{suffix}", [0.0])
    script = (
        "import sys; sys.modules['pyarrow'] = None; from pathlib import Path\n"
        "from gatewave.cli.files import UnsupportedFileError, evaluate_file\n"
        "try:\n"
        "    evaluate_file(Path(sys.argv[1]), Path('y.csv'), inputs=['x'], outputs=['y'],"
        " dtype='float32', compute=dict)\n"
        "except UnsupportedFileError as error:\n"
        "    print(error)"
    )
    arguments = [sys.executable, "-c", script, source]
    ended = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "tables need pyarrow: pip install 'gatewave[tables]'" in ended.stdout


def test_arrays_need_neither_pyarrow_nor_torch(tmp_path):
    source = save(tmp_path / "x.safetensors", np.zeros(3, np.float32))
    script = (
        "import sys; from pathlib import Path; from gatewave.cli.files import evaluate_file\n"
        "evaluate_file(Path(sys.argv[1]), Path(sys.argv[2]), inputs=['x'], outputs=['y'],"
        " dtype='float32', compute=lambda values: {'y': values['x']})\n"
        "print({'torch', 'pyarrow', 'models', 'export'} & set(sys.modules))"
    )
    arguments = [sys.executable, "-c", script, source, tmp_path / "y.safetensors"]
    ended = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=True)
    assert ended.stdout == "set()\n"


# Damage


@pytest.mark.parametrize("kept", [0, 1, 7, 20, -9, -1])
@pytest.mark.parametrize("suffix", [".npy", ".npz", ".safetensors", ".parquet"])
def test_a_file_cut_short_is_damaged(tmp_path, suffix, kept):
    """CSV has no end marker, therefore it is not tested."""
    source = save(tmp_path / f"x{suffix}", np.zeros(10, np.float32))
    source.write_bytes(source.read_bytes()[:kept])

    with pytest.raises(DamagedFileError, match=rf"x\{suffix}"):
        evaluate(source, tmp_path / f"y{suffix}")
    assert names(tmp_path) == [source.name]


@pytest.mark.parametrize("suffix", [".npy", ".safetensors"])
def test_a_file_that_goes_on_is_damaged(tmp_path, suffix):
    source = save(tmp_path / f"x{suffix}", np.zeros(3))
    source.write_bytes(source.read_bytes() + b"more")

    with pytest.raises(DamagedFileError, match=r"x\."):
        evaluate(source, tmp_path / f"y{suffix}")


def test_a_file_of_another_format_is_damaged(source, target):
    source.write_bytes(b"PNG\r\n\x1a\n" + bytes(range(256)))

    with pytest.raises(FileError, match=rf"{source.name}"):
        evaluate(source, target)


def test_a_file_that_shrinks_while_it_is_read_is_damaged(tmp_path):
    source = save(tmp_path / "x.npy", np.zeros(100_000))

    def compute(values):
        os.truncate(source, 200_000)
        return identity(values)

    with pytest.raises(DamagedFileError, match=r"x\.npy: ended \d+ bytes too early"):
        evaluate(source, tmp_path / "y.npy", compute, chunk_elements=20_000)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_a_wrong_checksum_in_an_archive_is_damage(tmp_path, method):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).standard_normal(1000))
    with zipfile.ZipFile(tmp_path / "x.npz", "w", method) as archive:
        archive.write(tmp_path / "x.npy", "x.npy")
    content = bytearray((tmp_path / "x.npz").read_bytes())
    content[5000] ^= 1
    (tmp_path / "x.npz").write_bytes(content)

    with pytest.raises(DamagedFileError, match=r"x\.npz: is damaged"):
        evaluate(tmp_path / "x.npz", tmp_path / "y.npz", chunk_elements=64)
    assert not (tmp_path / "y.npz").exists()


def test_an_archive_with_a_password_is_told(tmp_path):
    source = save(tmp_path / "x.npz", np.zeros(3))
    content = bytearray(source.read_bytes())
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    source.write_bytes(content)

    with pytest.raises(DamagedFileError, match="password"):
        evaluate(source, tmp_path / "y.npz")


@given(data=st.data(), suffix=st.sampled_from(SUFFIXES))
def test_no_damage_shows_the_inside(tmp_path_factory, data, suffix):
    """Any bytes give a result or a `FileError`."""
    folder = tmp_path_factory.mktemp("damaged")
    source = save(folder / f"x{suffix}", np.linspace(-2, 2, 10, dtype=np.float32))
    content = bytearray(source.read_bytes())
    place = st.integers(0, len(content) - 1)
    for at, byte in data.draw(st.lists(st.tuples(place, st.integers(0, 255)), max_size=5)):
        content[at] = byte
    source.write_bytes(content[: data.draw(st.just(len(content)) | place)])

    with suppress(FileError):
        evaluate(source, folder / f"y{suffix}")
    assert set(names(folder)) <= {source.name, f"y{suffix}"}


# Memory

PEAK = """
import sys
from pathlib import Path
from gatewave.cli.files import evaluate_file

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

def evaluate(source, target):
    evaluate_file(Path(source), Path(target), inputs=["x"], outputs=["y", "z"], dtype="float32",
        compute=lambda values: {"y": values["x"], "z": -values["x"]}, chunk_elements=1 << 16)

small, large, target = sys.argv[1:]
evaluate(small, target)
before = peak()
evaluate(large, target)
print(peak() - before)
"""


def save_megabytes(path, megabytes):
    """Save numbers; in CSV, a number takes a microsecond, therefore it gets a kilobyte of text."""
    if path.suffix != ".csv":
        return save(path, np.tile(np.linspace(0, 1, 1 << 18, dtype=np.float32), megabytes))
    with path.open("w") as file:
        file.write("x,text\n")
        file.writelines(f"0.5,{'text' * 256}\n" for _ in range(megabytes << 10))
    return path


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
@pytest.mark.parametrize(
    ("suffix", "before", "after"),
    [(".npz", 1, 80), (".safetensors", 1, 80), (".parquet", 1, 80), (".csv", 100, 300)],
)
def test_memory_is_bounded_whatever_the_size_of_the_file(tmp_path, suffix, before, after):
    """The peak of a larger file is higher by less than half of the difference in size."""
    small = save_megabytes(tmp_path / f"small{suffix}", before)
    large = save_megabytes(tmp_path / f"large{suffix}", after)
    arguments = [sys.executable, "-c", PEAK, small, large, tmp_path / f"y{suffix}"]
    ended = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(ended.stdout) < (after - before) << 9
