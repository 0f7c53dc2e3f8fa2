"""Allowed places of external data: plain files in the model's own folder."""

import os
import subprocess
import sys
import textwrap

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto

from gatewave.graphs.errors import ModelError
from gatewave.graphs.files.files import read

WEIGHTS = np.arange(4, dtype=np.float32)


@pytest.fixture
def secret(tmp_path_factory):
    """Return a file that the model must not read."""
    path = tmp_path_factory.mktemp("elsewhere") / "secret"
    path.write_bytes(WEIGHTS.tobytes())
    return path


def refused(path):
    with pytest.raises(ModelError, match="tensor 'w'") as caught:
        read(path)
    return str(caught.value)


def weights(model):
    return model.graph.initializers["w"].const_value


@pytest.mark.parametrize("location", ["w.bin", "./w.bin", "deep/er/w.bin"])
def test_external_data_are_mapped_on_use(saved, outside, tmp_path, location):
    path = saved(outside(location=location, offset=4096, length=16))
    (tmp_path / location).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / location).write_bytes(bytes(4096) + WEIGHTS.tobytes())
    tensor = weights(read(path))
    assert isinstance(tensor, ir.ExternalTensor)
    assert tensor.raw is None
    np.testing.assert_array_equal(tensor.numpy(), WEIGHTS)


def test_offset_and_length_may_be_left_out(saved, outside, tmp_path):
    (tmp_path / "w.bin").write_bytes(WEIGHTS.tobytes() + b"more")
    np.testing.assert_array_equal(weights(read(saved(outside(location="w.bin")))).numpy(), WEIGHTS)


def test_model_named_without_folder_keeps_its_data(saved, outside, tmp_path, monkeypatch):
    (tmp_path / "w.bin").write_bytes(WEIGHTS.tobytes())
    path = saved(outside(location="w.bin"))
    monkeypatch.chdir(tmp_path)
    tensor = weights(read(path.relative_to(tmp_path)))
    monkeypatch.chdir("/")
    np.testing.assert_array_equal(tensor.numpy(), WEIGHTS)


def test_keys_that_runtimes_add_are_no_matter(saved, outside, tmp_path):
    (tmp_path / "w.bin").write_bytes(WEIGHTS.tobytes())
    read(saved(outside(location="w.bin", prepacked_0="x|0|16", checksum="0" * 40)))


OUTSIDE = {
    "../elsewhere/secret": "outside the model's folder",
    "deep/../../secret": "outside the model's folder",
    "..\\secret": "outside the model's folder",
    "deep\\..\\..\\secret": "outside the model's folder",
    "..": "outside the model's folder",
    "/etc/passwd": "must be named relative",
    "//server/share/secret": "must be named relative",
    "\\\\server\\share\\secret": "must be named relative",
    "\\secret": "must be named relative",
    "C:\\secret": "must be named relative",
    "c:secret": "must be named relative",
    "": "expected the name of its data file",
    "w.bin\0.txt": "expected the name of its data file",
    ".": "is not a regular file",
    "missing.bin": "No such file",
    "*/_ORT_MEM_ADDR_/*": "No such file",
    "a" * 5000: "name too long",
    "~/secret": "No such file",
    "file:///etc/passwd": "No such file",
}


@pytest.mark.parametrize("location", OUTSIDE, ids=lambda text: text[:30].replace("\0", "nul"))
def test_names_that_lead_elsewhere_are_refused(saved, outside, location):
    assert OUTSIDE[location] in refused(saved(outside(location=location)))


def test_link_out_of_the_folder_is_refused(saved, outside, tmp_path, secret):
    (tmp_path / "w.bin").symlink_to(secret)
    assert "link out of the model's folder" in refused(saved(outside(location="w.bin")))


def test_nor_is_one_of_a_folder(saved, outside, tmp_path, secret):
    (tmp_path / "deep").symlink_to(secret.parent)
    said = refused(saved(outside(location="deep/secret")))
    assert "link out of the model's folder" in said


def test_a_link_inside_the_folder_is_followed(saved, outside, tmp_path):
    (tmp_path / "real.bin").write_bytes(WEIGHTS.tobytes())
    (tmp_path / "w.bin").symlink_to("real.bin")
    np.testing.assert_array_equal(weights(read(saved(outside(location="w.bin")))).numpy(), WEIGHTS)


def test_links_in_a_circle_are_refused(saved, outside, tmp_path):
    (tmp_path / "w.bin").symlink_to("v.bin")
    (tmp_path / "v.bin").symlink_to("w.bin")
    assert "cannot be read" in refused(saved(outside(location="w.bin")))


def test_a_hard_link_is_refused(saved, outside, tmp_path, secret):
    (tmp_path / "w.bin").hardlink_to(secret)
    assert "has 2 hard links" in refused(saved(outside(location="w.bin")))


def test_link_made_after_reading_is_not_followed(saved, outside, tmp_path, secret):
    (tmp_path / "w.bin").write_bytes(WEIGHTS.tobytes())
    tensor = weights(read(saved(outside(location="w.bin"))))
    (tmp_path / "w.bin").unlink()
    (tmp_path / "w.bin").symlink_to(secret)
    with pytest.raises(ValueError, match="outside the base directory"):
        tensor.numpy()


