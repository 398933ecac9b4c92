import pytest
from tiny_models import tiny_model

from kvcomm_core.models.loading import LoadedModel


@pytest.fixture(scope="session")
def llama() -> LoadedModel:
    """The tiny model of most tests; nothing may change it."""
    return tiny_model()


@pytest.fixture(scope="session")
def deep_llama() -> LoadedModel:
    """The same with six layers, for whatever treats deeper layers differently."""
    return tiny_model(layers=6)
