r"""Calibrate a learned prior: how far its denoiser is from the truth, in a few bases and at every noise level.

    v_i(r) = E[(q_i^T (x_0 - x0_hat(x_t)))^2],    r = b / a,

on the last ``--images`` held-out images, or one in ``--every`` counted from the last (benchmarks restore the first
ones).  The vectors of the basis "pca" are the
leading eigenvectors of the covariance of ``--components-data``, which may be what the prior was trained on.  The
prior and its card are written again with the calibrations, all else unchanged.  A labelled prior needs the labels of
the held-out images and gets a calibration for every label too.

    python benchmarks/calibrate_prior.py --prior mnist --data t10k-images-idx3-ubyte.gz --images 2048 \
        --components-data train-images-idx3-ubyte.gz --out models/weights
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from bayes_ir.models.datasets import load_images, load_labels
from bayes_ir.models.priors import (
    LabelledPrior,
    NetworkPrior,
    calibrate,
    calibrate_labelled,
    load_prior,
    principal_components,
    save_prior,
)
from bayes_ir.models.priors.registry import READ_OFF, read_card


def main() -> None:
    """Calibrate and save."""
    parser = argparse.ArgumentParser(description="Calibrate a learned prior on held-out images.")
    parser.add_argument("--prior", required=True, help="name or card of the prior")
    parser.add_argument("--data", required=True, help="held-out images: idx .gz, .npz or a folder")
    parser.add_argument("--labels", help="labels of the held-out images, for a labelled prior")
    parser.add_argument("--bases", nargs="+", default=["scalar", "dct", "pca"])
    parser.add_argument("--images", type=int, default=2048, help="how many of them, the last ones")
    parser.add_argument("--every", type=int, default=1, help="one image in so many, counted from the last")
    parser.add_argument("--components-data", help="images for the basis 'pca', by default the held-out ones")
    parser.add_argument("--rank", type=int, default=256, help="components of the basis 'pca'")
    parser.add_argument("--levels", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", required=True, help="folder for the weights and the card")
    args = parser.parse_args()

    prior, card = load_prior(args.prior), read_card(args.prior)
    if not isinstance(prior, NetworkPrior):
        raise SystemExit(
            f"calibrate_prior: {prior!r} is no network prior; its calibration follows from its law."
        )
    held_out = load_images(args.data)
    numbers = range(len(held_out))[(len(held_out) - 1) % args.every :: args.every][-args.images :]
    images = held_out[list(numbers)]
    components_from = args.components_data or args.data
    start = time.monotonic()
    components = principal_components(
        load_images(args.components_data) if args.components_data else images, args.rank
    )
    settings = {"levels": args.levels, "seed": args.seed, "bases": args.bases, "components": components}
    if isinstance(prior, LabelledPrior):
        if args.labels is None:
            raise SystemExit(
                f"calibrate_prior: {prior!r} needs the labels of the held-out images; give --labels."
            )
        prior = calibrate_labelled(prior, images, load_labels(args.labels)[list(numbers)], **settings)
    else:
        prior = calibrate(prior, images, **settings)
    seconds = time.monotonic() - start

    prior.calibrations = dict(sorted(prior.calibrations.items()))
    about = {
        "images": len(images),
        "data": f"{Path(args.data).name}, images {len(held_out) - 1 - args.every * (len(images) - 1)} to "
        f"{len(held_out) - 1}" + (f", every {args.every}th" if args.every > 1 else "") + ", not trained on",
        "components_from": Path(components_from).name,
        "command": f"python benchmarks/calibrate_prior.py --prior {Path(args.prior).stem} "
        f"--data {Path(args.data).name} --images {args.images} "
        + (f"--every {args.every} " if args.every > 1 else "")
        + (f"--components-data {Path(args.components_data).name} " if args.components_data else "")
        + (f"--labels {Path(args.labels).name} " if args.labels else "")
        + (f"--bases {' '.join(args.bases)} " if args.bases != ["scalar", "dct", "pca"] else "")
        + f"--rank {args.rank} --levels {args.levels} --seed {args.seed} --out {args.out}",
        "seconds": round(seconds),
    }
    kept = {key: value for key, value in card.items() if key not in READ_OFF}
    path = save_prior(prior, Path(args.out) / Path(args.prior).stem, {**kept, "calibration": about})
    for ratio in (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 50.0):
        v, rest = prior.calibration("pca").at(ratio)
        scalar = float(prior.calibration("scalar").at(ratio)[0])
        low, mid, high = (float(v.quantile(q)) for q in (0.05, 0.5, 0.95))
        print(
            f"r = {ratio:5g}: scalar {scalar:.3g}; pca largest {float(v.max()):.3g}, 95 % {high:.3g}, "
            f"median {mid:.3g}, 5 % {low:.3g}, rest {float(rest):.3g}"
        )
    print(f"wrote {path} in {seconds:.0f} s")


if __name__ == "__main__":
    main()
