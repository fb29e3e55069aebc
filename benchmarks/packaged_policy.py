"""A model of the package index as a policy folder, untrained: the weights that every contender here runs.

Usage: packaged_policy.py smollm2|gemma3-270m FOLDER [--gguf FILE]. The same numbers as in the GGUF that llama.cpp
reads, dequantized, but for the three rows of reserved tokens that become the marker and the answer's delimiters. FILE
gets that GGUF.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from edgekit.atomic_write import new_directory, scratch_directory
from edgekit.policy.adopt import adopt
from edgekit.policy.checkpoint import save_policy
from edgekit.policy.gguf_package import download, package_folder
from edgekit.warm_start.bases import PACKAGED


def main() -> None:
    """Write the folder, and the GGUF where it is asked for and not there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", choices=sorted(PACKAGED))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--gguf", type=Path)
    arguments = parser.parse_args()
    package = PACKAGED[arguments.base]
    print(package.terms)
    if arguments.gguf and not arguments.gguf.is_file():
        with scratch_directory() as downloads:
            arguments.gguf.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(download(package, downloads), arguments.gguf)
    with new_directory(arguments.folder, marker_file="config.json") as folder:
        save_policy(adopt(package_folder(package), max_new_tokens=48), folder)


if __name__ == "__main__":
    main()
