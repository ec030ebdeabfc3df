"""What the page `your_picture` needs and the repository does not hold: the network for the browser, the runtime, a dozen pictures.

    python checks/picture_app.py FOLDER     `make web`: the page alone, to be served from FOLDER; needs no Quarto
    python checks/picture_app.py --measure  what smaller weights cost on all test images: records/picture_model.json
"""
import gzip
import json
import sys
import tempfile
from hashlib import sha256
from pathlib import Path

import numpy as np

from apps import bring_runtime, RUNTIME, tell, write_alone, write_parts
from readme import HERE

RECORD = HERE / "cifar_gradcam" / "records" / "picture_model.json"
PAGE = HERE / "nbs" / "your_picture.qmd"
MANY = 9 * 64  # weights of an output channel: the least 3 × 3 kernel of this network that is not its first
MOST_POINTS, MOST_MOVED = 0.1, 0.01  # what smaller weights may cost: accuracy in points, maps (from 0 to 1) in 99 % of images

MISTAKES = (7107, 9274)  # easy to recognise in spite of 32 × 32 pixels: a green parrot, taken for a frog, and a large ship, taken for an airplane


def add_maps(model, network):
    "Turn the output `activations` of `export_onnx` into `maps` (N, classes, h, w): each class's share of its logit, place by place."
    from onnx import TensorProto, helper, numpy_helper
    n, _, h, w = (d.dim_value or d.dim_param for d in model.graph.output[1].type.tensor_type.shape.dim)
    weights = network.linear.weight.detach().cpu().float().numpy()
    # The gradient of a logit by an activation is its weight by the number of places: the network averages over them.
    per_place = weights[:, :, None, None] / (h * w)
    model.graph.initializer.append(numpy_helper.from_array(per_place, "class_weights"))
    model.graph.node.append(helper.make_node("Conv", ["activations", "class_weights"], ["maps"]))
    model.graph.output.pop()
    model.graph.output.append(helper.make_tensor_value_info("maps", TensorProto.FLOAT, [n, len(weights), h, w]))
    return model


def in_half(weights, name):
    "Two bytes a weight; what is stored, and the nodes that make it float32 when the model is loaded."
    from onnx import TensorProto, helper, numpy_helper
    return ([numpy_helper.from_array(weights.astype(np.float16), name + "_half")],
            [helper.make_node("Cast", [name + "_half"], [name], to=TensorProto.FLOAT)])


def in_8_bits(weights, name):
    """One byte a weight, and a factor for each output channel, where a channel has many weights.

    The first layer, the shortcuts and the last have few. They are less than a fiftieth of all weights, and rounding them moved the maps most, so they are stored in half precision.
    """
    from onnx import TensorProto, helper, numpy_helper
    if weights[0].size < MANY: return in_half(weights, name)
    factor = np.abs(weights).max(tuple(range(1, weights.ndim)), keepdims=True) / 127
    whole = np.rint(weights / np.where(factor > 0, factor, 1)).astype(np.int8)
    return ([numpy_helper.from_array(whole, name + "_whole"), numpy_helper.from_array(factor, name + "_factor")],
            [helper.make_node("Cast", [name + "_whole"], [name + "_float"], to=TensorProto.FLOAT),
             helper.make_node("Mul", [name + "_float", name + "_factor"], [name])])


PRECISIONS = {"float32": None, "half": in_half, "8 bits": in_8_bits}


def shrink(model, precision):
    "The same network with its tables of weights stored in fewer bytes; it computes in float32 as before."
    from onnx import numpy_helper
    stored, first = [], []
    for tensor in model.graph.initializer:
        if PRECISIONS[precision] is None or len(tensor.dims) < 2: stored.append(tensor); continue
        tensors, nodes = PRECISIONS[precision](numpy_helper.to_array(tensor), tensor.name)
        stored += tensors
        first += nodes
    nodes = first + list(model.graph.node)
    for part, new in ((model.graph.initializer, stored), (model.graph.node, nodes)):
        del part[:]
        part.extend(new)
    return model


def write_model(network, path, precision):
    "A network of the book for the browser: images -> logits, maps."
    import onnx

    from cifar_gradcam.engine.layers import export_onnx
    model = shrink(add_maps(onnx.load(export_onnx(network, path)), network), precision)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def as_input(pixels):
    "Images as the network takes them."
    from cifar_gradcam.data import CIFAR10_MEAN, CIFAR10_STD
    return np.float32((pixels / 255 - CIFAR10_MEAN) / CIFAR10_STD).transpose(0, 3, 1, 2)


def answers(path, images):
    "Logits and maps of an ONNX file for many images."
    import onnxruntime
    session = onnxruntime.InferenceSession(path)
    parts = [session.run(["logits", "maps"], {"images": images[i:i + 100]}) for i in range(0, len(images), 100)]
    return [np.concatenate(part) for part in zip(*parts)]


