"""Comparison of a protocol description, read from standard input, with that of a client.

python protocol.py tritonclient.grpc.service_pb2 tritonclient.grpc.model_config_pb2
"""

import importlib
import json
import sys

from google.protobuf import descriptor_pb2


def facts(file):
    """Yield the facts that both ends must share: fields of messages, enumerations, methods."""
    for message in file.message_type:
        yield from _message(message, message.name)
    for enumeration in file.enum_type:
        yield from _values(enumeration, enumeration.name)
    for service in file.service:
        for method in service.method:
            name = f"/{file.package}.{service.name}/{method.name}"
            streams = method.client_streaming, method.server_streaming
            yield name, (method.input_type, method.output_type, *streams)


def _message(message, name):
    yield name, ()
    for field in message.field:
        yield f"{name}.{field.name}", (field.number, field.type, field.label, field.type_name)
    for nested in message.nested_type:
        yield from _message(nested, f"{name}.{nested.name}")
    for enumeration in message.enum_type:
        yield from _values(enumeration, f"{name}.{enumeration.name}")


def _values(enumeration, name):
    for value in enumeration.value:
        yield f"{name}.{value.name}", (value.number,)


def theirs(modules):
    for name in modules:
        file = descriptor_pb2.FileDescriptorProto()
        importlib.import_module(name).DESCRIPTOR.CopyToProto(file)
        yield from facts(file)


def main():
    ours = dict(facts(descriptor_pb2.FileDescriptorProto.FromString(sys.stdin.buffer.read())))
    known = dict(theirs(sys.argv[1:]))
    different = [name for name, fact in ours.items() if name in known and known[name] != fact]
    verdict = {
        "same": sorted(set(ours) & set(known) - set(different)),
        "different": sorted(different),
        "ours only": sorted(set(ours) - set(known)),
    }
    json.dump(verdict, sys.stdout)


if __name__ == "__main__":
    main()
