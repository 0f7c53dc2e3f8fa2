"""Configuration of a model, and its errors."""

import pytest

from gatewave.service.errors import ModelRefused
from gatewave.service.repository.config import MAX_ERRORS, Config, parse
from gatewave.service.serving.model import Batching

PRESENT = ["1", "2", "10", "9"]


@pytest.mark.parametrize("text", ["", "{}", "# nothing", "null"])
def test_all_fields_are_optional(text):
    assert parse(text) == Config()


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
def test_versions_are_chosen_by_the_policy(said, among):
    assert parse(f"versions: {said}").versions.choose(PRESENT) == among


@pytest.mark.parametrize(
    ("said", "batching"),
    [
        ("off", None),
        ("'off'", None),
        ("{max_size: 8}", Batching(8, 0.0)),
        ("{max_size: 8, max_delay_microseconds: 500}", Batching(8, 0.0005)),
    ],
)
def test_batching_is_read(said, batching):
    assert parse(f"batching: {said}").batching.batching == batching


def test_warmup_has_shapes_or_is_off():
    assert parse("warmup: {x: [2, 3], s: []}").warmup == {"x": (2, 3), "s": ()}
    assert parse("warmup: off").warmup is None


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
        ('"version\\n": all', "config.yaml: version : expected no field of this name"),
        ("1: all", "config.yaml: .*expected"),
    ],
)
def test_errors_name_the_field(text, said):
    with pytest.raises(ModelRefused, match=said):
        parse(text)


BOMB = "a0: &a0 {k: v, j: w}\n" + "".join(
    f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 10)}]}}\n" for i in range(1, 10)
)
"""606 bytes; with merge keys, 10^9 pairs."""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BOMB, "aliases and anchors are not allowed, line 1"),
        ("a: &a [*a]", "aliases and anchors are not allowed, line 1"),
        ("versions: [1]\na: *b", "aliases and anchors are not allowed, line 2"),
        ("!!python/object/apply:os.system ['true']", "tags are not allowed, line 1"),
        ("!!python/object:os.x {}", "tags are not allowed, line 1"),
        ("versions: !!timestamp 'x'", "tags are not allowed, line 1"),
        ("versions: !!set {a}", "tags are not allowed, line 1"),
        ("versions: !!binary '===='", "tags are not allowed, line 1"),
        ("versions: !!int 'x'", "tags are not allowed, line 1"),
        ("!", "tags are not allowed, line 1"),
        ("%TAG !t! tag:x,2000:\n---\n!t!a b", "tags are not allowed, line 3"),
        ("[" * 60_000, "values are nested deeper than 8 levels, line 1"),
        ("- " * 30_000, "values are nested deeper than 8 levels, line 1"),
        (
            "".join(" " * i + "a:\n" for i in range(300)),
            "values are nested deeper than 8 levels, line 9",
        ),
        ("[" + "1," * 30_000 + "]", "expected at most 4096 values, line 1"),
        (f"versions: [{'9' * 5000}]", "expected at most 1024 characters in a value, line 1"),
        (f"versions: [0x{'f' * 5000}]", "expected at most 1024 characters in a value, line 1"),
        (f"versions: {'1:' * 400}1.5", "int too large to convert to float"),
        ("versions: all\nversions: latest", "the key 'versions' is given twice, line 2"),
        ("? [versions]\n: all", "expected a plain key, line 1"),
        ('"\\ud800": 1', "a surrogate code point is not a character, line 1"),
        ("a: \0", "unacceptable character #x0000: special characters are not allowed"),
        ("a\n---\nb", "but found another document, line 2"),
    ],
)
def test_hostile_yaml_is_refused_in_one_line(text, said):
    with pytest.raises(ModelRefused) as refused:
        parse(text)
    assert str(refused.value) == f"config.yaml: expected YAML: {said}"


@pytest.mark.parametrize("text", ["<<: {versions: all}", "2001-99-99: 1", "=: 1"])
def test_dates_and_merge_keys_are_plain_strings(text):
    name = text.partition(":")[0]
    with pytest.raises(ModelRefused, match=f"config.yaml: {name}: expected no field of this name"):
        parse(text)


def test_a_few_of_many_errors_are_reported():
    with pytest.raises(ModelRefused) as refused:
        parse(f"warmup: {{x: [{'-1,' * 3000}]}}")
    assert str(refused.value).count("expected") == MAX_ERRORS


def test_isolation_and_instances():
    assert (parse("").isolation, parse("").instances) == ("auto", None)
    assert parse("isolation: null").isolation == "none"
    said = parse("isolation: process\ninstances: 3")
    assert (said.isolation, said.instances) == ("process", 3)
    for text in ("isolation: thread", "instances: 0", "instances: many"):
        with pytest.raises(ModelRefused, match=rf"config\.yaml: {text.split(':')[0]}: expected"):
            parse(text)
