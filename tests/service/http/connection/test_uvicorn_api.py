"""The attributes of uvicorn on which connections rely."""

import ast
import inspect
import re

import pytest
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from gatewave.service.http import drain
from gatewave.service.http.connection import connection, flow_control, malformed, upgrade
from gatewave.service.http.connection.connection import Connection
from gatewave.service.http.connection.uvicorn_api import (
    REQUIRED,
    UvicornIncompatibleError,
    attributes_of,
    check,
)


def test_the_installed_uvicorn_is_supported():
    check()


def test_a_missing_attribute_is_named():
    required = {RequestResponseCycle: frozenset({"keep_alive", "trailers", "priority"})}
    with pytest.raises(
        UvicornIncompatibleError, match="RequestResponseCycle has no priority, trailers"
    ):
        check(required)


def test_the_docstring_of_connection_lists_them():
    listed = re.findall(r"\* `(\w+)`[^:]*: ([\w,\s]+)\n", inspect.getdoc(Connection))
    told = {}
    for kind, names in listed:
        told.setdefault(kind, set()).update(re.findall(r"\w+", names))
    assert told == {kind.__name__: set(names) for kind, names in REQUIRED.items()}


def used(module, *variables):
    """Return the attributes that ``module`` uses of ``variables``."""
    nodes = ast.walk(ast.parse(inspect.getsource(module)))
    return {
        node.attr
        for node in nodes
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in variables
    }


def test_each_attribute_that_is_used_is_checked():
    own = set(vars(Connection)) - set(dir(HttpToolsProtocol)) | {"__init__", "_write_timeout"}
    own |= set(re.findall(r"self\.(_\w+)\b[^=\n]* = ", inspect.getsource(Connection.__init__)))
    names = used(connection, "self", "super()") | used(malformed, "connection")
    names |= used(upgrade, "connection")
    assert names - own <= REQUIRED[HttpToolsProtocol]
    cycle = used(connection, "cycle", "self.cycle") | used(malformed, "cycle", "connection.cycle")
    cycle |= used(drain, "connection.cycle")
    assert cycle <= REQUIRED[RequestResponseCycle]
    flow = used(connection, "self.flow") | used(flow_control, "super()") - {"__init__"}
    assert flow <= REQUIRED[FlowControl]


def test_names_of_methods_and_of_their_attributes_are_found():
    class Example:
        def __init__(self):
            self.set = 1

        def method(self):
            pass

    assert {"set", "method"} <= attributes_of(Example)
    assert "missing" not in attributes_of(Example)
