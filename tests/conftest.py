"Settings of all tests, made before torch is imported: figures go nowhere, no bar is drawn, and each process has its share of the cores."
import os

os.environ.setdefault("MPLBACKEND", "agg")
os.environ.setdefault("TQDM_DISABLE", "1")
# With more threads than cores, each waits for the others: many times as long. (The process that starts the
# workers sets nothing: they would inherit it.)
if workers := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // int(workers))))

import pytest  # noqa: E402


@pytest.fixture
def small():
    "A small network of three parts: first, second, head."
    from tools import make_small
    return make_small()


@pytest.fixture
def vit():
    "A small transformer of torchvision's, 8 × 8 patches and a class token."
    import torch
    import torchvision
    torch.manual_seed(0)
    network = torchvision.models.VisionTransformer(
        image_size=32, patch_size=4, num_layers=3, num_heads=2, hidden_dim=32, mlp_dim=64,
        num_classes=10).eval()
    torch.nn.init.normal_(network.heads.head.weight)  # starts at zero, where nothing matters
    return network
