#!/usr/bin/env bash
# The oldest releases that settings.ini promises: installs them into VENV, and runs the tests without notebooks.
set -euo pipefail
cd "$(dirname "$0")/.."
VENV=${VENV:-.venv-oldest}
python3 -m venv "$VENV"
"$VENV/bin/pip" install --quiet --disable-pip-version-check uv
"$VENV/bin/uv" pip compile --quiet --python "$VENV/bin/python" --resolution lowest-direct --extra onnx \
  pyproject.toml --output-file "$VENV/oldest.txt"
"$VENV/bin/uv" pip install --quiet --python "$VENV/bin/python" -r "$VENV/oldest.txt" pytest pytest-xdist 'captum>=0.7' 'fastcore<2'
# torch 2.6 exports a whole network with no onnxscript of today: that one is tested with newer releases.
PYTHONPATH=. "$VENV/bin/python" -m pytest -n auto tests \
  --deselect tests/test_models.py::test_exported_network_gives_the_same_for_any_batch
