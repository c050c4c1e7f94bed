"""Step: a student distilled from the teacher over the balanced transfer set. The last epoch is the result.

Teacher and student see the same augmented batch. Reads nothing of the task's data.
"""

import copy

import torch

from .models import answering_network, frozen, head
from .models.classifier import new_classifier
from .models.generator import Generator
from .pipeline.job import Job, run_step
from .runtime import memory, passes, progress
from .runtime.device import autocast, captures_graphs, select_device
from .runtime.errors import UserError
from .runtime.seeds import make_rng, seed_of
from .storage import atomic, kept_networks, network_file
from .storage.transfer_set import TransferSet
from .training import kept_views, loop, priority_sampling, snapshots, student_losses, views
from .training.predict import to_float

HOLD = {
    "cpu": 256 << 20,
    "mps": 256 << 20,
    "cuda": 4 << 30,
}  # bytes of a field that are held in memory; of a larger one rows are read


class Images:
    """The stored samples by row: held on the device field by field, unless a field is large; then read from the file."""

    def __init__(self, transfer: TransferSet, device):
        self.transfer, self.device, self.held = transfer, device, {}
        self.at_once = passes.passed_by(transfer.layout)  # of a forward pass without training

    def __len__(self):
        return len(self.transfer)

    def __call__(self, rows):
        """Images (N,C,H,W) as float32 in [0,1]; rows: (N) on the device."""
        return to_float(self.field("images", rows))

    def field(self, name: str, rows):
        """Rows of any field, on the device."""
        if name not in self.held:
            if self.transfer.nbytes(name) > min(HOLD[self.device.type], memory.here() // 4):
                return torch.from_numpy(self.transfer.read(name, rows.cpu().numpy())).to(self.device)
            self.held[name] = self._whole(name)
        return self.held[name][rows]

    def _whole(self, name: str):
        """A field on the device; in chunks, since a second copy of it all could be more than memory has."""
        row = torch.from_numpy(self.transfer.read(name, slice(1)))
        whole = torch.empty((len(self), *row.shape[1:]), dtype=row.dtype, device=self.device)
        for start, part in self.transfer.chunks(name):
            whole[start : start + len(part[name])] = torch.from_numpy(part[name])
        return whole


class Fresh:
    """New images from the generators kept with the set, members in turn, instead of the stored ones."""

    def __init__(self, transfer: TransferSet, device):
        kept = [content for name, content in sorted(transfer.networks().items()) if name != "student"]
        kept = [kept_networks.from_bytes(content, transfer.path, device) for content in kept]
        self.members = [network for network in kept if isinstance(network, Generator)]
        if not self.members:
            raise UserError(f"{transfer.path}: contains no generator, so no fresh images can be drawn; set fresh: false")

    def __call__(self, number: int, step: int, rng):
        """``number`` images (N,C,H,W) in [0,1] for a step of an epoch, of the members in turn: it begins where the last step
        ended, so the first members are not preferred."""
        first, count = step * number % len(self.members), len(self.members)
        share = [len(range((place - first) % count, number, count)) for place in range(count)]
        return torch.cat([member.sample(size, rng)[0] for member, size in zip(self.members, share) if size])


class Held:
    """Stored samples that no step sees, to select a model by agreement with the teacher on them."""

    def __init__(self, config, images: Images, student, keep=()):
        """keep: the classes of the student that the labels are of, by number, where it has others too."""
        draw = make_rng("cpu", "student", config.seed, "holdout")
        number, transfer = max(1, round(config.holdout * len(images))), images.transfer
        source = torch.from_numpy(transfer.read("source")) if "source" in transfer else torch.arange(len(images))
        self.rows, self.others = (rows.to(images.device) for rows in apart(source, number, draw))
        self.images, self.student, self.keep = images, student, list(keep)
        self.agreement, self.best, self.seen = -1.0, self._weights(), student.seen

    def ended(self, epoch: int) -> dict:
        """The agreement after an epoch; keeps the weights where it is the best so far."""
        same = 0
        with torch.no_grad():
            for rows in self.rows.split(self.images.at_once):
                logits = self.student(self.images(rows))
                logits = logits[:, self.keep] if self.keep else logits
                right = logits.argmax(1) == self.images.field("labels", rows)
                same += right.float().reshape(len(rows), -1).mean(1).sum()
        agreement = float(same) / len(self.rows)
        if agreement > self.agreement:
            self.agreement, self.best, self.seen = agreement, self._weights(), self.student.seen
        return {"agreement": round(agreement, 6)}

    def _weights(self) -> dict:
        return {name: value.clone() for name, value in self.student.state_dict().items()}

    def select(self):
        """The best weights into the student, with what they had learnt from."""
        self.student.load_state_dict(self.best)
        self.student.seen = self.seen
        self.student.snapshots = {seen: kept for seen, kept in self.student.snapshots.items() if seen < self.seen}

    def state(self) -> dict:
        """The best weights so far, their agreement, and how many images they had learnt from."""
        return {"agreement": self.agreement, "best": self.best, "seen": self.seen}

    def restore(self, state: dict):
        """Go on from ``state``."""
        self.agreement, self.best, self.seen = state["agreement"], copy.deepcopy(state["best"]), state["seen"]


def apart(source, number: int, rng) -> tuple[torch.Tensor, torch.Tensor]:
    """At most ``number`` rows drawn at random, or those of the smallest source, and the others. Samples of one source (N) are on
    one side: how a student answers copies of what it has learnt does not say how it answers others."""
    _, group, sizes = torch.unique(source, return_inverse=True, return_counts=True)
    order, left, drawn = torch.randperm(len(sizes), generator=rng), number, torch.zeros(len(sizes), dtype=torch.bool)
    for place, size in zip(order.tolist(), sizes[order].tolist()):
        if size <= left:
            drawn[place], left = True, left - size
    if left == number:
        drawn[sizes.argmin()] = True
    place_in_order = torch.empty_like(order).scatter_(0, order, torch.arange(len(order)))
    rows = place_in_order[group].argsort(stable=True)
    of_drawn = drawn[group[rows]]
    return rows[of_drawn], rows[~of_drawn]


def begin(config, teacher, transfer: TransferSet, device):
    """The student before the first step: fresh weights, or those of the student that was trained with the set."""
    if config.init == "transfer":
        kept = transfer.networks().get("student")
        student = kept and kept_networks.from_bytes(kept, transfer.path, trusted=config.arch)
        if not kept or student.description.spelled != config.arch:
            have = f"one of {student.description.spelled}" if kept else "none"
            raise UserError(f"{transfer.path}: has no student {config.arch} to start from ({have}); set init: random")
        return student.requires_grad_(True).to(device, memory_format=torch.channels_last)
    student = new_classifier(config.arch, teacher.description, seed_of("student", config.seed))
    return student.to(device, memory_format=torch.channels_last)


def keep_views(config, description, samples: int, answering, device):
    """The kept views of a student's samples; raises UserError for segmentation."""
    kept_views.refuse_maps(description, "student")
    batch = min(config.batch, samples)

    def ask(inputs):
        number = len(inputs)
        if captures_graphs():  # there is a graph for each number of images: let it be one
            filled = torch.zeros(batch, *inputs.shape[1:], device=inputs.device).to(memory_format=torch.channels_last)
            filled[:number] = inputs
            inputs = filled
        return frozen.logits(answering, inputs, config.precision)[:number]

    views_of = kept_views.KeptViews(samples, config.views_kept, config.augment, ask, description.num_classes, device)
    return kept_views.ViewsInTurn(views_of)


def hardness(student, images: Images, rows, compare, precision: str, teacher=None):
    """The student's loss on each image (N), as it is stored; in eval mode, and back in train mode afterwards.

    teacher: asked where the set holds no logits.
    """
    student.eval()
    losses = []
    with torch.no_grad(), autocast(rows.device, precision):
        for some in rows.split(images.at_once):
            inputs = images(some)
            answers = frozen.logits(teacher, inputs, precision) if teacher else images.field("logits", some)
            losses.append(compare(student(inputs).float(), answers.float()))
    student.train()
    return torch.cat(losses).clamp_min(priority_sampling.EPS)


def distill(config, teacher, transfer: TransferSet, partial, key, device):
    """A student trained as ``groups.Student`` says, of the classes of ``teacher``; returns it and its history."""
    kept_classes, whole = teacher.description.classes, config.outputs == "all"
    keep = ()
    if whole:
        teacher, keep = head.uncut(teacher, "the teacher"), teacher.whole.keep
    student = begin(config, teacher, transfer, device)
    if whole:
        head.recut(student, kept_classes, keep)  # now, and not after all epochs: it may be none that can be cut
    images = Images(transfer, device)
    fresh = Fresh(transfer, device) if config.fresh else None
    held = Held(config, images, student, keep) if config.select == "agreement" else None
    rows_left = held.others if held else torch.arange(len(images), device=device)
    if len(rows_left) < 2 and config.epochs and not fresh:  # of one image BatchNorm has no statistics
        raise UserError(
            f"{transfer.path}: {len(transfer)} samples, {len(rows_left)} of them to train on, are too few; make a larger set"
            + (", or lower holdout" if held else "")
        )
    weights = images.field("weights", rows_left) if config.sampling == "given" else None
    priorities = priority_sampling.Priorities(len(rows_left), device, config.beta) if config.sampling == "priority" else None
    logits_stored = "logits" in transfer and not whole  # a set holds those of the classes that are kept
    stored = config.augment == config.mix == "none" and not fresh and logits_stored
    answering = None if stored else frozen.fast_copy(answering_network.of(teacher, transfer.metadata), config.precision)
    kept = keep_views(config, teacher.description, len(rows_left), answering, device) if config.views_kept else None
    compare = student_losses.load(config.loss, config.tau, teacher.description)
    batch = min(config.batch, len(rows_left))
    steps = config.steps_per_epoch or len(rows_left) // batch
    on_the_way = snapshots.Snapshots(student, config.snapshots)

    arguments = (student, images, rows_left, compare, config.precision, None if logits_stored else answering)

    def batches(rng):
        """Each step's images, the teacher's logits where they are stored, importance weights, and places of priorities."""
        if fresh:
            for step in range(steps):
                yield fresh(config.batch, step, rng), None, None, None
            return
        if priorities:
            drawn = (priorities.draw(batch, rng) for _ in range(steps))
        else:
            chances = hardness(*arguments) if config.sampling == "hard" else weights
            drawn = ((places, None) for places in loop.order(len(rows_left), batch, rng, steps, chances))
        for places, factors in drawn:
            rows = rows_left[places]
            yield images(rows), images.field("logits", rows) if stored else None, factors, places

    def viewed(inputs, places, rng):
        """The images of a step as they are shown, and what the teacher says of them."""
        if kept:
            return kept.batch(places, inputs, rng)
        inputs = views.mix(config.mix, views.view(config.augment, inputs, rng), rng)
        return inputs, frozen.logits(answering, inputs, config.precision)

    def steps_of(rng, epoch):
        for step, (inputs, teacher_logits, factors, places) in enumerate(batches(rng), epoch * steps):
            on_the_way.step(step / (config.epochs * steps), len(inputs))
            if teacher_logits is None:
                inputs, teacher_logits = viewed(inputs, places, rng)
            with autocast(device, config.precision):
                student_logits = student(inputs)
            each = compare(student_logits.float(), teacher_logits.float())
            if priorities:
                priorities.visited(places, factors, each.detach())
                each = each * factors
            yield each.sum() / len(inputs)

    parts = {"priorities": priorities, "held": held, "snapshots": on_the_way, "kept": kept}
    parts = {name: part for name, part in parts.items() if part}
    history = loop.fit(student, config, steps, steps_of, partial, key, device, "student", parts, held.ended if held else None)
    if held and history:
        held.select()
    return head.recut(student, kept_classes, keep) if whole else student, history


def run(job: Job):
    """Make the student of a job."""
    device = select_device()
    teacher = network_file.load_frozen(job.inputs[0], device)
    with TransferSet(job.inputs[1]) as transfer:
        transfer.require_fit(teacher.description)
        check(transfer, job.config)
        with atomic.exclusive(job.out, job.key) as partial:
            if partial is None:
                return
            student, history = distill(job.config, teacher, transfer, partial, job.key, device)
            network_file.publish(job.out, job.key, job.provenance(device), student, history)
    progress.say(f"distill: {len(history)} epochs, {progress.spent():.1f} s, key {job.key}")


def check(transfer: TransferSet, config):
    """Can a student learn from the set as the config says? One line if not."""
    if not len(transfer):
        raise UserError(f"{transfer.path}: contains no samples to distil from; lower the threshold of balance")
    if config.sampling == "given" and "weights" not in transfer:
        raise UserError(f"{transfer.path}: has no sampling weights; use balance 'weight' or set sampling: uniform")


if __name__ == "__main__":
    run_step("distill", run)