def test_a_pipe_is_not_waited_for(saved, outside, tmp_path):
    os.mkfifo(tmp_path / "w.bin")
    assert "is not a regular file" in refused(saved(outside(location="w.bin")))


RANGES = {
    "a negative offset": ({"offset": -4}, "as its offset, got '-4'"),
    "an offset that is no number": ({"offset": "0x10"}, "as its offset, got '0x10'"),
    "an offset of other digits": ({"offset": "٤"}, "as its offset, got '٤'"),
    "an offset without end": ({"offset": "9" * 10_000}, "as its offset, got '9999"),
    "an offset with an underscore": ({"offset": "1_0"}, "as its offset"),
    "a negative length": ({"length": -16}, "as its length"),
    "an offset past the end": (
        {"offset": 4096},
        "should end at byte 4112 of 'w.bin', which has 16",
    ),
    "an end past the end": ({"offset": 4}, "should end at byte 20"),
    "an end one byte past the end": ({"offset": 1}, "should end at byte 17"),
    "an end past all ends": ({"offset": 2**63 - 1}, "should end at byte 9223372036854775823"),
    "a length that is not the tensor's": ({"length": 12}, "takes 16 bytes, but declares"),
    "no length": ({"length": ""}, "as its length, got ''"),
}


@pytest.mark.parametrize("case", RANGES)
def test_missing_external_bytes_are_refused(saved, outside, tmp_path, case):
    (tmp_path / "w.bin").write_bytes(WEIGHTS.tobytes())
    entries, said = RANGES[case]
    assert said in refused(saved(outside(location="w.bin", **entries)))


def test_a_tensor_larger_than_its_file_is_refused(saved, outside, tmp_path):
    (tmp_path / "w.bin").write_bytes(WEIGHTS.tobytes())
    assert "should end at byte" in refused(saved(outside(dims=[2**40], location="w.bin")))


def test_strings_cannot_be_external(saved, outside):
    model = outside(location="w.bin")
    model.graph.initializer[0].data_type = TensorProto.STRING
    assert "strings cannot be external data" in refused(saved(model))


PLACES = {
    "a body": "g (bool c) => (float[4] y) { y = If (c) <then_branch = t () => (float[4] a) "
    "{ a = Constant <value = float[1] {1.0}> () }, else_branch = e () => (float[4] b) "
    "{ b = Constant <value = float[4] {1.0, 1.0, 1.0, 1.0}> () }> }",
    "a function": "g (bool c) => (float[4] y) { y = f.F(c) } "
    '<domain: "f", opset_import: ["": 20]> F (c) => (a) '
    "{ a = Constant <value = float[1] {1.0}> () }",
}


@pytest.mark.parametrize("place", PLACES)
def test_tensors_are_checked_and_found_wherever_they_are(saved, tmp_path, place):
    (tmp_path / "w.bin").write_bytes(WEIGHTS.tobytes())
    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 20, "f": 1]> ' + PLACES[place]
    )
    body = model.functions[0] if model.functions else model.graph.node[0].attribute[0].g
    tensor = body.node[0].attribute[0].t
    tensor.CopyFrom(TensorProto(data_type=1, dims=[4], data_location=TensorProto.EXTERNAL))
    entry = tensor.external_data.add(key="location", value="w.bin")
    made = read(saved(model))
    if made.functions:
        found = made.functions["f", "F", ""][0]
    else:
        found = made.graph.node(0).attributes["then_branch"].as_graph().node(0)
    np.testing.assert_array_equal(found.attributes["value"].value.numpy(), WEIGHTS)
    entry.value = "../w.bin"
    with pytest.raises(ModelError, match="attribute 'value' of node 0"):
        read(saved(model))


OPENED = """
    import sys
    from pathlib import Path
    from gatewave.graphs.errors import ModelError
    from gatewave.graphs.files.files import read
    read(Path(sys.argv[1]))  # what Python loads by itself is loaded
    opened = []
    sys.addaudithook(lambda event, args: opened.append(args[0]) if event == "open" else None)
    for path in sys.argv[2:]:
        try:
            read(Path(path))
        except ModelError:
            pass
    print(sorted(map(str, set(opened) - set(sys.argv))))
"""


def test_reading_opens_only_the_model(saved, outside, tmp_path, secret):
    (tmp_path / "ok.bin").write_bytes(WEIGHTS.tobytes())
    (tmp_path / "soft").symlink_to(secret)
    (tmp_path / "hard").hardlink_to(secret)
    locations = ["ok.bin", "soft", "hard", str(secret), f"../{secret.parent.name}/secret"]
    paths = [saved(outside(location=x), f"{i}.onnx") for i, x in enumerate(locations)]
    program = [sys.executable, "-c", textwrap.dedent(OPENED)]
    ended = subprocess.run([*program, paths[0], *paths], check=True, capture_output=True, text=True)
    assert ended.stdout.strip() == "[]"
