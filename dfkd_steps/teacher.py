"""Step: a teacher, trained on the training images or imported.

Writes teacher.safetensors, which carries classes, image shape and normalisation (later steps see nothing else of the
data), and history.csv beside it.
"""

import time

import torch
import torch.nn.functional as F

from . import artefact, augment, data, foreign, models, networks, progress, runtime, training


def train(config, dataset, partial, key, device):
    """A network trained as ``groups.TrainTeacher`` says; the images stay on the device as uint8."""
    images, labels = (torch.from_numpy(array).to(device) for array in dataset.read("train"))
    description = networks.Description("arch", config.arch, dataset.classes, dataset.image_shape, dataset.mean, dataset.std)
    torch.manual_seed(runtime.seed_of("teacher", config.seed))
    classifier = networks.Classifier(models.build(config.arch, len(dataset.classes), dataset.image_shape), description)
    classifier = classifier.to(device, memory_format=torch.channels_last)

    def losses(generator, epoch):
        for rows in training.order(len(images), config.batch, generator):
            shown = augment.shift(images[rows], config.crop, generator)
            if config.flip:
                shown = augment.flip(shown, generator)
            shown = training.to_float(augment.cutout(shown, config.cutout, generator))
            with runtime.autocast(device, config.precision):
                logits = classifier(shown)
            yield F.cross_entropy(logits.float(), labels[rows], label_smoothing=config.label_smoothing)

    steps = len(images) // min(config.batch, len(images))
    history = training.fit(classifier, config, steps, losses, partial, key, device, "teacher")
    return classifier.net, description, history


def run(job: artefact.Job):
    """Make the teacher of a job."""
    device, started = runtime.device(), time.monotonic()
    dataset = data.open_dataset(job.inputs[0])
    with artefact.working(job.out, job.key) as partial:
        if partial is None:
            return
        if job.config.kind == "train":
            net, description, history = train(job.config, dataset, partial, job.key, device)
        else:
            importer = {"import": foreign.import_checkpoint, "library": foreign.import_library}[job.config.kind]
            (net, description), history = importer(job.config, dataset), []
        networks.publish(job, net, description, history, device)
    progress.say(f"teacher: {description.name}, {time.monotonic() - started:.1f} s")


if __name__ == "__main__":
    artefact.main("teacher", run)
