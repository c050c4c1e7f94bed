"""The config fields of the losses of image synthesis (``engines.objective``), and what each loss is."""

from ...fields import opt

MEANING = {
    "onehot": "cross-entropy with the target class, or with the predicted class if there is no target",
    "entropy": "entropy of the teacher's prediction, to make it confident; for segmentation the mean over the pixels",
    "presence": "the target class in some region of the image, for segmentation; otherwise like onehot",
    "balance": "equally frequent classes in a batch (negative entropy of the mean prediction)",
    "activation": "large features before the classifier (DAFL)",
    "bn": "statistics of the teacher's BatchNorm inputs, L2 form",
    "bn_kl": "statistics of the teacher's BatchNorm inputs, Gaussian KL form",
    "moments": "mean and variance of the pixels compared with the teacher's normalisation, Gaussian KL",
    "tv": "total variation of the images",
    "l2": "norm of the images",
    "roughness": "distance of the images' roughness from `smooth_to`",
    "patches": "entropy of the similarities between patches, maximised (PSAQ-ViT)",
    "adversarial": "disagreement of teacher and student, maximised; `distance` selects the measure",
    "jsd": "1 - Jensen-Shannon divergence of teacher and student at temperature 3 (ADI)",
}


def weight(name: str, default: float):
    """A config field for the weight of a loss; 0 = not used."""
    return opt(default, f"weight of the loss: {MEANING[name]} (0 = off)", lo=0)


def distance(default: str):
    """A config field for how teacher and student are compared."""
    meaning = (
        "kl = KL at temperature 1; kl-mean = kl divided by the number of classes (ZSKT); l1 = of the logits; "
        "decision = kl where both predict the same class (CMI); l1-log = log(1 + l1 of the batch) (DFAD for segmentation)"
    )
    return opt(default, f"the adversarial loss: {meaning}", choices=("kl", "kl-mean", "l1", "decision", "l1-log"))


def mode(default: str):
    """A config field for the student's mode inside the generator's loss."""
    meaning = "mode of the student in the generator's loss; train = BatchNorm uses the statistics of the batch, and dropout is on"
    return opt(default, meaning, choices=("eval", "train"))
