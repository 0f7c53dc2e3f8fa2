"""Strict YAML reader for short configuration files from untrusted sources.

The serving process reads a model's configuration before its trial, so reading must cost little
whatever the file says. The reader takes the part of YAML that JSON has: mappings, lists, strings,
numbers, booleans and null. Aliases and merge keys are refused because they make a document of 600
bytes take gigabytes; tags are refused because they call constructors that fail in many ways.
"""

from __future__ import annotations

from typing import Any

import yaml
from yaml.composer import ComposerError
from yaml.events import AliasEvent, CollectionStartEvent, ScalarEvent
from yaml.nodes import MappingNode, Node, ScalarNode

MAX_DEPTH = 8
MAX_NODES = 4096
MAX_SCALAR = 1024
"""Longest scalar in characters. Python converts integers of up to 4,300 digits only."""

TYPES = frozenset(f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float"))
"""Types of unquoted scalars; others, such as dates and the merge key, are strings here."""


class StrictYAMLError(Exception):
    """The text is not YAML, or uses a part of YAML that the reader does not support."""


class _Loader(yaml.SafeLoader):
    """Bounded loader that refuses aliases, anchors, tags and repeated keys.

    The bounds are checked as the parser's events come. The pure Python parser is used: its scanner
    looks at most 1,024 characters ahead, so that a document that nests too deep is refused before
    the rest of it is read.
    """

    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML's own name, which is not annotated there
        first: [(tag, pattern) for tag, pattern in resolvers if tag in TYPES]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        self._nodes = 0

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        self._check(self.peek_event())  # type: ignore[no-untyped-call]
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def _check(self, event: Any) -> None:
        self._nodes += 1
        if isinstance(event, AliasEvent) or event.anchor is not None:
            raise _refused("aliases and anchors are not allowed", event)
        if event.tag is not None:
            raise _refused("tags are not allowed", event)
        if self._nodes > MAX_NODES:
            raise _refused(f"expected at most {MAX_NODES} values", event)
        if self._depth >= MAX_DEPTH and isinstance(event, CollectionStartEvent):
            raise _refused(f"values are nested deeper than {MAX_DEPTH} levels", event)
        if isinstance(event, ScalarEvent) and len(event.value) > MAX_SCALAR:
            raise _refused(f"expected at most {MAX_SCALAR} characters in a value", event)
        if isinstance(event, ScalarEvent) and not _is_unicode(event.value):
            raise _refused("a surrogate code point is not a character", event)

    def construct_mapping(self, node: MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 - PyYAML's signature
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, ScalarNode):
                raise _refused("expected a plain key", key)
            if key.value in seen:
                raise _refused(f"the key {ascii(key.value)[:80]} is given twice", key)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _is_unicode(text: str) -> bool:
    """Return whether ``text`` has a UTF-8 form; a surrogate, which YAML can escape, has none."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _refused(problem: str, at: Any) -> ComposerError:
    return ComposerError(None, None, problem, at.start_mark)


def load(text: str) -> Any:
    """Return the document in ``text``: dicts, lists and scalars, or None if it is empty.

    Raises:
        StrictYAMLError: The text is not YAML or not allowed; the message is one line and names the
            line of the text where that is known.
    """
    try:
        loader = _Loader(text)
        return loader.get_single_data()
    # PyYAML passes on errors of its parts, such as OverflowError for a number with colons.
    except Exception as error:
        raise StrictYAMLError(_line(error)) from error


def _line(error: Exception) -> str:
    """Return the error and its place, in one line."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        text = f"{error.problem}, line {error.problem_mark.line + 1}"
    else:
        text = str(error).partition("\n")[0]
    return " ".join(text.split()) or type(error).__name__
