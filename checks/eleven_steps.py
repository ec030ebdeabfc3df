"""Run the eleven steps as the front page shows them, with one epoch on a limited set: `python checks/eleven_steps.py`."""
import re

import matplotlib

matplotlib.use("agg")

import nbformat  # noqa: E402

import cifar_gradcam.all as book  # noqa: E402
from readme import HERE  # noqa: E402

LIMIT = 320


def front_page_steps() -> str:
    "The block of Python on the front page."
    page = nbformat.read(HERE / "nbs" / "index.ipynb", as_version=4)
    blocks = [block for cell in page.cells if cell.cell_type == "markdown"
              for block in re.findall(r"```python\n(.*?)```", cell.source, re.S)]
    assert len(blocks) == 1, f"the front page should have one block of Python, has {len(blocks)}"
    return blocks[0]


steps = front_page_steps()
for wanted in ("download_data()", "EPOCHS=20"): assert wanted in steps, f"{wanted} is not in the steps"
steps = steps.replace("download_data()", f"download_data(dict(batch_size=16), limit={LIMIT})")
names = {}
exec(compile(steps.replace("EPOCHS=20", "EPOCHS=1"), "the eleven steps", "exec"), names)

assert len(names["train_data"]) == LIMIT and type(names["max_LR"]) is float
train_losses, train_accuracies, test_losses, test_accuracies = names["history"]
assert len(test_losses) == 1
book.show_accuracy_loss((train_losses, train_accuracies, test_losses, test_accuracies))
assert sum(p.numel() for p in names["model"].parameters()) == 11_173_962
# Also as people call it with loaders of their own making.
options = dict(shuffle=True, batch_size=128, num_workers=2, pin_memory=False)
images, labels = next(iter(book.download_data(options, limit=256)[2]))
assert images.shape == (128, 3, 32, 32) and len(labels) == 128
