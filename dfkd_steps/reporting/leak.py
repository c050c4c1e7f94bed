"""What teachers and students tell of their training data: attacks on the finished runs of a sweep with shadows (`dfkd leak`).

The recipe of arXiv 2502.12976: canaries (training images with a wrong label) are in half of the shadow data sets; an attacker
who has trained shadows of his own says of each model which canaries it, or its teacher, was trained on.
"""

import csv
import io
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from ..pipeline import audit, graph, spec
from ..runtime.device import select_device
from ..runtime.errors import UserError
from ..runtime.seeds import seed_of
from ..storage import dataset_file, network_file
from ..storage.transfer_set import TransferSet
from ..training import membership
from ..training.predict import predict, to_float
from . import runs

FEWEST = 4  # shadows: two that held a canary and two that did not
HEAD = (
    "model", *spec.GROUPS, "label", "origin", "shadows", "canaries", "top1", "told_in", "told_out",
    "auc", "auc_low", "auc_high", *(f"{name}_{rate}" for rate in membership.RATES for name in ("tpr", "tpr_low", "tpr_high")),
    "distance_in", "distance_out", "distance_auc",
)  # fmt: skip
MEANING = """Wrong label: % of canaries for which the model predicts it, in its (or its teacher's) training set / of the others.
TPR: % of canaries that LiRA finds at a given false positive rate (FPR); 95 % intervals. Without a leak: TPR = FPR, AUC = 0.5.
Distance: from canaries to the nearest image of the transfer set. It misleads: a set far from every canary may still leak."""


@dataclass
class Canaries:
    """Images (C,H,W) uint8 and wrong labels of the canaries of a shadow, and which of them it held."""

    labels: np.ndarray
    member: np.ndarray
    images: dict[int, np.ndarray] = field(repr=False)


@dataclass
class Row:
    """One attacked kind of model. ``label_rates``: the share of canaries whose wrong label the model gives, among those it, or
    its teacher, was trained on, and among the others; ``distance``: the median distance from canaries to the nearest image of
    the transfer set, of members and of others, and the area under the ROC curve of an attack by it."""

    model: str
    specs: dict[str, str]
    label: str
    origin: str
    shadows: int
    canaries: int
    top1: float
    label_rates: tuple[float, float]
    attack: membership.Attack
    distance: tuple[float, float, float] | None = None


def without_shadow(text: str) -> str:
    """The spec of a data set without its override of ``shadow``."""
    return str(spec.parse("dataset", text).without("shadow"))


def finished(finals: list[str]) -> list[runs.Run]:
    """The finished runs of a sweep that are current, with all that they were made from."""
    # The networks are opened, and may be of another training than the metrics that were made from them.
    return runs.read([path for path in finals if Path(path).exists() and not audit.stale(audit.lineage([path]))])


def rows(finals: list[str], done: list[runs.Run], lacking: str = "") -> list[Row]:
    """An attack on the teachers and on the students of each group of runs that differ in the shadow alone.

    finals: all of a sweep. done: those that are ``finished``. lacking: what the line on too few shadows says of the others.
    """
    groups, teachers = {}, {}
    for run in done:
        specs = {**run.specs, "dataset": without_shadow(run.specs["dataset"])}
        groups.setdefault(tuple(specs.values()), []).append(run)
        teachers.setdefault(tuple(specs.values())[:2], {}).setdefault(run.specs["dataset"], run)
    datasets = {spec.of_path(path)["dataset"] for path in finals}
    if datasets == {without_shadow(dataset) for dataset in datasets}:
        raise UserError(
            "leak: the sweep has no shadows, data sets that differ in the canaries they hold; write dataset: "
            "[NAME+canaries=NUMBER] and shadows: NUMBER"
        )
    if not any(len(group) >= FEWEST for group in groups.values()):
        raise UserError(f"leak: {FEWEST} shadows of one transfer set are needed; {lacking or 'set shadows to more'}")
    device, attacked = select_device(), []
    for key, group in teachers.items():
        if len(group) >= FEWEST:
            attacked.append(_teachers(dict(zip(spec.GROUPS, key)), list(group.values()), device))
    attacked += [_students(dict(zip(spec.GROUPS, key)), group, device) for key, group in groups.items() if len(group) >= FEWEST]
    return attacked


def _teachers(specs, group, device) -> Row:
    top1 = float(np.mean([run.metrics["teacher_top1"] for run in group]))
    logits, canaries = _answers(group, "teacher", device)
    row = _attacked("teacher", specs, group, logits, canaries, top1)
    row.label, row.origin = "", ""
    return row


def _students(specs, group, device) -> Row:
    top1 = float(np.mean([run.metrics["top1"] for run in group]))
    logits, canaries = _answers(group, "distill", device)
    row = _attacked("student", specs, group, logits, canaries, top1)
    row.distance = _distances(group, canaries)
    return row


def _answers(group, step: str, device):
    """The logits (S,C,K) of the networks of a step on the canaries of their shadows, and these canaries."""
    canaries = _canaries([_path(run, "dataset") for run in group])
    images = np.stack([canaries[0].images[place] for place in sorted(canaries[0].images)])
    nets = (network_file.load_frozen(_path(run, step), device) for run in group)
    return np.stack([predict(net, images, device) for net in nets]), canaries


def _path(run, step: str) -> Path:
    return graph.path_of(step, run.specs, spec.root_of(run.path))


