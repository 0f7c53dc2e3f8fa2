"""Requests of the Open Inference Protocol over HTTP, and their answers."""

import json

import numpy as np
import orjson

A = [0.5, -1, 2, -2]
B = [1, -1, 0, 2]
Y = [0.22752711, -0.07232949, 0.8807971, -0.20998715]
LENGTH = "inference-header-content-length"
SWIGLU = "/v2/models/swiglu/infer"


def tensor(name, values, shape=None, datatype="FP32", **more):
    return {
        "name": name,
        "datatype": datatype,
        "shape": [len(values)] if shape is None else shape,
        "data": values,
        **more,
    }


def swiglu(**more):
    return {"inputs": [tensor("a", A), tensor("b", B)], **more}


def binary(document, *raw):
    """Return the body of a document with raw tensors, and the header with the document's length."""
    head = document if isinstance(document, bytes) else orjson.dumps(document)
    return {"content": head + b"".join(raw), "headers": {LENGTH: str(len(head))}}


def raw_input(name, array):
    return {
        "name": name,
        "datatype": "FP32",
        "shape": list(array.shape),
        "parameters": {"binary_data_size": array.nbytes},
    }


def answer(response):
    """Return the outputs of an answer by name, raw ones included."""
    assert response.status_code == 200, response.text
    length = int(response.headers.get(LENGTH, len(response.content)))
    document = json.loads(response.content[:length])
    position = length
    outputs = {}
    for output in document["outputs"]:
        size = output.get("parameters", {}).get("binary_data_size")
        if size is None:
            flat = np.array(output["data"], np.float32)
        else:
            flat = np.frombuffer(response.content[position : position + size], np.float32)
            position += size
        outputs[output["name"]] = flat.reshape(output["shape"])
    assert position == len(response.content)
    return document, outputs


def strings(*items):
    return b"".join(len(item).to_bytes(4, "little") + item for item in items)
