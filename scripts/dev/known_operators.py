"""Makes scripts/ml_deploy/models/known_operators.json, the operators of TensorFlow that stay inside of the graph.

usage: pip download --no-deps tensorflow-cpu && unzip tensorflow_cpu-*.whl 'tensorflow/python/ops/gen_*' -d FOLDER
       python scripts/dev/known_operators.py FOLDER VERSION

The names are read from the generated wrappers, nothing is imported. What reads, writes, connects,
prints or runs Python is left out by its name; lint-model asks for a review of it or denies it.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

DATA = Path(__file__).resolve().parents[1] / "ml_deploy" / "models" / "known_operators.json"
_CALL = re.compile(r'_apply_op_helper\(\s*"([A-Za-z0-9_>]+)"')
_ACTS = re.compile(r"File|Reader|Record|Dataset|Writer|^Write|Rpc|Server|Service|Debug|Py|Print|^Load|^Save|Snapshot|Dump|Sql|"
                   r"Collective|Nccl|^_|TPU|Tpu|Xla|Checkpoint|Restore|^Copy|Send|Recv|Remote|Host|Dtensor|DTensor|Mesh|^ImmutableConst|^DistributedSave|^ImportEvent")  # fmt: skip
#: Left out by the pattern, but part of every SavedModel, and harmless or inside of its own folder.
_STANDARD = {"SaveV2", "RestoreV2", "MergeV2Checkpoints", "ShardedFilename", "InitializeTableFromTextFile",
             "InitializeTableFromTextFileV2"}  # fmt: skip


def main(folder: str, version: str) -> None:
    """Write the data file."""
    texts = [path.read_text(encoding="utf-8") for path in sorted(Path(folder).rglob("gen_*_ops.py"))]
    found = {name for text in texts for name in _CALL.findall(text)}
    names = sorted({name for name in found if not _ACTS.search(name)} | _STANDARD)
    names += ["Const", "Placeholder", "NoOp", "PartitionedCall", "StatefulPartitionedCall"]
    data = {
        "made-by": "scripts/dev/known_operators.py",
        "versions": {"tensorflow": version},
        "tensorflow": sorted(set(names)),
    }
    DATA.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    print(f"{len(found)} operators, {len(data['tensorflow'])} known")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
