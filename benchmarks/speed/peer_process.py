"""mergekit's merge of tensors in memory, timed. It runs on the peer's python and imports nothing of this repository.

    PEER_PYTHON peer_process.py MODEL…
Reads the models into memory, prints a line, and then, for every line on standard input, the path of a YAML config that
names them, prints the seconds that the merge of all tensors took. One thread.

What is timed is mergekit's own Executor running its own plan, made beforehand: for each tensor its gathering, the cast
to `dtype`, the method, the cast to `out_dtype`. Loaders hand out the tensors in memory as they are; results are
dropped as they come. Reading, planning and writing are not timed.
"""

import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace

os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")


class Memory:
    """What LoadTensor asks of a loader."""

    def __init__(self, tensors):
        self.tensors = tensors
        self.index = SimpleNamespace(tensor_paths=dict.fromkeys(tensors, ""))

    def get_tensor(self, name, **_):
        """As it is."""
        return self.tensors[name]


def main() -> None:
    import torch
    import yaml
    from mergekit.architecture import get_architecture_info
    from mergekit.common import ModelReference, dtype_from_name
    from mergekit.config import MergeConfiguration
    from mergekit.graph import Executor
    from mergekit.io.tasks import LoaderCache
    from mergekit.options import MergeOptions
    from mergekit.plan import MergePlanner
    from safetensors.torch import load_file

    torch.set_num_threads(1)
    options = MergeOptions(quiet=True, device="cpu", random_seed=0)
    for folder in sys.argv[1:]:
        tensors = {name: values.clone() for name, values in load_file(Path(folder) / "model.safetensors").items()}
        LoaderCache.loaders[ModelReference.model_validate(folder)] = Memory(tensors)
    print("ready", flush=True)
    for line in sys.stdin:
        config = MergeConfiguration.model_validate(yaml.safe_load(Path(line.strip()).read_text(encoding="utf-8")))
        architecture = get_architecture_info(config, options)
        planner = MergePlanner(
            config, architecture, options=options, out_model_config=config.referenced_models()[0].config()
        )
        planner._plan()  # its plan_in_memory cannot be used: pydantic refuses its ReturnTensor, which is the cast below
        tasks = [task for _, task in planner._tensors]
        executor = Executor(targets=tasks, math_device="cpu", storage_device="cpu")
        dtype = dtype_from_name(config.out_dtype)
        merged = 0
        begun = time.perf_counter()
        for _, tensor in executor.run(quiet=True):
            if dtype is not None:
                tensor.to(dtype)
            merged += 1
        seconds = time.perf_counter() - begun
        if merged != len(tensors):
            sys.exit(f"merged {merged} of {len(tensors)} tensors")
        print(seconds, flush=True)


if __name__ == "__main__":
    main()
