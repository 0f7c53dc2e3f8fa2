"""What the operator may say of a model, and what is said of it when it is wrong."""

import pytest

from service.errors import ModelRefused
from service.repository.config import Config, parsed
from service.serving.model import Batching

PRESENT = ["1", "2", "10", "9"]


@pytest.mark.parametrize("text", ["", "{}", "# nothing", "null"])
def test_nothing_need_be_said(text):
    assert parsed(text) == Config()


@pytest.mark.parametrize(
    ("said", "among"),
    [
        ("latest", ["10"]),
        ("{latest: 2}", ["9", "10"]),
        ("{latest: 99}", ["1", "2", "9", "10"]),
        ("all", ["1", "2", "9", "10"]),
        ("[10, 1]", ["1", "10"]),
        ("[7]", []),
    ],
)
def test_versions_are_chosen_by_number(said, among):
    assert parsed(f"versions: {said}").versions.among(PRESENT) == among


@pytest.mark.parametrize(
    ("said", "batching"),
    [
        ("off", None),
        ("'off'", None),
        ("{max_size: 8}", Batching(8, 0.0)),
        ("{max_size: 8, max_delay_microseconds: 500}", Batching(8, 0.0005)),
    ],
)
def test_batching_is_off_or_as_said(said, batching):
    assert parsed(f"batching: {said}").batching.batching == batching


def test_a_warm_up_has_shapes_or_is_off():
    assert parsed("warmup: {x: [2, 3], s: []}").warmup == {"x": (2, 3), "s": ()}
    assert parsed("warmup: off").warmup is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("version: all", "config.yaml: version: expected no field of this name"),
        ("versions: newest", 'versions: expected `latest`, `all`.* got "newest"'),
        ("versions: {latest: 0}", "versions.latest: expected greater than or equal to 1, got 0"),
        ("versions: {newest: 1}", "versions: expected `latest`"),
        ("versions: [0]", "versions.only.0: expected greater than or equal to 1, got 0"),
        ("versions: ['1']", "versions.only.0: expected a valid integer"),
        ("batching: on", "batching: expected `off`, `auto`, or .*got true"),
        ("batching: {mode: auto}", "batching: expected `off`"),
        ("batching: {max_size: 1}", "batching.max_size: expected greater than or equal to 2"),
        ("batching: {max_size: 2.5}", "batching.max_size: expected a valid integer, got 2.5"),
        ("batching: {size: 3}", "batching.size: expected no field of this name"),
        ("warmup: {x: 3}", "warmup.x: expected a valid tuple, got 3"),
        ("warmup: {x: [-1]}", "warmup.x.0: expected greater than or equal to 0, got -1"),
        ("warmup: 3", "warmup: expected `off`, or a shape"),
        ("load_at_start: 1", "load_at_start: expected a valid boolean, got 1"),
        ("- 1", r"expected an object, got \[1\]"),
        ("a: [", "config.yaml: expected YAML: .*line"),
        ("!!python/object/apply:os.system ['true']", "expected YAML: could not determine"),
        ("[" * 100_000, "expected YAML: it nests too deep"),
        ("a: &a [*a]", "a: expected no field of this name"),
    ],
)
def test_what_is_wrong_is_said_with_the_field(text, said):
    with pytest.raises(ModelRefused, match=said):
        parsed(text)
