"""Answer prompts with a bundle and, where its policy calls, a cloud.

python examples/answer_prompts.py out/demo/onnx "3 5 7 -> 22" "3 7 11 12 -> 58"
python examples/answer_prompts.py out/demo/onnx "3 5 7 -> 22" --cloud openai:gpt-4o-mini@https://api.openai.com/v1
"""

from __future__ import annotations

import argparse
from pathlib import Path

import edgekit


def main(bundle: Path, prompts: list[str], cloud: str = "oracle", task: str | None = None) -> None:
    """``cloud`` and ``task`` as for ``edgekit run``; the key of a server is read from EDGEKIT_CLOUD_API_KEY."""
    replies = edgekit.answer(edgekit.open_bundle(bundle), prompts, task=task, cloud=cloud)
    for prompt, reply in zip(prompts, replies, strict=True):
        waited = "" if reply.cloud_ms is None else f" and {reply.cloud_ms:.0f} ms in the cloud"
        print(f"{prompt}: {reply.answer}  ({reply.route}: {reply.reason}; {reply.local_ms:.0f} ms here{waited})")
    print(f"{sum(reply.route == 'cloud' for reply in replies)} of {len(replies)} went to the cloud")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("prompts", nargs="+")
    parser.add_argument("--cloud", default="oracle")
    parser.add_argument("--task")
    main(**vars(parser.parse_args()))
