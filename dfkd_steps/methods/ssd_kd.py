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
from ..schemas.transfer.ssd_kd import SSDKDConfig
from ..training import views
from .engines import channel_exchange, objective
from .engines.generator_inversion import MetaInverter, new_generator
from .engines.model_inversion import FAST_FLOOR, ModelInversion
from .engines.samplers import PrioritySampler


class SSDKD(ModelInversion):
    """A meta-learnt inverter with losses weighted by phi, a buffer renewed in part, and a student that draws by priority."""

    Config = SSDKDConfig
    floor = FAST_FLOOR

    def __init__(self, config, teacher, sources, device):
        super().__init__(config, teacher, sources, device)
        self.inverter = MetaInverter(config, new_generator(config, teacher, self.seed_of("generator"), device))
        self.exchanged = channel_exchange.build(config, self.pool, self.inverter)
        # The teacher's answers to the pool's images: a class each, or, for segmentation, the shares of classes among the pixels.
        self.dense = teacher.description.dense
        self.labels = torch.zeros(config.n, dtype=torch.int64, device=device)
        if self.dense:
            self.labels = torch.zeros(config.n, teacher.description.num_classes, device=device)
        self.sampler = PrioritySampler(self.pool, config.beta, config.priority)
        self.add_parts(inverter=self.inverter, exchanged=self.exchanged, sampler=self.sampler)

    def round(self, index: int):
        """A batch, of which all (as long as the buffer is not full, or the student does not train) or a share enters the
        buffer; then the student's steps."""
        rng = self.rng("round", index)
        targets = self.random_targets(rng)
        effective = []

        def loss_of(images):
            outputs = self.forward(views.view(self.config.view, images, rng), targets, index)
            phi = self.phi(outputs.teacher_logits.detach(), targets)
            effective.append(effective_number(phi))
            return objective.total(self.objective.terms(outputs, phi))

        images = self.inverter.invert(loss_of, index, rng)
        self.objective.remember()
        if self.trains(index) and len(self.pool) == self.config.n:
            self.renew(images, self.inverter.latent, index, rng)
        else:
            self.put(self.pool.places(len(images)), images, self.inverter.latent, index)
        figures = self.train_student(index, rng)
        # Images of a batch that phi lets count.
        return figures and {**figures, "effective": torch.stack(effective).mean().item()}

    def phi(self, teacher_logits, labels):
        """The modulating function: rare in the buffer, and hard. Logits (N,K), labels (N) -> (N), mean 1."""
        held = self.labels[: len(self.pool)]
        if self.dense:
            return self.phi_of_pixels(teacher_logits, held)
        # Not by bincount, which waits for a GPU to say how many bins it needs: this runs in each step of an inversion.
        ones = torch.ones_like(held, dtype=torch.float32)
        counts = torch.zeros(teacher_logits.shape[1], device=held.device).index_add_(0, held, ones)
        share = counts[labels] / max(1, len(held))
        # 1 - p as the sum of the others, in double (which Apple's GPUs lack): where the teacher is sure it would round to 0.
        chance = F.softmax(teacher_logits.to(torch.float32 if teacher_logits.device.type == "mps" else torch.float64), 1)
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
        if not self.dense:
            return answers
        places = answers.flatten(1)
        counts = torch.zeros(teacher_logits.shape[:2], device=places.device)
        return counts.scatter_add_(1, places, torch.ones_like(places, dtype=torch.float32)) / places.shape[1]

    def renew(self, images, latents, index: int, rng):
        """A share ``renew`` of a batch and its latent vectors, drawn by phi without replacement, into the places of the lowest
        priorities."""
        number = max(1, round(self.config.renew * len(images)))
        teacher_logits = self.teacher_logits(images)
        chance = self.phi(teacher_logits, teacher_logits.argmax(1)) + 1e-6
        chosen = torch.multinomial(chance, number, generator=rng)
        places = self.sampler.priorities.probabilities().argsort(stable=True)[:number]
        self.put(places, images[chosen], latents[chosen], index)

    def put(self, places, images, latents, index: int):
        """Images (N,C,H,W) of latent vectors (N,Z) into places (N) of the buffer, with the largest priority until the student
        has seen them."""
        self.pool.put(places, images, index)
        if self.exchanged:
            self.exchanged.put(places, latents)
        self.labels[places] = self.answers_to(self.teacher_logits(self.pool.read(places)))
        self.sampler.priorities.forget(places)

    def teacher_logits(self, images):
        """The teacher's logits (N,K) on images."""
        return frozen.logits(self.student.teacher, images, self.config.precision)

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
