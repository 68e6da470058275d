"""One thread for torch: on vectors this small, waking a second one costs more than the arithmetic."""

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Torch's thread count, restored afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
