"""What choosing the next tokens costs beside sorting the vocabulary, on one core: 16 rows of CodeGeeX's 52,224 logits.

    python -m tests.benchmarks.sampling

`trained` has a few likely tokens, as a trained model's logits have; `flat` has the normal distribution of a fresh one.
"""

import statistics
import time
from collections.abc import Callable

import numpy as np

from mindgeex.model_zoo.decoding.choice import choose
from mindgeex.model_zoo.decoding.settings import Sampling

ROUNDS = 15
ROWS, VOCAB_SIZE = 16, 52_224


def main() -> None:
    """Prints milliseconds a step."""
    random = np.random.default_rng(0)
    flat = random.normal(0, 1, (ROWS, VOCAB_SIZE)).astype(np.float32)
    trained = 3 * flat
    trained[:, random.integers(0, VOCAB_SIZE, 50)] += np.linspace(4, 18, 50, dtype=np.float32)
    generators = [np.random.default_rng(row) for row in range(ROWS)]
    settings = {
        "greedy": Sampling(temperature=0.0),
        "T 0.8": Sampling(temperature=0.8, top_p=1.0),
        "T 0.8, top-k 40": Sampling(temperature=0.8, top_k=40, top_p=1.0),
        "T 0.8, top-p 0.95": Sampling(temperature=0.8, top_p=0.95),
        "T 0.8, top-p 0.95, penalty 1.2": Sampling(temperature=0.8, top_p=0.95, repetition_penalty=1.2),
    }
    histories = [random.integers(0, VOCAB_SIZE, 1024) for _ in range(ROWS)]
    for kind, logits in (("trained", trained), ("flat", flat)):
        sorting = milliseconds(lambda logits=logits: [np.argsort(-row, kind="stable") for row in logits])
        print(f"{kind:8} {'sorting alone':32} {sorting:6.2f} ms")
        for name, sampling in settings.items():
            rows = logits.copy()
            cost = milliseconds(lambda rows=rows, sampling=sampling: choose(rows, sampling, generators, histories))
            print(f"{kind:8} {name:32} {cost:6.2f} ms")


def milliseconds(act: Callable[[], object]) -> float:
    """The median of several rounds."""
    seconds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        act()
        seconds.append(time.perf_counter() - start)
    return 1000 * statistics.median(seconds)


if __name__ == "__main__":
    main()
