"""Comparison of models without the order of entries and empty fields, which have no meaning."""

import onnx

UNORDERED = {
    "metadata_props": lambda entry: entry.key,
    "value_info": lambda info: info.name,
    "quantization_annotation": lambda annotation: annotation.tensor_name,
}


def normal(path):
    """Return the model in the file ``path`` with its data read and its lists sorted.

    ``value_info`` is only of inner results: `onnx_ir` repeats the initializers' entries in it.
    """
    model = onnx.load(path)
    if not model.model_version:
        model.ClearField("model_version")
    _tidy(model)
    return model


def _tidy(message):
    if isinstance(message, onnx.GraphProto):
        made = {name for node in message.node for name in node.output}
        made -= {value.name for value in message.output}
        _keep(message.value_info, lambda info: info.name in made and _says_something(info))
    for field, value in list(message.ListFields()):
        if field.type == field.TYPE_MESSAGE:
            _tidy_messages(message, field, value)
        elif field.type == field.TYPE_STRING and not field.is_repeated and not value:
            message.ClearField(field.name)


def _tidy_messages(message, field, value):
    for each in value if field.is_repeated else [value]:
        _tidy(each)
    if field.name in UNORDERED:
        value.sort(key=UNORDERED[field.name])
    elif not field.is_repeated and not value.ListFields():
        message.ClearField(field.name)


def _keep(entries, wanted):
    for index in reversed(range(len(entries))):
        if not wanted(entries[index]):
            del entries[index]


def _says_something(info):
    return info.type.WhichOneof("value") or info.metadata_props or info.doc_string
