"""The GPU of the tests that need one."""

import pytest
import torch

GPU = torch.device("cuda:0")

needs_gpu = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")]
"""For a module's `pytestmark`."""
