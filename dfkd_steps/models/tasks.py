"""The tasks that a network can be for. A segmentation network gives a logit for each class and pixel, a label map is uint8."""

CLASSIFICATION, SEGMENTATION = "classification", "segmentation"
TASKS = (CLASSIFICATION, SEGMENTATION)
VOID = 255  # in a label map: no class, in no loss and no metric
MOST_CLASSES = 254  # of a segmentation task: a byte a pixel, without VOID