def _canaries(paths) -> list[Canaries]:
    """The canaries of the data sets at these paths, each with the images of all of them, which some data set holds."""
    opened, images, canaries = [dataset_file.open_dataset(path) for path in paths], {}, []
    for path, dataset in zip(paths, opened):
        if dataset.canaries is None:
            raise UserError(f"{path}: has no canaries; give them in the sweep, NAME+canaries=NUMBER, and shadows: NUMBER")
        member = ~np.array(dataset.canaries["out"])
        for place in np.flatnonzero(member):
            if int(place) not in images:
                images[int(place)] = dataset.read("train", [dataset.canaries["positions"][place]])[0][0]
        canaries.append(Canaries(np.array(dataset.canaries["labels"]), member, images))
    if len(images) < len(canaries[0].labels):
        raise UserError(
            f"leak: {len(canaries[0].labels) - len(images)} canaries are in none of the finished shadows; finish shadows in pairs"
        )
    return canaries


def _attacked(model: str, specs, group, logits, canaries, top1: float) -> Row:
    member = np.stack([shadow.member for shadow in canaries])
    confidence = np.stack([membership.scaled_confidence(given, shadow.labels) for given, shadow in zip(logits, canaries)])
    correct = np.stack([given.argmax(1) == shadow.labels for given, shadow in zip(logits, canaries)])
    scores = membership.likelihood_ratios(confidence, member)
    if np.isnan(scores).all():
        raise UserError(
            f"leak: {member.shape[1]} canaries are too few for an attack with {len(member)} shadows; give hundreds "
            "(NAME+canaries=NUMBER)"
        )
    attack = membership.attack(scores, member, np.random.default_rng(seed_of("leak")))
    share = tuple(100 * float(correct[chosen].mean()) for chosen in (member, ~member))
    run = group[0]
    return Row(model, specs, run.label, run.origin, len(group), member.shape[1], top1, share, attack)


def _distances(group, canaries) -> tuple[float, float, float]:
    """Median L2 distance, in units of [0,1] a pixel, from canaries that a shadow held to the nearest image of its transfer set,
    and of those that it did not hold; and the area under the ROC curve of calling near canaries members."""
    near, member = [], np.stack([shadow.member for shadow in canaries])
    for run, shadow in zip(group, canaries):
        images = torch.from_numpy(np.stack([shadow.images[place] for place in sorted(shadow.images)]))
        with TransferSet(_path(run, "synthesize")) as transfer:
            least = torch.full((len(images),), torch.inf)
            for _, part in transfer.chunks("images"):
                least = torch.minimum(least, nearest(images, torch.from_numpy(part["images"])))
        near.append(least.numpy())
    near = np.stack(near)
    return float(np.median(near[member])), float(np.median(near[~member])), membership.area(-near.ravel(), member.ravel())


def nearest(images, others):
    """L2 distance, in units of [0,1] a pixel, from each image (N,C,H,W) uint8 to the nearest of ``others``; (N)."""
    flat = (to_float(given).flatten(1) for given in (images, others))
    # By products of matrices, an image would be up to 0.02 away from itself.
    return torch.cdist(*flat, compute_mode="donot_use_mm_for_euclid_dist").amin(1)


def too_few(attacked: list[Row]) -> str:
    """A line on rates of false positives that stand for less than one score; empty where there are none."""
    others = min(row.attack.others for row in attacked)
    rates = " and ".join(f"{100 * rate:g} %" for rate in membership.RATES if rate * others < 1)
    least = round(1 / min(membership.RATES))
    return rates and (
        f"TPR at {rates} FPR is that of no false positive at all, because there are only {others} scores of canaries that were "
        f"not held; give more canaries or shadows: half of canaries x shadows should be {least:,} or more"
    )


def to_csv(attacked: list[Row]) -> str:
    """The rows under ``HEAD``: shares in percent but for the areas and rates, which are shares of one."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(HEAD)
    for row in attacked:
        rates = [number for rate in row.attack.rates for number in rate]
        numbers = [row.top1, *row.label_rates, *row.attack.area, *rates, *(row.distance or ("", "", ""))]
        cells = [f"{number:.5g}" if isinstance(number, float) else number for number in numbers]
        specs = [row.specs.get(group, "") for group in spec.GROUPS]  # of a teacher the first two
        names = [row.model, *specs, runs.csv_cell(row.label), row.origin]
        table.writerow([*names, row.shadows, row.canaries, *cells])
    return text.getvalue()


def cells(attacked: list[Row]) -> list[tuple[str, ...]]:
    """Head and rows of the table for people, in percent; ``MEANING`` says what they are."""
    head = ("MODEL", "TRANSFER SET", "ORIGIN", "SHADOWS", "TOP-1", "WRONG LABEL IN / OUT",
            *(f"TPR AT {100 * rate:g} % FPR" for rate in membership.RATES), "AUC", "DISTANCE IN / OUT (AUC)")  # fmt: skip
    return [head, *(_cells(row) for row in attacked)]


def _cells(row: Row):
    name = row.specs["teacher"] if row.model == "teacher" else row.specs["transfer"]
    distance = "" if row.distance is None else "{:.2f} / {:.2f} ({:.3f})".format(*row.distance)
    rates = [f"{100 * value:.1f} [{100 * low:.1f}, {100 * high:.1f}]" for value, low, high in row.attack.rates]
    label_rates = "{:.1f} / {:.1f}".format(*row.label_rates)
    return (row.model, name, row.origin, f"{row.shadows}", f"{row.top1:.2f}", label_rates, *rates,
            "{:.3f} [{:.3f}, {:.3f}]".format(*row.attack.area), distance)  # fmt: skip
