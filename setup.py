"Reads what the package needs from settings.ini, where nbdev keeps it too."
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
config = ConfigParser(delimiters=["="])
config.read(here / "settings.ini", encoding="utf-8")
cfg = config["DEFAULT"]

setup(
    name=cfg["lib_name"],
    version=cfg["version"],
    description=cfg["description"],
    long_description=(here / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author=cfg["author"],
    license="Apache-2.0",
    url=cfg["git_url"],
    keywords=cfg["keywords"],
    packages=find_packages(include=["cifar_gradcam", "cifar_gradcam.*"]),
    include_package_data=True,  # what MANIFEST.in names
    python_requires=f">={cfg['min_python']}",
    install_requires=cfg["requirements"].split(),
    extras_require={"dev": cfg["dev_requirements"].split(), "docs": cfg["docs_requirements"].split(),
                    "onnx": cfg["onnx_requirements"].split()},  # for export_onnx, chapter 17: few readers need it
    # By the second, nbdev links each name in the text to its documentation, and each function to its source.
    entry_points={"console_scripts": cfg["console_scripts"].split(),
                  "nbdev": [f"{cfg['lib_name']}={cfg['lib_path']}._modidx:d"]},
    classifiers=["Development Status :: 3 - Alpha", "Intended Audience :: Education", "Intended Audience :: Science/Research",
                 "License :: OSI Approved :: Apache Software License", "Programming Language :: Python :: 3 :: Only",
                 *(f"Programming Language :: Python :: 3.{minor}" for minor in (11, 12, 13, 14)),
                 "Topic :: Scientific/Engineering :: Artificial Intelligence", "Typing :: Typed"],
    zip_safe=False,
)
