"""What stays of an image whose form is not the one that is asked for."""


def middle(size, form) -> tuple[float, float]:
    """Height and width of the largest part of an image of ``size`` (H,W) that has the form (h,w): what stays of the image where
    its shorter side is resized and the other one cut."""
    scale = max(target / have for target, have in zip(form, size))
    height, width = (min(have, target / scale) for target, have in zip(form, size))
    return height, width
