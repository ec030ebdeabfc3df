"""Run the eleven steps as the front page shows them, with one epoch on a limited set: `python checks/eleven_steps.py`."""
import re

import matplotlib

matplotlib.use("agg")

import nbformat  # noqa: E402
from torch import nn, optim  # noqa: E402

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
lists = train_losses, train_accuracies, test_losses, test_accuracies = tuple(names["history"])
assert len(test_losses) == 1
assert sum(p.numel() for p in names["model"].parameters()) == 11_173_962

# The same steps in every form in which the original tutorial calls them.
options = dict(shuffle=True, batch_size=128, num_workers=2, pin_memory=False)
train_data, test_data, train_loader, test_loader, classes = book.download_data(options, limit=128)
images, labels = next(iter(train_loader))
assert images.shape == (128, 3, 32, 32) and len(labels) == 128
for look in (book.show_random_samples, book.show_class_samples, book.show_image_rgb): look(train_loader, classes)
device = book.select_device()
model = book.select_model(device, show=False)
adam = optim.Adam(model.parameters(), lr=1e-4, weight_decay=1e-3)
history = book.train_test_loop(model, device, train_loader, test_loader, 4.98e-4, EPOCHS=1, optimizer=adam,
                               criterion=nn.CrossEntropyLoss(), lr_scheduler="OneCycle", max_lr_epoch=5)
assert len(history) == 1 and 0 < history.rows[0]["lr"] <= 4.98e-4  # one batch: the step at the peak
constant = book.train_test_loop(model, device, train_loader, test_loader, EPOCHS=1, lr_scheduler=None, lr=0.01)
assert constant.rows[0]["lr"] == 0.01
for figure in (book.show_accuracy_loss(history), book.show_accuracy_loss(lists), book.show_accuracy_loss(*lists)):
    assert len(figure.axes) == 2
drawn = book.plot_misclassified(model, test_loader, classes, device, no_misclf=20, plot_size=(4, 5), grad_CAM=False)
assert len(drawn.axes) >= 20