def stretched_answers(logits, maps):
    "For each image the map of its answer, from 0 to 1."
    maps = np.maximum(maps[np.arange(len(maps)), logits.argmax(1)], 0)
    return maps / np.maximum(maps.max((1, 2), keepdims=True), 1e-12)


def measure():
    "Write what each precision costs on all test images, and which is chosen: the smallest that costs too little to be seen."
    from cifar_gradcam.engine.datasets import cifar10
    from cifar_gradcam.mistakes.predictions import fingerprint
    from cifar_gradcam.engine.runs import load_reference
    data, network, found = cifar10(train=False), load_reference("cpu"), {}
    images = as_input(data.data)
    with tempfile.TemporaryDirectory() as folder:
        for precision in PRECISIONS:
            path = write_model(network, Path(folder) / "model.onnx", precision)
            logits, maps = answers(path, images)
            if precision == "float32": full = (logits, stretched_answers(logits, maps))
            moved = np.abs(stretched_answers(full[0], maps) - full[1]).max((1, 2))
            found[precision] = {"packed_bytes": len(gzip.compress(path.read_bytes(), mtime=0)),
                                "accuracy": round(100 * float((logits.argmax(1) == data.targets).mean()), 2),
                                "logits_moved_at_most": float(f"{np.abs(logits - full[0]).max():.2g}"),
                                "maps_moved_in_99_percent_at_most": float(f"{np.quantile(moved, 0.99):.2g}")}
            print(precision, found[precision], flush=True)
    fine = [p for p, row in found.items() if row["accuracy"] >= found["float32"]["accuracy"] - MOST_POINTS
            and row["maps_moved_in_99_percent_at_most"] <= MOST_MOVED]
    record = {"command": "python checks/picture_app.py --measure", "weights": fingerprint(network), "images": len(images),
              "precisions": found, "chosen": min(fine, key=lambda p: found[p]["packed_bytes"])}
    RECORD.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def record_of(network):
    "The record of these very weights; without one nothing is claimed, and half precision is taken: so they are shipped."
    from cifar_gradcam.mistakes.predictions import fingerprint
    record = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}
    return record if record.get("weights") == fingerprint(network) else {"chosen": "half"}


def dozen_pictures(folder, model):
    "Two mistakes and, of each class, the first test image that the network gets right, with the answers of its file; none without CIFAR-10."
    from PIL import Image

    from cifar_gradcam.engine.datasets import DataError, cifar10, data_source
    from cifar_gradcam.mistakes.predictions import reference_predictions
    if data_source() != "real": return []
    try: images = cifar10(train=False).data
    except (DataError, OSError): return []
    record = reference_predictions()
    right = [record[record.correct & (record.labels == c)].indices[0] for c in range(len(record.classes))]
    chosen = np.array([*MISTAKES, *right])
    pictures = []
    for index, logits, maps in zip(chosen.tolist(), *answers(model, as_input(images[chosen]))):
        Image.fromarray(images[index]).save(folder / f"test-{index}.png")
        pictures.append({"file": f"test-{index}.png", "index": index, "label": record.classes[record.labels[index]],
                         **{name: [float(f"{value:.6g}") for value in values.ravel()] for name, values in (("logits", logits), ("maps", maps))}})
    return pictures


def build_app(folder):
    "Everything into a folder beside the page; app.json tells the page what is there, or why nothing is. Returns the reason."
    return write_parts(folder / "app.json", parts_of_app)


def parts_of_app(folder):
    "Make or bring the parts, packed by gzip since not every server packs what it sends, and say all that the page must know of them."
    from cifar_gradcam.data import CIFAR10_MEAN, CIFAR10_STD, CLASSES
    from cifar_gradcam.mistakes.explorer import colour_table
    from cifar_gradcam.engine.runs import load_reference
    bring_runtime(folder)
    network = load_reference("cpu")
    record = record_of(network)
    with tempfile.TemporaryDirectory() as aside:
        model = write_model(network, Path(aside) / "model.onnx", record["chosen"])
        # By its content in the address, a browser tells a new network from the one in its cache.
        version = sha256(model.read_bytes()).hexdigest()[:8]
        pictures = dozen_pictures(folder, model)
        (folder / "model.onnx.gz").write_bytes(gzip.compress(model.read_bytes(), mtime=0))
    sizes = {name: (folder / name).stat().st_size for name in ("ort.wasm.gz", "model.onnx.gz")}
    return {"runtime": RUNTIME, "version": version, "sizes": sizes, "classes": CLASSES, "size": 32,
            "mean": CIFAR10_MEAN, "std": CIFAR10_STD, "colours": colour_table(), "record": record, "pictures": pictures}


def build_alone(folder):
    "The page without the book around it."
    write_alone(PAGE, folder)
    return build_app(folder / "web")


def main(folder="_web"):
    if folder == "--measure": return measure()
    tell("the page of your own picture", build_alone(Path(folder)), folder, "your_picture.html")


if __name__ == "__main__": main(*sys.argv[1:])
