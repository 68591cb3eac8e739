"""Runs mergekit on a list of jobs in one process. It runs on the peer's python and imports nothing of this repository.

    PEER_PYTHON run_mergekit.py JOBS.json
JOBS.json is a list of {"config": YAML file, "out": folder, "seed": integer}, and optionally {"lora_cache": folder}.
The last line printed is JSON: a list with, for each job, {"seconds": …} or {"error": …}. Merges run on the CPU, on one
thread, without any use of the network.
"""

import json
import os
import sys
import time
from pathlib import Path

os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")


def main() -> None:
    # mergekit orders models by a set where there is no base; only a fixed hash seed, set before start, settles that.
    if os.environ.get("PYTHONHASHSEED") != "0":
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "PYTHONHASHSEED": "0"})
    import torch
    import yaml
    from mergekit.config import MergeConfiguration
    from mergekit.io.tasks import LoaderCache
    from mergekit.merge import run_merge
    from mergekit.options import MergeOptions

    torch.set_num_threads(1)
    done = []
    for job in json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")):
        options = MergeOptions(
            random_seed=job["seed"],
            lora_merge_cache=job.get("lora_cache"),
            lora_merge_dtype=job.get("lora_dtype"),
            clone_tensors=True,  # a layer that stands twice in a stack is stored twice
            write_model_card=False,
            quiet=True,
            device="cpu",
        )
        text = Path(job["config"]).read_text(encoding="utf-8")
        begun = time.perf_counter()
        try:
            run_merge(MergeConfiguration.model_validate(yaml.safe_load(text)), job["out"], options)
        except Exception as error:
            done.append({"error": f"{type(error).__name__}: {error}"})
        else:
            done.append({"seconds": round(time.perf_counter() - begun, 3)})
        LoaderCache().loaders.clear()  # kept by the class, beyond one merge
    print()
    print(json.dumps(done))


if __name__ == "__main__":
    main()
