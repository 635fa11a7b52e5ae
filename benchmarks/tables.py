"""Markdown tables of the committed results, as the README shows them.

python benchmarks/tables.py > benchmarks/RESULTS.md
"""

from __future__ import annotations

from _tables_accuracy import (
    bits_per_dimension,
    digits,
    digits_cost,
    digits_weights,
    exact_posterior,
    kernel_cost,
    network_time,
    plate_cost,
    quantized_cells,
    restoration_kernels,
    sampler_accuracy,
)
from _tables_calibration import (
    calibration_gates,
    data_fit,
    digit_label,
    digit_label_network,
    joint_calibration,
    learned_prior_calibration,
    noise_level,
    quantized,
)
from _tables_checking import loo_experiment
from _tables_gmm25 import gmm25
from _tables_jensen import jensen_gap
from _tables_streaming import streaming_memory

TABLES = {
    f.__name__: f
    for f in (
        sampler_accuracy,
        exact_posterior,
        quantized_cells,
        restoration_kernels,
        joint_calibration,
        noise_level,
        data_fit,
        digit_label,
        digit_label_network,
        loo_experiment,
        jensen_gap,
        streaming_memory,
        plate_cost,
        kernel_cost,
        calibration_gates,
        bits_per_dimension,
        gmm25,
        digits,
        digits_weights,
        digits_cost,
        network_time,
        quantized,
        learned_prior_calibration,
    )
}
COMMANDS = {
    "bits_per_dimension": "python benchmarks/bits_per_dimension.py --data FOLDER",
    "gmm25": "bayes-ir bench accuracy --suite gmm25",
    "digits": "bayes-ir bench accuracy --suite digits --cells A=one-bit --problems 10 --draws 500",
    "digits_weights": "bayes-ir bench accuracy --suite digits --cells A=one-bit --problems 3 --draws 2000",
    "digits_cost": "bayes-ir bench accuracy --suite digits --cells A=one-bit,noise=0.1 --problems 3 --draws 500",
    "quantized": "bayes-ir bench accuracy --suite quantized; python benchmarks/quantized_calibration.py",
}

if __name__ == "__main__":
    print("# Measured figures\n")
    print("Made by `python benchmarks/tables.py` from `benchmarks/results/`. What a study is, its file says.")
    for name, table in TABLES.items():
        command = COMMANDS.get(name, f"python benchmarks/{name}.py")
        print(f"\n## {name}\n\n`{command}`\n\n{table()}")
