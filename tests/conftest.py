"Settings of all tests: figures go nowhere, no bar is drawn, and no test asks for the real images unless it says so."
import os

os.environ.setdefault("MPLBACKEND", "agg")
os.environ.setdefault("TQDM_DISABLE", "1")
