"""Is a step of the page `train_here` torch's step? What its test and its check in the browser ask.

A value may lie so close to zero that a rounding decides whether it passes a ReLU. Two correct programs may then take different steps.
So the graph is asked which values passed, torch computes in float64 with the same decisions, and both have to agree.
"""
import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from train_app import MOMENTUM, network_of, pack, parts_of, unpack


class Decided(TorchFunctionMode):
    "Each ReLU lets through what the next of `decisions` says. `otherwise`: the values about which torch would have decided otherwise."
    def __init__(self, decisions): self.decisions, self.otherwise = iter(decisions), []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is not F.relu: return function(*args, **(kwargs or {}))
        passed = next(self.decisions).view(args[0].shape)
        self.otherwise += args[0][passed != (args[0] > 0)].tolist()
        return args[0] * passed


def with_decisions(path):
    "The graph of a step that also returns what its ReLUs return, as bytes."
    import onnx
    model = onnx.load(path)
    model.graph.output.extend(onnx.ValueInfoProto(name=node.output[0]) for node in model.graph.node if node.op_type == "Relu")
    return model.SerializeToString()


def torch_step(name, row, images, labels, rate, decisions=None):
    "The row after torch's step in float64, the loss before it, and the values that `decisions` let pass otherwise than torch."
    network = network_of(name).double().train()
    parts, _ = parts_of(network)
    with torch.no_grad():
        for kind, own in (("p", network.named_parameters()), ("s", network.named_buffers())):
            for part, value in own:
                if value.is_floating_point(): value.copy_(unpack(row, parts, kind)[part])
    optimizer, momenta = torch.optim.SGD(network.parameters(), lr=rate, momentum=MOMENTUM), unpack(row.double(), parts, "m")
    for part, p in network.named_parameters(): optimizer.state[p]["momentum_buffer"] = momenta[part].clone()
    otherwise = []
    if decisions is None: loss = F.cross_entropy(network(images.double()), labels)
    else:
        with Decided(decisions) as mode: loss = F.cross_entropy(network(images.double()), labels)
        if next(mode.decisions, None) is not None: raise AssertionError("the graph has more ReLUs than the network")
        otherwise = mode.otherwise
    loss.backward()
    optimizer.step()
    return pack(network, {part: optimizer.state[p]["momentum_buffer"] for part, p in network.named_parameters()}), loss.item(), otherwise


def apart(name, row, wanted):
    "How far two rows are apart: the largest difference, and of the gradients' parts the largest difference as a share of the part's length."
    parts, _ = parts_of(network_of(name))
    found, given = unpack(row.double(), parts, "m"), unpack(wanted.double(), parts, "m")
    return (row - wanted).abs().max().item(), max(((found[part] - given[part]).norm() / given[part].norm()).item() for part in found)
