"""One process of a run on several hosts: `host_run.py FOLDER RESUME MESH [COORDINATOR PROCESSES PROCESS [STEPS]]`."""

import sys

from limjax import parallel

folder, resume, mesh = sys.argv[1], sys.argv[2] == "resume", sys.argv[3]
if len(sys.argv) > 4:
    parallel.initialize(sys.argv[4], int(sys.argv[5]), int(sys.argv[6]))

# JAX must not be used before the processes are joined.
import jax  # noqa: E402
import numpy as np  # noqa: E402

import limjax  # noqa: E402

steps = int(sys.argv[7]) if len(sys.argv) > 7 else 100
result = limjax.train(
    "digits-mlp", steps=steps, batch_size=64, mesh=mesh, microbatches=8, checkpoints=folder, resume=resume,
    checkpoint_seconds=0.0, barrier="lyapunov:start=11",
)  # fmt: skip
arrays = {
    jax.tree_util.keystr(path): x for path, x in jax.tree_util.tree_leaves_with_path((result.params, result.ledger))
}
if jax.process_index() == 0:
    np.savez(f"{folder}.npz", **arrays)
print(result.result)
