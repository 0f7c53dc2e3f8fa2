"""Errors of ONNX Runtime in one line."""

from gatewave.service.repository.runtime_errors import MAX_LENGTH, message_of


def test_a_long_message_is_kept():
    text = f"Fatal error: {'word ' * 400}the reason"
    assert message_of(RuntimeError(text)) == text


def test_a_huge_message_keeps_both_ends():
    said = message_of(RuntimeError(f"the node {'n' * (1 << 20)} has the reason"))
    assert said.startswith("the node n")
    assert said.endswith("n has the reason")
    assert len(said) <= MAX_LENGTH


def test_only_source_positions_are_removed():
    said = message_of(RuntimeError("failed:/src/a/x.cc:12 some reason (with parentheses) and more"))
    assert said == "failed: some reason (with parentheses) and more"
