"""Step: a teacher, trained on the training images or imported.

Writes teacher.safetensors, which carries classes, image shape and normalisation (later steps see nothing else of the
data), and history.csv beside it.
"""

import importlib

import torch
import torch.nn.functional as F

from .models.classifier import new_classifier
from .models.tasks import VOID
from .pipeline.job import Job, run_step
from .runtime import passes, progress
from .runtime.device import autocast, select_device
from .runtime.errors import UserError
from .runtime.seeds import seed_of
from .storage import atomic, dataset_file, network_file
from .training import augment, loop, supervised_maps
from .training.predict import to_float


def train(config, dataset, partial, key, device):
    """A network trained as ``groups.TrainTeacher`` says, on images that are read batch by batch."""
    dataset.require_images()
    number = dataset.sizes["train"]
    classifier = new_classifier(config.arch, dataset, seed_of("teacher", config.seed))
    classifier = classifier.to(device, memory_format=torch.channels_last)
    if config.zoom and not classifier.description.dense:
        raise UserError("teacher: zoom: is for segmentation, but the task is classification; remove it")
    if config.start:
        # By name: its code counts for teachers with a start alone (schemas.teacher.TrainTeacher).
        importlib.import_module("dfkd_steps.models.start").encoder(classifier, config.start)

    def losses(rng, epoch):
        for rows in loop.order(number, config.batch, rng):
            images, targets = (torch.from_numpy(array).to(device) for array in dataset.read("train", rows.cpu().numpy()))
            if classifier.description.dense:
                augmented, targets = supervised_maps.augmented(config, images, targets, rng)
            else:
                augmented = augment.shift(images, (config.crop, config.crop), rng)
                if config.flip:
                    augmented = augment.flip(augmented, rng)
                augmented = to_float(augment.cutout(augmented, config.cutout, rng))
            with autocast(device, config.precision):
                logits = classifier(augmented)
            yield (supervised_maps.cross_entropy if classifier.description.dense else F.cross_entropy)(
                logits.float(), targets, label_smoothing=config.label_smoothing
            )

    if number < 2:  # of one image BatchNorm has no statistics
        raise UserError(f"{dataset.path}: has one image for training, which is too few; give two or more")
    steps = number // min(config.batch, number)
    history = loop.fit(classifier, config, steps, losses, partial, key, device, "teacher")
    return classifier, history


def inspect(teacher, dataset, device):
    """Say how good an imported teacher is on the test images, or, of a card, what it makes of noise and drawn images.

    A wrong normalisation or order of classes is cheap to correct now, and costs a whole distillation later.
    """
    # By name: what it says changes no byte of a teacher.
    for line in importlib.import_module("dfkd_steps.models.look").look(teacher):
        progress.say(f"teacher: {line}")
    if not dataset.has_images:
        return
    teacher.to(device, memory_format=torch.channels_last)
    dense, number, right = teacher.description.dense, 0, 0
    rows = passes.passed_by(teacher.description)
    with torch.no_grad():
        for start in range(0, dataset.sizes["test"], rows):
            images, labels = map(torch.from_numpy, dataset.read("test", slice(start, start + rows)))
            answers = teacher(to_float(images.to(device))).argmax(1).cpu()
            right += int((answers == labels).sum())
            number += int((labels != VOID).sum()) if dense else len(labels)
    progress.say(f"teacher: predicts {100 * right / number:.2f} % of {number} {'pixels of ' * dense}test images correctly")
    chance = 1 / teacher.description.num_classes
    if right / number < chance + 0.1 * (1 - chance):
        progress.say("teacher: WARNING: this is hardly better than chance; check mean, std, the order of classes and the weights")


def run(job: Job):
    """Make the teacher of a job."""
    device = select_device()
    dataset = dataset_file.open_dataset(job.inputs[0])
    with atomic.exclusive(job.out, job.key) as partial:
        if partial is None:
            return
        if job.config.kind == "train":
            teacher, history = train(job.config, dataset, partial, job.key, device)
        else:
            # By name: its code counts for imported teachers alone (schemas.teacher.Import).
            pretrained = importlib.import_module("dfkd_steps.models.pretrained")
            importer = {"import": pretrained.import_checkpoint, "library": pretrained.import_library}[job.config.kind]
            teacher, history = importer(job.config, dataset), []
            inspect(teacher, dataset, device)
        network_file.publish(job.out, job.key, job.provenance(device), teacher, history)
    progress.say(f"teacher: {teacher.description.name}, {progress.spent():.1f} s")


if __name__ == "__main__":
    run_step("teacher", run)
