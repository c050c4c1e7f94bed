"""SSD-KD: small-scale data-free knowledge distillation (Liu et al., CVPR 2024, arXiv 2406.07876).

From the paper: inversion into a replay buffer of few images (the transfer set), a modulating function phi that weights the
losses of images by how rare and how hard they are, and a "reinforcement learning strategy" of sampling, which is
prioritised replay: the student draws what it has not learnt. No code was released and the formulas were not to hand: those
of phi and of the priorities are reconstructions, and so is the replacement rule. Here, once the buffer is full, a share of
each new batch, drawn by phi, replaces the images with the lowest priorities, which the student knows best.
"""

import torch
import torch.nn.functional as F

from ..models import frozen
from ..models.tasks import TASKS
from ..schemas.transfer.ssd_kd import SSDKDConfig
from ..training import views
from .base import Batch, Method
from .engines import channel_exchange, model_inversion, objective, stored_answers
from .engines.generator_inversion import MetaInverter, new_generator
from .engines.image_pool import ImagePool
from .engines.online_student import OnlineStudent
from .engines.samplers import PrioritySampler


class SSDKD(Method):
    """A meta-learnt inverter with losses weighted by phi, a buffer renewed in part, and a student that draws by priority."""

    Config = SSDKDConfig
    tasks = TASKS

    def __init__(self, config, teacher, sources, device):
        super().__init__(config, teacher, sources, device)
        self.rounds = config.rounds
        self.objective = objective.Objective(config, teacher, config.ema)
        self.inverter = MetaInverter(config, new_generator(config, teacher, self.seed_of("generator"), device))
        self.pool = ImagePool(config.n, teacher.description.image_shape, device)
        # The teacher's answers to the pool's images: a class each, or, for segmentation, the shares of classes among the pixels.
        self.dense = teacher.description.dense
        self.labels = torch.zeros(config.n, dtype=torch.int64, device=device)
        if self.dense:
            self.labels = torch.zeros(config.n, teacher.description.num_classes, device=device)
        self.sampler = PrioritySampler(self.pool, config.beta, config.priority)
        self.student = OnlineStudent(config, teacher, device, floor=model_inversion.FAST_FLOOR)
        self.answers = stored_answers.build(config, self.pool, self.student)
        self.parts = {
            "student": self.student, "pool": self.pool, "sampler": self.sampler, "inverter": self.inverter,
            "objective": self.objective,
        }  # fmt: skip
        self.exchanged = channel_exchange.build(config, self.pool, self.inverter)
        self.parts |= {name: part for name, part in (("answers", self.answers), ("exchanged", self.exchanged)) if part}

    def round(self, index: int):
        """A batch, of which all (as long as the buffer is not full, or the student does not train) or a share enters the
        buffer; then the student's steps."""
        config = self.config
        rng = self.rng("round", index)
        trains = index >= config.warmup
        targets = model_inversion.random_targets(self, rng)
        effective = []

        def loss_of(images):
            with self.student.frozen() as student:
                view = views.view(config.view, images, rng)
                outputs = self.objective.forward(view, targets, student if trains else None)
            phi = self.phi(outputs.teacher_logits.detach(), targets)
            effective.append(effective_number(phi))
            return objective.total(self.objective.terms(outputs, phi))

        images = self.inverter.invert(loss_of, index, rng)
        self.objective.remember()
        if trains and len(self.pool) == config.n:
            self.renew(images, index, rng)
        else:
            places = self.pool.places(len(images))
            self.put(places, images, index)
            if self.exchanged:
                self.exchanged.put(places, self.inverter.latent)
        if not trains:
            return None
        figures = model_inversion.train_student(self.student, self.sampler, index, rng, self.answers, self.exchanged)
        return {**figures, "effective": torch.stack(effective).mean().item()}  # images of a batch that phi lets count

    def phi(self, teacher_logits, labels):
        """The modulating function: rare in the buffer, and hard. Logits (N,K), labels (N) -> (N), mean 1."""
        held = self.labels[: len(self.pool)]
        if self.dense:
            return self.phi_of_pixels(teacher_logits, held)
        # Not by bincount, which waits for a GPU to say how many bins it needs: this runs in each step of an inversion.
        ones = torch.ones_like(held, dtype=torch.float32)
        counts = torch.zeros(teacher_logits.shape[1], device=held.device).index_add_(0, held, ones)
        share = counts[labels] / max(1, len(held))
        # 1 - p as the sum of the others, in double: where the teacher is sure it would round to 0.
        chance = F.softmax(teacher_logits.double(), 1)
        unsure = chance.scatter(1, chance.argmax(1, keepdim=True), 0.0).sum(1)
        phi = (1 - share).pow(self.config.diversity) * unsure.pow(self.config.gamma)
        return (phi / phi.mean().clamp_min(torch.finfo(phi.dtype).tiny)).float()

    def phi_of_pixels(self, teacher_logits, held):
        """The same for segmentation: the means over the pixels of how rare their classes are and how unsure the teacher is.
        Logits (N,K,H,W), shares of classes in the buffer's images (M,K) -> (N), mean 1."""
        rare = 1 - (held.mean(0) if len(held) else torch.zeros(teacher_logits.shape[1], device=teacher_logits.device))
        unsure = 1 - F.softmax(teacher_logits, 1).amax(1)
        phi = rare[teacher_logits.argmax(1)].pow(self.config.diversity).mean((1, 2))
        phi = phi * unsure.mean((1, 2)).pow(self.config.gamma)
        return phi / phi.mean().clamp_min(torch.finfo(phi.dtype).tiny)

    def answers_to(self, teacher_logits):
        """What is kept of the teacher's answers: classes (N), or shares of classes (N,K) among the pixels."""
        answers = teacher_logits.argmax(1)
        return F.one_hot(answers, teacher_logits.shape[1]).float().mean((1, 2)) if self.dense else answers

    def renew(self, images, index: int, rng):
        """A share ``renew`` of a batch, drawn by phi without replacement, into the places of the lowest priorities."""
        number = max(1, round(self.config.renew * len(images)))
        teacher_logits = self.teacher_logits(images)
        chance = self.phi(teacher_logits, teacher_logits.argmax(1)) + 1e-6
        chosen = torch.multinomial(chance, number, generator=rng)
        places = self.sampler.priorities.probabilities().argsort(stable=True)[:number]
        self.put(places, images[chosen], index)
        if self.exchanged:
            self.exchanged.put(places, self.inverter.latent[chosen])

    def put(self, places, images, index: int):
        """Images into places of the buffer, with the largest priority until the student has seen them."""
        self.pool.put(places, images, index)
        self.labels[places] = self.answers_to(self.teacher_logits(self.pool.read(places)))
        self.sampler.priorities.forget(places)

    def teacher_logits(self, images):
        """The teacher's logits (N,K) on images."""
        return frozen.logits(self.teacher, images, self.config.precision)

    def batch(self, index: int) -> Batch:
        """The next images of the buffer."""
        return self.pool.batch(self.rows(index))

    def networks(self) -> dict:
        """The student after the last round, and the generator as it is between two batches."""
        return {"student": self.student.net, "generator": self.inverter.generator}

    def state(self) -> dict:
        """Also the labels."""
        return {**super().state(), "labels": self.labels.clone()}

    def restore(self, state: dict):
        """Go on from ``state``."""
        super().restore(state)
        self.labels.copy_(state["labels"])


def effective_number(weights):
    """How many samples a weighted mean rests on: (sum w)^2 / sum w^2 (Kish). Weights (N) -> scalar in [1, N]."""
    return weights.sum().square() / weights.square().sum()
