"""SmolLM2-135M-Instruct as a policy folder, untrained: the weights that every contender here runs.

Usage: smollm2_policy.py FOLDER. The same numbers as in the GGUF that llama.cpp reads, dequantized, but for the three
rows of reserved tokens that become the marker and the answer's delimiters.
"""

from __future__ import annotations

import sys
from pathlib import Path

from edgekit.atomic_write import new_directory
from edgekit.policy.adopt import adopt
from edgekit.policy.checkpoint import save_policy
from edgekit.policy.smollm2 import smollm2_folder

if __name__ == "__main__":
    with new_directory(Path(sys.argv[1]), marker_file="config.json") as folder:
        save_policy(adopt(smollm2_folder(), max_new_tokens=48), folder)
