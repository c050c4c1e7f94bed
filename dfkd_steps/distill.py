"""Step: a student distilled from the teacher over the balanced transfer set. The last epoch is the result.

The teacher is asked on the very view the student sees. Reads nothing of the task's data.
"""

import time

import torch

from . import artefact, augment, losses, models, networks, progress, runtime, training
from .errors import UserError
from .transfer_set import TransferSet


def distill(config, guide, transfer: TransferSet, partial, key, device):
    """A student network trained as ``groups.Student`` says; returns it with its description and history."""
    like = guide.description
    description = networks.Description("arch", config.arch, like.classes, like.image_shape, like.mean, like.std)
    torch.manual_seed(runtime.seed_of("student", config.seed))
    net = models.build(config.arch, like.num_classes, like.image_shape)
    student = networks.Classifier(net, description).to(device, memory_format=torch.channels_last)
    images = torch.from_numpy(transfer.read("images")).to(device)
    logits = torch.from_numpy(transfer.read("logits")).to(device) if config.augment == "none" else None
    weights = torch.from_numpy(transfer.read("weights")).to(device) if config.sampling == "given" else None

    def steps_of(generator, epoch):
        for rows in training.order(len(images), config.batch, generator, config.steps_per_epoch, weights):
            shown = augment.view(config.augment, training.to_float(images[rows]), generator)
            with runtime.autocast(device, config.precision):
                if logits is None:
                    with torch.no_grad():
                        asked = guide(shown)
                else:
                    asked = logits[rows]
                answered = student(shown)
            if config.loss == "kd":
                yield losses.kd(answered.float(), asked.float(), config.tau)
            else:
                yield losses.l1(answered.float(), asked.float())

    steps = config.steps_per_epoch or len(images) // min(config.batch, len(images))
    history = training.fit(student, config, steps, steps_of, partial, key, device, "student")
    return net, description, history


def run(job: artefact.Job):
    """Make the student of a job."""
    device, started = runtime.device(), time.monotonic()
    guide = networks.load_frozen(job.inputs[0], device)
    with TransferSet(job.inputs[1]) as transfer, artefact.working(job.out, job.key) as partial:
        if partial is None:
            return
        transfer.require_fit(guide.description)
        check(transfer, job.config)
        net, description, history = distill(job.config, guide, transfer, partial, job.key, device)
        networks.publish(job, net, description, history, device)
    progress.say(f"distill: {len(history)} epochs, {time.monotonic() - started:.1f} s")


def check(transfer: TransferSet, config):
    """Can a student learn from the set as the config says? One line if not."""
    if not len(transfer):
        raise UserError(f"{transfer.path}: holds no samples, nothing to distil from; lower the threshold of balance")
    if config.sampling == "given" and "weights" not in transfer:
        raise UserError(f"{transfer.path}: has no sampling weights; use balance 'weight' or set sampling: uniform")


if __name__ == "__main__":
    artefact.main("distill", run)
