"Settings of all tests, made before torch is imported: figures go nowhere, no bar is drawn, and each process has its share of the cores."
import os

os.environ.setdefault("MPLBACKEND", "agg")
os.environ.setdefault("TQDM_DISABLE", "1")
# With more threads than cores, each waits for the others: many times as long. (The process that starts the
# workers sets nothing: they would inherit it.)
if workers := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // int(workers))))
