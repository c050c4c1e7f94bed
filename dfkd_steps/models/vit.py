"""A small vision transformer of timm (Dosovitskiy et al., ICLR 2021) for images of CIFAR's size: LayerNorm, no BatchNorm."""

from ..runtime.errors import UserError


def build(num_classes: int, image_shape, depth: int, width: int, heads: int, patch: int):
    """``depth`` blocks of ``width`` features and ``heads`` heads on patches of ``patch`` pixels, and a class token."""
    try:
        from timm.models.vision_transformer import VisionTransformer
    except ImportError:
        raise UserError("vit-mini: timm is not installed; run pip install 'dfkd[timm]'") from None
    channels, height, across = image_shape
    if height % patch or across % patch:
        raise UserError(f"vit-mini: image shape {tuple(image_shape)} does not fit; its sides must be multiples of {patch} pixels")
    return VisionTransformer(
        img_size=(height, across), patch_size=patch, in_chans=channels, num_classes=num_classes,
        embed_dim=width, depth=depth, num_heads=heads, mlp_ratio=2.0,
    )  # fmt: skip
