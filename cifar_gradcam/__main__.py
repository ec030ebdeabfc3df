"The command `cifar_gradcam`, also as `python -m cifar_gradcam`; written by hand, as nbdev exports no such file."
import os
import sys


def main() -> int:  # exit status
    "What `cifar_gradcam.engine.cli.main` does, in a process of its own, which draws into files."
    os.environ["MPLBACKEND"] = "agg"
    from .engine.cli import main
    return main()


if __name__ == "__main__": sys.exit(main())
