"""Losses of synthetic images. Free functions of tensors; N samples, K classes, logits not normalised."""

import math

import torch
import torch.nn.functional as F


def entropy(probabilities):
    """-sum_k p_k log p_k for each sample, nats; 0 log 0 = 0. (N,K,...) -> (N,...)."""
    # Its gradient at 0 is infinite, and a softmax underflows to 0: times its own gradient, 0, that would be NaN.
    return torch.special.entr(probabilities.clamp_min(torch.finfo(probabilities.dtype).tiny)).sum(1)


def balance(logits):
    """sum_k pbar_k log pbar_k, pbar the batch-mean softmax: least where classes are equally frequent, -log K
    (DAFL, arXiv 1904.01186, eq. 6: the information entropy loss). For segmentation over the pixels of all images, with which no
    class is missing in the batch. Logits (N,K) or (N,K,H,W) -> scalar."""
    probabilities = F.softmax(logits, 1)
    # The mean over dim 0 alone where there are no pixels: over more dimensions it could round otherwise.
    share = probabilities.mean(0, keepdim=True) if logits.ndim == 2 else probabilities.mean((0, 2, 3))[None]
    return -entropy(share)[0]


REGIONS = 4  # sides of the regions in which a class may be present, as a part of the image's


def presence(logits, targets):
    """-log of the target class's mean probability in the region where it is largest; regions are rectangles of a quarter of the
    image's sides, half overlapping. Of logits without pixels the cross-entropy. A term of ours: a class an image is to have
    somewhere. Logits (N,K) or (N,K,H,W), targets (N) -> (N), nats."""
    if logits.ndim == 2:
        return F.cross_entropy(logits, targets, reduction="none")
    chance = F.softmax(logits, 1)[torch.arange(len(logits), device=logits.device), targets]
    sides = [max(1, side // REGIONS) for side in chance.shape[1:]]
    regions = F.avg_pool2d(chance[:, None], sides, [max(1, side // 2) for side in sides])
    return -regions.flatten(1).amax(1).clamp_min(1e-12).log()


def activation(features):
    """-mean |f| over the features that enter the classifier (DAFL, arXiv 1904.01186, eq. 5). (N,D) -> (N)."""
    return -features.abs().mean(1)


def differences(images):
    """Of each pixel to its right, lower and both diagonal neighbours: four tensors of images (N,C,H,W)."""
    right, down = images[..., 1:] - images[..., :-1], images[..., 1:, :] - images[..., :-1, :]
    falling, rising = images[..., 1:, 1:] - images[..., :-1, :-1], images[..., 1:, :-1] - images[..., :-1, 1:]
    return right, down, falling, rising


def total_variation(images):
    """Sum of the L2 norms of differences to the right, lower and both diagonal neighbours, over the batch, by the
    root of the number of images (DeepInversion, arXiv 1912.08795, eq. 3). Images (N,C,H,W) -> scalar."""
    # The gradient of a norm is not defined at 0, where images are flat.
    return sum(torch.sqrt(difference.square().sum() + 1e-12) for difference in differences(images)) / math.sqrt(len(images))


def roughness(images):
    """The root mean square of the differences to the right, lower and both diagonal neighbours, mean over the four directions.
    Images (N,C,H,W) -> scalar, in their units."""
    return sum(torch.sqrt(difference.square().mean() + 1e-12) for difference in differences(images)) / 4


def patch_entropy(features, images: int, points: int = 10, bandwidth: float = 0.01):
    """The differential entropy of the cosine similarities between the patches of each image (PSAQ-ViT, arXiv 2203.02250, eqs. 5
    and 6, and its public code): their density by Gaussian kernels, at ``points`` places from the least to the largest
    similarity of the batch, integrated by trapezoids. Features (N W,P,D) of N ``images``, the W windows of each in a row, whose
    patches are compared within a window and have a density together -> (N), nats."""
    unit = F.normalize(features.float(), dim=2)
    similar = (unit @ unit.transpose(1, 2)).reshape(images, -1)
    low, high = similar.detach().amin(), similar.detach().amax()
    places = low + (high - low) * torch.linspace(0, 1, points, device=similar.device)
    density = _Kernels.apply(similar, places, bandwidth) / (math.sqrt(2 * math.pi) * bandwidth) + 1e-4
    return torch.trapezoid(-density * density.log(), places, dim=1)


class _Kernels(torch.autograd.Function):
    """Mean of exp(-(place - value)^2 / (2 h^2)) over the values of a row: values (N,M), places (P) without a gradient -> (N,P).

    A place at a time, in both directions: autograd holds several times P times the values, and takes five times as long on a
    CPU, whose exp is slow where its result is below the smallest float.
    """

    @staticmethod
    def forward(ctx, values, places, bandwidth):
        ctx.save_for_backward(values, places)
        ctx.bandwidth = bandwidth
        return torch.stack([_kernel(values - place, bandwidth).mean(1) for place in places], 1)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, to_means):
        values, places = ctx.saved_tensors
        scale, gradient = -to_means / (ctx.bandwidth**2 * values.shape[1]), torch.zeros_like(values)
        for number, place in enumerate(places):
            away = values - place
            gradient.addcmul_(_kernel(away, ctx.bandwidth).mul_(away), scale[:, number, None])
        return gradient, None, None


def _kernel(away, bandwidth):
    return (away * away).mul_(-0.5 / bandwidth**2).clamp_(min=-80).exp_()


def l2(images):
    """Norm of the batch of images by the root of their number (DeepInversion, eq. 3). (N,C,H,W) -> scalar."""
    return torch.sqrt(images.square().sum() / len(images) + 1e-12)


class _Moments(torch.autograd.Function):
    """``moments`` by the kernels of BatchNorm, and its gradient as one affine map of each channel: autograd of ``var`` takes ten
    times as long on a CPU, and more memory, half of an inversion step."""

    @staticmethod
    def forward(ctx, values):
        if values.device.type == "cpu":  # given statistics say their type, which else would be that of the values
            kept = torch.zeros(values.shape[1], dtype=torch.promote_types(values.dtype, torch.float32))
            mean, var = torch.batch_norm_update_stats(values, kept, kept.clone(), 0.0)
        else:
            kept = values.float()
            var, mean = torch.var_mean(kept, [dim for dim in range(kept.ndim) if dim != 1], correction=0)
        ctx.save_for_backward(values, mean)
        return mean, var

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, to_mean, to_var):
        values, mean = ctx.saved_tensors
        number = values.numel() / values.shape[1]
        # (values - mean) 2 to_var / number + to_mean / number, computed in the type of the mean. Not by torch.nn.functional: that
        # of torch 2.11 refuses an eps of 0.
        scale, shift, unit = 2 * to_var / number, to_mean / number, torch.ones_like(mean)
        return torch.batch_norm(values, scale, shift, mean, unit, False, 0.0, 0.0, torch.backends.cudnn.enabled)


def moments(values):
    """Mean and biased variance of each channel of a batch (N,C,...) in float32. -> (C), (C)."""
    return _Moments.apply(values)


def statistics_l2(mean, var, target_mean, target_var):
    """||mean - m||_2 + ||var - v||_2, norms not squared (DeepInversion, arXiv 1912.08795, eq. 4). (C) each -> scalar."""
    return torch.linalg.vector_norm(mean - target_mean) + torch.linalg.vector_norm(var - target_var)


def statistics_kl(mean, var, target_mean, target_var, eps: float = 1e-5):
    """KL(N(m,v) || N(mean,var)) = 0.5 (log(var/v) + (v + (m-mean)^2)/var - 1), mean over channels, nats.

    The Gaussian form of moment matching for LS-GDFD (arXiv 2012.05578); a reconstruction. (C) each -> scalar.
    """
    var, target_var = var + eps, target_var + eps
    return 0.5 * (torch.log(var / target_var) + (target_var + (target_mean - mean).square()) / var - 1).mean()


def agree(student_logits, teacher_logits):
    """1 where both name the same class, else 0. Logits (N,K,...) each -> (N,...) float."""
    return (student_logits.argmax(1) == teacher_logits.argmax(1)).float()


def jensen_shannon(student_logits, teacher_logits, tau: float):
    """Jensen-Shannon divergence of the softened outputs, mean over the batch, in [0, 1] bit (ADI, arXiv 1912.08795,
    eq. 8 takes 1 minus it). Logits (N,K) each -> scalar."""
    student, teacher = F.softmax(student_logits / tau, 1), F.softmax(teacher_logits / tau, 1)
    middle = 0.5 * (student + teacher)
    return (entropy(middle) - 0.5 * (entropy(student) + entropy(teacher))).mean() / math.log(2)


def contrastive(anchors, keys, number: int, tau: float):
    """InfoNCE: each anchor is to find the key of the same image among all (CMI, arXiv 2105.08584, eq. 6). The mean over the
    first ``number`` images, a new batch, plus the mean over the others, which are earlier ones: as in the public code.

    anchors, keys: (M,D) unit vectors, M >= number. -> scalar, nats.
    """
    each = F.cross_entropy(anchors @ keys.T / tau, torch.arange(len(anchors), device=anchors.device), reduction="none")
    return each[:number].mean() + each[number:].mean() if len(each) > number else each.mean()
