import pytest
from calls import serving_rpc

from gatewave.service.settings import Settings


@pytest.fixture(scope="session")
def rpc_settings(artifacts):
    return Settings(
        artifacts=artifacts,
        device="cpu",
        threads=1,
        lanes=1,
        max_queue=1,
        inline_bytes=1 << 10,
        max_body_bytes=1 << 20,
        max_json_bytes=1 << 16,
        max_memory_bytes=1 << 26,
    )


@pytest.fixture(scope="session")
def served(rpc_settings):
    with serving_rpc(rpc_settings) as served:
        yield served


@pytest.fixture
def client(served):
    return served.client
