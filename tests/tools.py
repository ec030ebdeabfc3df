"What several test modules use; the asserting functions are fastcore's, under names that pytest does not collect."
import torch
from fastcore.test import test_close as close  # noqa: F401  close(a, b, eps=1e-5)
from fastcore.test import test_eq as equal  # noqa: F401  equal(a, b): also of arrays, tensors and lists of them
from fastcore.test import test_fail as refused  # noqa: F401  refused(call, contains="...", exc=ValueError)
from fastcore.test import test_ne as differ  # noqa: F401
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode


class Calls(TorchDispatchMode):
    "Counts the operators that are called inside a `with` block; views that move no number count too."
    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        self.count += 1
        return operator(*args, **(kwargs or {}))


def calls(work):
    with Calls() as counter: work()
    return counter.count


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU(inplace=True))
        self.head = nn.Linear(8, 10)

    def forward(self, x): return self.head(self.second(self.first(x)).mean((2, 3)))


def make_small():
    torch.manual_seed(0)
    return Small().eval()
