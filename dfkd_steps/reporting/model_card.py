"""The model card of an exported student, as Markdown."""

import jinja2

from ..models.tasks import SEGMENTATION
from ..pipeline import spec

# In this file, so that the fingerprint of the step export covers it.
# ruff: noqa: E501 (rows of Markdown tables)
TEMPLATE = """\
{% set student, teacher = card.networks.student, card.networks.teacher %}
# {{ student.name }}, distilled from {{ teacher.name }}

{{ "A segmentation network" if dense else "An image classifier" }} of {{ card.classes|length }} classes.
It was trained on its teacher's outputs for {{ "{:,}".format(card.transfer_set.samples) }} images of the transfer set `{{ card.specs[2] }}` ({{ card.transfer_set.label }}).

| | |
|---|---|
{% for group, text in pairs %}
| {{ group }} | `{{ text }}` |
{% endfor %}
| input | `input`, float32 (N, {{ card.image_shape|join(", ") }}), values in [0, 1]; the normalisation is included |
| output | `logits`, float32 (N, {{ card.classes|length }}{% if dense %}, {{ card.image_shape[1:]|join(", ") }}{% endif %}) |
| classes | {{ card.classes[:20]|join(", ") }}{% if card.classes|length > 20 %} and {{ card.classes|length - 20 }} more, in the metadata of the ONNX files{% endif %} |

## Files

| file | bytes | |
|---|---|---|
| `student.onnx` | {{ "{:,}".format(sizes["student.onnx"]) }} | ONNX, opset {{ card.opset }}, any batch size |
| `student-int8.onnx` | {{ "{:,}".format(sizes["student-int8.onnx"]) }} | the same in int8 (QDQ), calibrated with {{ card.calibration_images }} images of the transfer set |
| `state_dict.safetensors` | {{ "{:,}".format(sizes["state_dict.safetensors"]) }} | the weights under their PyTorch names; mean and std are in its metadata, because the normalisation is not included |
| `student.pt2` | {{ "{:,}".format(sizes["student.pt2"]) }} | a torch.export program, normalisation included |

## Load it

```python
import json, numpy as np, onnxruntime
session = onnxruntime.InferenceSession("student.onnx")
images = np.random.rand(1, {{ card.image_shape|join(", ") }}).astype(np.float32)  # your images, divided by 255
logits = session.run(["logits"], {"input": images})[0]
{% if dense %}
print(logits[0].argmax(0))  # the class number of each pixel; names: custom_metadata_map["classes"] of session.get_modelmeta()
{% else %}
print(json.loads(session.get_modelmeta().custom_metadata_map["classes"])[logits[0].argmax()])
{% endif %}
```

## Measurements

| | parameters | multiply-accumulates | bytes of its file under results/ |
|---|---|---|---|
{% for role, network in (("teacher", teacher), ("student", student)) %}
| {{ role }} | {{ "{:,}".format(network.parameters) }} | {{ "{:,}".format(network.macs) }} | {{ "{:,}".format(network.bytes) }} |
{% endfor %}

Agreement is the share of {{ "pixels" if dense else "images" }} on which two networks predict the same class, in percent.
It is not an accuracy: no label was read.

| images | number | student and teacher | int8 and teacher | int8 and student | largest logit difference between ONNX and PyTorch |
|---|---|---|---|---|---|
{% for name, found in card.measured.items() %}
| {{ name }} | {{ found.images }} | {{ "%.2f"|format(found.student_teacher) }} | {{ "%.2f"|format(found.int8_teacher) }} | {{ "%.2f"|format(found.int8_student) }} | {{ found.largest_difference }} |
{% endfor %}

The held-out images of the transfer set were not used to calibrate int8; the student may have learnt from them.
Probe images are noise and drawings of kinds that the student did not learn from.
To measure accuracy on your own images and latency on your machine: `dfkd evaluate FOLDER --images IMAGES`, where FOLDER is this folder.
"""


def render(card: dict, sizes: dict[str, int]) -> str:
    """The card. ``card``: the content of export.json; sizes: name of a file -> its bytes."""
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return (
        environment.from_string(TEMPLATE).render(
            card=card, sizes=sizes, dense=card.get("task") == SEGMENTATION, pairs=zip(spec.GROUPS, card["specs"])
        )
        + "\n"
    )
