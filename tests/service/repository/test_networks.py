"""Exported and published networks, analysed for row-wise computation."""

import warnings
from pathlib import Path

import onnx
import pytest
import torch
from rowwise import differing_rows
from torch import nn
from torch.export import Dim

from gatewave.service.repository.rowwise.analysis import unshown, unshown_in

GRAPHS = Path(__file__).parents[3] / ".graphs"
SHOWN = (
    "magika/models/standard_v3_3/model.onnx",
    "nudenet/320n.onnx",
    "rapidocr/models/PP-OCRv6_det_small.onnx",
    "rapidocr/models/PP-OCRv6_rec_small.onnx",
)


class Classifier(nn.Module):
    """Convolutions, and a perceptron on their flattened result."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.SiLU(), nn.MaxPool2d(2)
        )
        self.head = nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Dropout(), nn.Linear(16, 5))

    def forward(self, images):
        features = self.features(images)
        return torch.softmax(self.head(features.view(features.size(0), -1)), -1)


class Pooled(nn.Module):
    def __init__(self):
        super().__init__()
        self.convolution, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 5)

    def forward(self, images):
        pooled = nn.functional.adaptive_avg_pool2d(self.convolution(images).relu(), 1)
        return self.head(pooled.flatten(1))


class Block(nn.Module):
    """Encoder of tokens with a padding mask."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(16, 8)
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)

    def forward(self, tokens, mask):
        return self.encoder(self.embedding(tokens), src_key_padding_mask=mask)[:, 0]


class Scaled(nn.Module):
    def forward(self, numbers):
        return torch.where(numbers.max() > 2, numbers / 255, numbers)


IMAGES = (torch.zeros(2, 3, 8, 8),)
TOKENS = (torch.zeros(2, 5, dtype=torch.int64), torch.zeros(2, 5, dtype=torch.bool))
MLP = nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 3))


@torch.no_grad()
def exported(network, inputs):
    rows = {0: Dim("rows", min=1, max=1024)}
    with warnings.catch_warnings():  # Torch's own, of what it uses and deprecates
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            network.eval(),
            inputs,
            dynamo=True,
            verbose=False,
            dynamic_shapes=(rows,) * len(inputs),
        )
    return program.model_proto


@pytest.mark.parametrize(
    ("network", "inputs"),
    [(MLP, (torch.zeros(2, 6),)), (Classifier(), IMAGES), (Pooled(), IMAGES), (Block(), TOKENS)],
    ids=["perceptron", "classifier", "pooled", "encoder"],
)
def test_networks_of_torch_are_shown(network, inputs):
    """Takes some seconds per export: users' models come from these exporters."""
    made = exported(network, inputs)
    assert unshown_in(made.SerializeToString()) == ""
    assert not differing_rows(made, 5)


def test_a_network_whose_rows_meet_is_not_shown():
    made = exported(Scaled(), (torch.zeros(2, 4),))
    assert "(ReduceMax) joins the rows" in unshown_in(made.SerializeToString())


@pytest.mark.skipif(not GRAPHS.exists(), reason="make .graphs/.made")
@pytest.mark.parametrize("path", SHOWN)
def test_published_graphs_are_shown(path):
    assert unshown((GRAPHS / path).read_bytes()) == ""


@pytest.mark.skipif(not GRAPHS.exists(), reason="make .graphs/.made")
def test_a_published_graph_with_a_state_is_not_shown():
    path = GRAPHS / "silero_vad/data/silero_vad_op18_ifless.onnx"
    assert onnx.load(path).graph.input[1].name == "sr"
    assert unshown(path.read_bytes()) == "an input has no first axis"
