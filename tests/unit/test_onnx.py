"""ONNX classifiers become networks of torch: every operator as onnxruntime has it, and nothing else goes in."""

import dataclasses

import numpy as np
import pytest
import torch
from told import require_remedy
from torch import nn

from dfkd_steps.models import head, hooks, onnx_comparison, onnx_graph, onnx_import, onnx_operators
from dfkd_steps.models.classifier import Description, build_architecture
from dfkd_steps.runtime.errors import UserError
from dfkd_steps.storage import network_file

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
helper, numpy_helper, FLOAT = onnx.helper, onnx.numpy_helper, 1


def described(shape=(3, 16, 16), classes=5, mean=0.4, std=0.3):
    channels = shape[0]
    return Description("onnx", "x.onnx", tuple(map(str, range(classes))), shape, (mean,) * channels, (std,) * channels)


def exported(path, net, shape=(3, 16, 16), *, dynamic=True, keep_norms=False):
    """A file as PyTorch writes it; it folds BatchNorm into convolutions unless told not to."""
    how = {"training": torch.onnx.TrainingMode.PRESERVE, "do_constant_folding": False} if keep_norms else {}
    axes = {"input_names": ["x"], "dynamic_axes": {"x": {0: "n"}}} if dynamic else {}
    torch.onnx.export(net.eval(), (torch.zeros(1, *shape),), path, dynamo=False, **axes, **how)
    return path


def small(*end):
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(8)
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1), norm, nn.ReLU6(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5), *end
    )


def comes_back(folder, net, description):
    """A teacher as later steps load it, without the ONNX file."""
    network_file.save(folder / "t.safetensors", net, description, "k", {})
    return network_file.load_frozen(folder / "t.safetensors")


@pytest.mark.parametrize("keep_norms", [True, False])
@pytest.mark.parametrize("dynamic", [True, False])
@pytest.mark.filterwarnings("ignore")
def test_a_network_goes_in_and_comes_back(tmp_path, dynamic, keep_norms, capsys):
    torch.manual_seed(1)
    net = build_architecture("resnet8", 5, (3, 16, 16))
    with torch.no_grad():
        net.train()(torch.rand(16, 3, 16, 16))
    path = exported(tmp_path / "x.onnx", net, dynamic=dynamic, keep_norms=keep_norms)
    imported = onnx_import.read(path, "", described())
    made, description = imported.net, imported.description
    path.unlink()
    teacher, images = comes_back(tmp_path, made, description), torch.rand(6, 3, 16, 16)
    with torch.no_grad():
        assert torch.allclose(teacher(images), net((images - 0.4) / 0.3), atol=1e-4)
    assert isinstance(hooks.last_linear(teacher, (3, 16, 16)), nn.Linear)
    norms = sum(isinstance(one, onnx_graph.Norm) for one in teacher.modules())
    assert norms == (sum(isinstance(one, nn.BatchNorm2d) for one in net.modules()) if keep_norms else 0)
    said = capsys.readouterr().err
    assert f"{norms} BatchNorm layers" in said and "outputs differ from onnxruntime's by at most" in said
    assert ("was exported for batches of 1" in said) == (not dynamic)


@pytest.mark.filterwarnings("ignore")
def test_a_softmax_at_the_end_is_left_out(tmp_path, capsys):
    net = small()
    path = exported(tmp_path / "x.onnx", nn.Sequential(net, nn.Softmax(1)))
    made = onnx_import.read(path, "", described()).net
    images = torch.rand(3, 3, 16, 16)
    with torch.no_grad():
        assert torch.allclose(made(images), net(images), atol=1e-5)
    assert "ends in a softmax, which is removed" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore")
def test_its_head_is_cut_to_the_classes_that_count(tmp_path):
    net, images = small(), torch.rand(3, 3, 16, 16)
    path = exported(tmp_path / "x.onnx", net)
    imported = onnx_import.read(path, "", described(classes=2), (4, 1))
    made, description = imported.net, imported.description
    with torch.no_grad():
        assert torch.allclose(head.uncut(imported, path)(images), net((images - 0.4) / 0.3), atol=1e-4)
        assert torch.allclose(made(images), net(images)[:, [4, 1]], atol=1e-5)
        assert torch.allclose(comes_back(tmp_path, made, description)(images), net((images - 0.4) / 0.3)[:, [4, 1]], atol=1e-4)
    turned = onnx_import.read(path, "", described(), (4, 3, 2, 1, 0))  # no shape tells the head of this one
    with torch.no_grad():
        assert torch.allclose(turned.net(images), net(images).flip(1), atol=1e-5)
        assert torch.allclose(head.uncut(turned, path).net(images), net(images), atol=1e-5)
    with pytest.raises(UserError, match="has 5 classes, 0 to 4, but keep has 7"):
        onnx_import.read(path, "", described(classes=2), (0, 7))


def written(path, nodes, constants=(), sizes=("n", 3, 8, 8), outputs=("y",), kind=FLOAT, opset=17, given=None):
    """A graph by hand."""
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in dict(constants).items()]
    inputs = [helper.make_tensor_value_info("x", kind, sizes)]
    results = [helper.make_tensor_value_info(one, kind if kind in (10, 11) else FLOAT, given) for one in outputs]
    graph = helper.make_graph(nodes, "g", inputs, results, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


POOLED = [
    helper.make_node("GlobalAveragePool", ["h"], ["p"]),
    helper.make_node("Flatten", ["p"], ["y"]),
]
WEIGHT = np.random.default_rng(0).normal(size=(5, 3, 3, 3)).astype(np.float32)
CASES = {
    "pads that differ": (
        [helper.make_node("Conv", ["x", "w"], ["h"], pads=[0, 1, 2, 1], strides=[2, 2]), *POOLED], {"w": WEIGHT},
    ),
    "pads by size": (
        [helper.make_node("Conv", ["x", "w"], ["h"], auto_pad="SAME_UPPER", strides=[2, 2]), *POOLED], {"w": WEIGHT},
    ),
    "pads by size, below": (
        [helper.make_node("Conv", ["x", "w"], ["h"], auto_pad="SAME_LOWER", strides=[2, 2]), *POOLED], {"w": WEIGHT},
    ),
    "pools": (
        [
            helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
            helper.make_node("MaxPool", ["c"], ["m"], kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, 1, 1]),
            helper.make_node("AveragePool", ["m"], ["h"], kernel_shape=[2, 2], pads=[0, 0, 1, 1]), *POOLED,
        ], {"w": WEIGHT},
    ),
    "average with counted pads": (
        [
            helper.make_node("Conv", ["x", "w"], ["c"]),
            helper.make_node("AveragePool", ["c"], ["h"], kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1), *POOLED,
        ], {"w": WEIGHT},
    ),
    "weights by Constant and Identity": (
        [
            helper.make_node("Constant", [], ["k"], value=numpy_helper.from_array(WEIGHT)),
            helper.make_node("Identity", ["k"], ["w"]), helper.make_node("Conv", ["x", "w"], ["h"]), *POOLED,
        ], {},
    ),
    "sums, slices, activations": (
        [
            helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("HardSigmoid", ["c"], ["s"], alpha=0.3, beta=0.4),
            helper.make_node("Mul", ["c", "s"], ["a"]), helper.make_node("Slice", ["a", "from", "to", "axes", "by"], ["b"]),
            helper.make_node("LeakyRelu", ["b"], ["d"], alpha=0.2), helper.make_node("Clip", ["d", "low"], ["e"]),
            helper.make_node("Split", ["e"], ["f", "g"], axis=3), helper.make_node("Concat", ["g", "f"], ["i"], axis=3),
            helper.make_node("Softplus", ["i"], ["h"]), *POOLED,
        ],
        {"w": WEIGHT, "from": [-1, 0], "to": [-9, 4], "axes": [2, 3], "by": [-1, 1], "low": np.float32(-0.3)},
    ),
    "shapes that are computed": (
        [
            helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("Shape", ["c"], ["s"]),
            helper.make_node("Gather", ["s", "first"], ["n"]), helper.make_node("Unsqueeze", ["n", "zero"], ["m"]),
            helper.make_node("Concat", ["m", "rest"], ["t"], axis=0), helper.make_node("Reshape", ["c", "t"], ["r"]),
            helper.make_node("ReduceMean", ["r"], ["y"], axes=[2], keepdims=0),
        ],
        {"w": WEIGHT, "first": np.int64(0), "zero": [0], "rest": [5, -1]},
    ),
    "a matrix and its bias": (
        [
            helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("MatMul", ["f", "w"], ["m"]),
            helper.make_node("Add", ["b", "m"], ["y"]),
        ],
        {"w": np.random.default_rng(1).normal(size=(192, 5)).astype(np.float32), "b": np.arange(5, dtype=np.float32)},
    ),
    "additions of which one is a bias": (
        [
            helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("MatMul", ["f", "w"], ["m"]),
            helper.make_node("MatMul", ["f", "v"], ["n"]), helper.make_node("Add", ["m", "b"], ["c"]),
            helper.make_node("Add", ["n", "c"], ["d"]), helper.make_node("MatMul", ["d", "u"], ["e"]),
            helper.make_node("Add", ["e", "b"], ["g"]), helper.make_node("Add", ["g", "b"], ["y"]),
        ],
        {
            "w": np.random.default_rng(1).normal(size=(192, 5)).astype(np.float32), "b": np.arange(5, dtype=np.float32),
            "v": np.random.default_rng(2).normal(size=(192, 5)).astype(np.float32),
            "u": np.random.default_rng(3).normal(size=(5, 5)).astype(np.float32),
        },
    ),
    "a number that is added to all": (
        [
            helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("MatMul", ["f", "w"], ["m"]),
            helper.make_node("Add", ["m", "b"], ["y"]),
        ],
        {"w": np.random.default_rng(1).normal(size=(192, 5)).astype(np.float32), "b": np.float32([3])},
    ),
    "a product that is read without its bias too": (
        [
            helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("MatMul", ["f", "w"], ["p"]),
            helper.make_node("Add", ["p", "b"], ["q"]), helper.make_node("Mul", ["p", "q"], ["y"]),
        ],
        {"w": np.random.default_rng(1).normal(size=(192, 5)).astype(np.float32), "b": np.arange(5, dtype=np.float32)},
    ),
    "a BatchNorm of large eps": (
        [
            helper.make_node("Conv", ["x", "w"], ["c"]),
            helper.make_node("BatchNormalization", ["c", "s", "b", "m", "v"], ["h"], epsilon=0.5), *POOLED,
        ],
        {"w": WEIGHT, **dict(zip("sbmv", np.random.default_rng(1).uniform(0.5, 1, size=(4, 5)).astype(np.float32)))},
    ),
    "weights that are standardised": (
        [
            helper.make_node("BatchNormalization", ["w", "s", "b", "m", "v"], ["n"]), helper.make_node("Conv", ["x", "n"], ["h"]),
            *POOLED,
        ],
        {"w": WEIGHT, **dict(zip("sbmv", np.random.default_rng(1).uniform(0.5, 1, size=(4, 3)).astype(np.float32)))},
    ),
    "a stored mask": (
        [
            helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("Where", ["mask", "c", "zero"], ["h"]), *POOLED,
        ],
        {"w": WEIGHT, "mask": np.random.default_rng(1).random((6, 6)) < 0.5, "zero": np.float32(0)},
    ),
    "Gemm with factors": (
        [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("Gemm", ["f", "w", "b"], ["y"], alpha=0.5, beta=2.0)],
        {"w": np.random.default_rng(1).normal(size=(192, 5)).astype(np.float32), "b": np.arange(5, dtype=np.float32)},
    ),
    "weights of 16 bits": (
        [
            helper.make_node("Cast", ["x"], ["z"], to=10), helper.make_node("Conv", ["z", "w"], ["c"]),
            helper.make_node("Cast", ["c"], ["h"], to=1), *POOLED,
        ], {"w": WEIGHT.astype(np.float16)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_operators_are_as_onnxruntime_has_them(tmp_path, case, monkeypatch):
    monkeypatch.setattr(onnx_comparison, "TOLERANCE", 1e-5)
    nodes, constants = CASES[case]
    path = written(tmp_path / "x.onnx", nodes, constants)
    imported = onnx_import.read(path, "", described((3, 8, 8)))
    made, description = imported.net, imported.description
    teacher, images = comes_back(tmp_path, made, description), torch.rand(7, 3, 8, 8)
    parts = torch.cat([teacher(one[None]) for one in images])
    assert torch.allclose(teacher(images), parts, atol=1e-5)
    if "matrix" in case or "Gemm" in case:
        assert isinstance(hooks.last_linear(teacher, (3, 8, 8)), nn.Linear)


def test_a_group_norm_of_an_early_opset_has_factors_of_groups(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_comparison, "TOLERANCE", 1e-5)
    four = np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("GroupNormalization", ["c", "s", "b"], ["h"], num_groups=2), *POOLED,
    ]  # fmt: skip
    constants = {"w": four, "s": np.array([0.5, 2], np.float32), "b": np.array([3, -1], np.float32)}
    onnx_import.read(written(tmp_path / "x.onnx", nodes, constants, opset=18), "", described((3, 8, 8), 4))  # which compares them


@pytest.mark.parametrize(("element", "kind"), [(np.float16, 10), (np.float64, 11)])
@pytest.mark.parametrize("sizes", [("n", 3, 8, 8), ("n", 8, 8, 3)])
def test_images_and_weights_of_another_element_type(tmp_path, element, kind, sizes, capsys):
    """As a converter to half precision writes them; the network here has float32."""
    matrix = np.random.default_rng(1).normal(size=(192, 5)).astype(element)
    nodes = [helper.make_node("Flatten", ["c"], ["f"]), helper.make_node("MatMul", ["f", "w"], ["y"])]
    turned = helper.make_node("Transpose", ["x"], ["c"], perm=[0, 3, 1, 2] if sizes[3] == 3 else [0, 1, 2, 3])
    path = written(tmp_path / "x.onnx", [turned, *nodes], {"w": matrix}, sizes=sizes, kind=kind)
    imported = onnx_import.read(path, "", described((3, 8, 8)))
    network, description = imported.net, imported.description
    images = torch.rand(2, 3, 8, 8)
    expected = images.flatten(1) @ torch.from_numpy(matrix).float()
    assert torch.allclose(network(images), expected, atol=1e-4) and network(images).dtype == torch.float32
    assert comes_back(tmp_path, network, description)(images).dtype == torch.float32
    assert "outputs differ from onnxruntime's by at most" in capsys.readouterr().err


@pytest.mark.parametrize(("element", "passes"), [(np.float16, True), (np.float32, False)])
def test_half_precision_alone_may_differ_by_its_rounding(tmp_path, monkeypatch, element, passes):
    monkeypatch.setitem(onnx_operators.OPERATORS, "Flatten", lambda inputs, attributes: inputs[0].flatten(1) * 1.004)
    nodes = [helper.make_node("Cast", ["w"], ["k"], to=FLOAT), helper.make_node("Conv", ["x", "k"], ["h"]), *POOLED]
    path = written(tmp_path / "x.onnx", nodes, {"w": WEIGHT.astype(element)})
    if passes:
        onnx_import.read(path, "", described((3, 8, 8)))
        return
    with pytest.raises(UserError, match="gives different outputs here than in onnxruntime"):
        onnx_import.read(path, "", described((3, 8, 8)))


UP = np.random.default_rng(2).normal(size=(3, 5, 3, 3)).astype(np.float32)
RESIZES = [
    {"mode": "linear"}, {"mode": "linear", "coordinate_transformation_mode": "pytorch_half_pixel"},
    {"mode": "linear", "coordinate_transformation_mode": "align_corners"}, {"mode": "cubic"},
    {"mode": "cubic", "coordinate_transformation_mode": "align_corners"}, {"mode": "nearest"},
    {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
    {"mode": "nearest", "coordinate_transformation_mode": "half_pixel", "nearest_mode": "round_prefer_ceil"},
]  # fmt: skip


def maps_of(path, classes=5, shape=(3, 8, 8)):
    """A segmentation network that is read from a file."""
    made = onnx_import.read(path, "", dataclasses.replace(described(shape, classes), task="segmentation"))
    return made.net, made.description


@pytest.mark.parametrize("form", range(len(RESIZES)))
@pytest.mark.parametrize("given", ["factors", "sizes"])
def test_maps_are_resized_as_onnxruntime_does(tmp_path, form, given, monkeypatch):
    monkeypatch.setattr(onnx_comparison, "TOLERANCE", 1e-5)
    numbers = {"k": np.array([1, 1, 2, 2], np.float32) if given == "factors" else np.array([4, 5, 8, 8])}
    inputs = ["h", "", "k"] if given == "factors" else ["h", "", "", "k"]
    nodes = [helper.make_node("Conv", ["x", "w"], ["h"], strides=[2, 2], pads=[1, 1, 1, 1])]
    path = written(
        tmp_path / "x.onnx", [*nodes, helper.make_node("Resize", inputs, ["y"], **RESIZES[form])], {"w": WEIGHT, **numbers}
    )
    made, description = maps_of(path)
    assert comes_back(tmp_path, made, description)(torch.rand(3, 3, 8, 8)).shape == (3, 5, 8, 8)


@pytest.mark.parametrize("softmax", [False, True])
def test_maps_whose_classes_come_last_are_turned(tmp_path, capsys, softmax):
    nodes = [
        helper.make_node("Transpose", ["x"], ["c"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["c", "w"], ["h"], pads=[1, 1, 1, 1]),
        helper.make_node("Transpose", ["h"], ["m" if softmax else "y"], perm=[0, 2, 3, 1]),
        *([helper.make_node("Softmax", ["m"], ["y"], axis=-1)] if softmax else []),
    ]
    sizes, given = ("n", 8, 12, 3), ("n", 8, 12, 5)
    made, description = maps_of(written(tmp_path / "x.onnx", nodes, {"w": WEIGHT}, sizes=sizes, given=given), shape=(3, 8, 12))
    assert "gives maps as N,H,W,K; they are transposed" in capsys.readouterr().err
    images = torch.rand(2, 3, 8, 12)
    wanted = nn.functional.conv2d(images, torch.from_numpy(WEIGHT), padding=1)
    assert torch.allclose(made(images), wanted, atol=1e-5)
    assert comes_back(tmp_path, made, description)(images).shape == (2, 5, 8, 12)


def test_resizing_of_an_early_opset(tmp_path):
    nodes = [helper.make_node("Conv", ["x", "w"], ["h"], strides=[2, 2], pads=[1, 1, 1, 1])]
    path = written(tmp_path / "x.onnx", [*nodes, helper.make_node("Resize", ["h", "k"], ["y"], mode="nearest")],
                   {"w": WEIGHT, "k": np.array([1, 1, 2, 2], np.float32)}, opset=10)  # fmt: skip
    assert maps_of(path)[0](torch.rand(2, 3, 8, 8)).shape == (2, 5, 8, 8)


@pytest.mark.parametrize(
    "how",
    [{"pads": [1, 1, 1, 1]}, {"pads": [0, 1, 2, 1]}, {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]},
     {"strides": [2, 2], "pads": [0, 1, 1, 0]}, {"dilations": [2, 2], "pads": [2, 2, 2, 2]}],
)  # fmt: skip
@pytest.mark.parametrize("bias", [False, True])
def test_transposed_convolutions_are_as_onnxruntime_has_them(tmp_path, how, bias, monkeypatch):
    monkeypatch.setattr(onnx_comparison, "TOLERANCE", 1e-5)
    side = 8 // how.get("strides", [1])[0]
    constants = {"u": UP, "b": np.arange(5, dtype=np.float32)}
    node = helper.make_node("ConvTranspose", ["x", "u", *(["b"] if bias else [])], ["y"], **how)
    path = written(tmp_path / "x.onnx", [node], constants, sizes=("n", 3, side, side))
    maps_of(path, shape=(3, side, side))  # which compares them


@pytest.mark.filterwarnings("ignore")
def test_a_small_u_net_goes_in(tmp_path):
    net = build_architecture("unet-tiny", 5, (3, 16, 16)).eval()
    made, _ = maps_of(exported(tmp_path / "x.onnx", net), shape=(3, 16, 16))
    images = torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        assert torch.allclose(made(images), net(images), atol=1e-4)


def test_a_softmax_of_early_opsets_goes_over_all_axes_behind():
    images = torch.rand(2, 3, 4)
    made = onnx_operators.OPERATORS["Softmax"]([images], {"axis": 1, "opset": 11})
    assert torch.allclose(made.sum((1, 2)), torch.ones(2))
    assert torch.allclose(onnx_operators.OPERATORS["Softmax"]([images], {"axis": 1, "opset": 13}).sum(1), torch.ones(2, 4))


@pytest.mark.parametrize("sizes", [("n", 8, 8, 3), ("n", None, None, 3), (None, "h", "w", 3)])  # Keras leaves sizes free
def test_images_whose_channels_come_last_are_turned(tmp_path, sizes, capsys):
    nodes = [
        helper.make_node("Transpose", ["x"], ["c"], perm=[0, 3, 1, 2]), helper.make_node("Conv", ["c", "w"], ["h"]), *POOLED
    ]  # fmt: skip
    path = written(tmp_path / "x.onnx", nodes, {"w": WEIGHT}, sizes=sizes)
    made = onnx_import.read(path, "", described((3, 8, 8))).net
    images = torch.rand(2, 3, 8, 8)
    expected = nn.functional.conv2d(images, torch.from_numpy(WEIGHT)).mean((2, 3))
    assert torch.allclose(made(images), expected, atol=1e-5)
    assert "as N,H,W,C" in capsys.readouterr().err


def test_images_as_wide_as_they_have_channels_are_not_turned_where_other_sizes_are_free(tmp_path, capsys):
    onnx_import.read(written(tmp_path / "x.onnx", flat(), {"w": WEIGHT}, sizes=("n", None, None, 3)), "", described((3, 8, 3)))
    assert "as N,H,W,C" not in capsys.readouterr().err


def flat(*more):
    return [helper.make_node("Conv", ["x", "w"], ["h"]), *POOLED, *more]


WRONG = {
    "no file": (None, "no such checkpoint"),
    "no ONNX": (b"nothing of the kind", "is not a readable ONNX file|contains no graph"),
    "empty": (b"", "contains no graph"),
    "another size": ({"nodes": flat(), "sizes": ("n", 3, 9, 8)}, "takes images of 3x9x8, not 3x8x8; set the data set's"),
    "grey": ({"nodes": flat(), "sizes": ("n", 1, 8, 8)}, "takes images of 1x8x8, not 3x8x8"),
    "two dimensions": ({"nodes": flat(), "sizes": ("n", 192)}, "takes inputs of 2 dimensions"),
    "bytes": ({"nodes": flat(), "kind": 2}, "does not accept floating-point input; export it with float32"),
    "a detector": ({"nodes": flat(), "outputs": ("y", "p")}, r"has 2 outputs \(y, p\), but a classifier has one"),
    "no classifier": ({"nodes": [helper.make_node("Conv", ["x", "w"], ["y"])]}, "so it is not an image classifier; use"),
    "several labels": (
        {"nodes": [*flat()[:-1], helper.make_node("Flatten", ["p"], ["f"]), helper.make_node("Sigmoid", ["f"], ["y"])]},
        "ends in a sigmoid",
    ),
    "another number of classes": ({"nodes": flat(), "classes": 7}, "returns 5 logits, but the data set has 7 classes; choose"),
    "an operator that is not known": (
        {"nodes": [helper.make_node("Det", ["x"], ["h"]), *POOLED]}, "has the operator Det, which is not supported; give",
    ),
    "a form of an operator that is not known": (
        {"nodes": [helper.make_node("Resize", ["x", "", "", "k"], ["h"], mode="linear", antialias=1), *POOLED],
         "constants": {"k": np.array([1, 3, 4, 4])}}, "Resize in the form linear, half_pixel, antialias, which is not",
    ),
    "a transposed convolution to a given size": (
        {"nodes": [helper.make_node("ConvTranspose", ["x", "u"], ["h"], output_shape=[9, 9]), *POOLED],
         "constants": {"u": np.ones((3, 5, 2, 2), np.float32)}}, "ConvTranspose with auto_pad or output_shape instead of pads",
    ),
    "quantised": (
        {"nodes": [helper.make_node("QuantizeLinear", ["x", "s"], ["h"]), *POOLED], "constants": {"s": np.float32(1)}},
        "is quantised",
    ),
    "another's operators": (
        {"nodes": [helper.make_node("Mine", ["x"], ["h"], domain="my.company"), *POOLED]}, "outside the ONNX standard",
    ),
    "weights that are computed": ({"nodes": [helper.make_node("Conv", ["x", "x"], ["h"]), *POOLED]}, "weights are computed"),
    "nothing of the images": (
        {"nodes": [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("Identity", ["k"], ["y"])],
         "constants": {"w": WEIGHT, "k": np.zeros((1, 5), np.float32)}}, "does not depend on its input",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_go_in_is_one_line(tmp_path, case):
    given, said = WRONG[case]
    path = tmp_path / "x.onnx"
    if isinstance(given, bytes):
        path.write_bytes(given)
    elif given:
        how = {"constants": {"w": WEIGHT}, **{key: value for key, value in given.items() if key not in ("classes",)}}
        written(path, **how)
    with pytest.raises(UserError, match=said) as error:
        onnx_import.read(path, "", described((3, 8, 8), given.get("classes", 5) if isinstance(given, dict) else 5))
    require_remedy(str(error.value))


def test_a_mask_by_a_sigmoid_is_no_classifier_of_images(tmp_path):
    """As networks for one kind of object end: the advice was to give a classifier."""
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("Sigmoid", ["c"], ["y"])]
    path = written(tmp_path / "x.onnx", nodes, {"w": WEIGHT[:1]})
    description = dataclasses.replace(described((3, 8, 8), 2), task="segmentation")
    with pytest.raises(UserError, match=r"per pixel, or two classes by one output, .*; give a segmentation network with these$"):
        onnx_import.read(path, "", description)


def test_weights_in_another_file_are_refused(tmp_path):
    path = written(tmp_path / "x.onnx", flat(), {"w": WEIGHT})
    model = onnx.load(path)
    onnx.save_model(model, path, save_as_external_data=True, location="beside", size_threshold=0)
    with pytest.raises(UserError, match="stores weights in another file"):
        onnx_import.read(path, "", described((3, 8, 8)))


def test_weights_and_attributes_of_another_form_than_they_declare(tmp_path):
    """What fuzzing found: each ended in a traceback."""
    path = written(tmp_path / "x.onnx", flat(), {"w": WEIGHT})
    sound = onnx.load(path)
    sound.graph.initializer[0].dims[0] += 1
    onnx.save(sound, path)
    with pytest.raises(UserError, match=r"x.onnx: is not a readable ONNX file"):
        onnx_import.read(path, "", described((3, 8, 8)))
    sound.graph.initializer[0].dims[0] -= 1
    sound.graph.node[-1].attribute.append(helper.make_attribute("texts", ["a", "b"]))
    onnx.save(sound, path)
    with pytest.raises(UserError, match=r"x.onnx: is not a readable ONNX file"):
        onnx_import.read(path, "", described((3, 8, 8)))


def test_a_stored_graph_names_nothing_but_known_operators(tmp_path):
    for graph in ('{"nodes": [["__import__", [], [], {}]]}', "{", "[]", '{"nodes": [["Linear", ["x"], ["y"], {}]]}'):
        with pytest.raises(UserError, match="its ONNX graph is damaged"):
            onnx_graph.build(Description("onnx", "x", ("a", "b"), (1, 2, 2), (0.0,), (1.0,), {"graph": graph}))
    huge = '{"input": "x", "output": "y", "tensors": {"t": [1000000, 1000000]}, "integers": {}, "nodes": []}'
    with pytest.raises(UserError, match="is too large for a classifier"):
        onnx_graph.build(Description("onnx", "x", ("a", "b"), (1, 2, 2), (0.0,), (1.0,), {"graph": huge}))


def test_outputs_that_differ_are_refused(tmp_path, monkeypatch):
    """Whatever is wrong with an operator here, nobody distils from it."""
    monkeypatch.setitem(onnx_operators.OPERATORS, "Flatten", lambda inputs, attributes: inputs[0].flatten(1) * 1.01)
    with pytest.raises(UserError, match="gives different outputs here than in onnxruntime"):
        onnx_import.read(written(tmp_path / "x.onnx", flat(), {"w": WEIGHT}), "", described((3, 8, 8)))


FIXED = {"w": WEIGHT, "s": np.array([1, 5])}


@pytest.mark.parametrize(
    ("first", "constants", "said"),
    [
        ("n", {"w": WEIGHT}, r"runs in onnxruntime, but not here \(none of ours\); give the network's weights and a factory"),
        (4, {"w": WEIGHT}, r"does not accept 4 images \(it was exported for batches of 4\); export it with a dynamic batch"),
        ("n", FIXED, r"x.onnx: does not accept 4 images; export it with a dynamic batch"),
    ],
)
def test_a_network_that_does_not_run_here_is_exported_again_only_where_that_helps(tmp_path, monkeypatch, first, constants, said):
    """An operator that fails here, in a file whose batch is free, is not mended by another batch."""
    nodes = flat()
    if constants is FIXED:
        nodes = [*flat()[:-1], helper.make_node("Reshape", ["p", "s"], ["y"])]
    else:
        monkeypatch.setitem(onnx_operators.OPERATORS, "Flatten", lambda *given: fails("none of ours"))
    with pytest.raises(UserError, match=said) as error:
        onnx_import.read(written(tmp_path / "x.onnx", nodes, constants, sizes=(first, 3, 8, 8)), "", described((3, 8, 8)))
    require_remedy(str(error.value))


def test_a_file_that_onnxruntime_refuses_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_comparison, "_by_onnxruntime", lambda *given: fails("no kernel"))
    with pytest.raises(UserError, match="does not run in onnxruntime: no kernel; export it again"):
        onnx_import.read(written(tmp_path / "x.onnx", flat(), {"w": WEIGHT}), "", described((3, 8, 8)))


@pytest.mark.parametrize("softmax", [None, 1, -3])
def test_logits_of_a_last_convolution_are_flattened(tmp_path, capsys, softmax):
    """N,K,1,1, as those of SqueezeNet in the ONNX Model Zoo."""
    nodes = [helper.make_node("Conv", ["x", "w"], ["h"]), helper.make_node("GlobalAveragePool", ["h"], ["p" if softmax else "y"])]
    nodes += [helper.make_node("Softmax", ["p"], ["y"], axis=softmax)] if softmax else []
    path = written(tmp_path / "x.onnx", nodes, {"w": WEIGHT}, given=("n", 5, 1, 1))
    imported, images = onnx_import.read(path, "", described((3, 8, 8))), torch.rand(3, 3, 8, 8)
    expected = nn.functional.conv2d(images, torch.from_numpy(WEIGHT)).mean((2, 3))
    assert torch.allclose(imported.net(images), expected, atol=1e-5)
    assert "gives its logits as N,K,1,1; they are flattened" in capsys.readouterr().err
    cut = onnx_import.read(path, "", described((3, 8, 8), 2), (3, 0))
    assert torch.allclose(cut.net(images), expected[:, [3, 0]], atol=1e-5)


@pytest.mark.parametrize("maps", [False, True])
def test_classes_to_keep_that_there_are_not(tmp_path, maps):
    """Where no linear layer is last: a head that is a convolution."""
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])] if maps else flat()
    path = written(tmp_path / "x.onnx", nodes, {"w": WEIGHT})
    description = dataclasses.replace(described((3, 8, 8), 2), task="segmentation" if maps else "classification")
    imported = onnx_import.read(path, "", description, (0, 4))
    network, images = imported.net, torch.rand(2, 3, 8, 8)
    whole = nn.functional.conv2d(images, torch.from_numpy(WEIGHT), padding=1 if maps else 0)
    uncut = head.uncut(imported, path)
    assert torch.allclose(uncut.net(images), whole if maps else whole.mean((2, 3)), atol=1e-5)
    assert uncut.description.classes == (description.classes[0], "1", "2", "3", description.classes[1])
    assert torch.allclose(network(images), (whole if maps else whole.mean((2, 3)))[:, [0, 4]], atol=1e-5)
    with pytest.raises(UserError, match=r"x.onnx: has 5 classes, 0 to 4, but keep has 7; correct keep$"):
        onnx_import.read(path, "", description, (0, 7))


def fails(text):
    raise RuntimeError(text)


@pytest.mark.parametrize("missing", ["onnx", "onnxruntime"])
def test_packages_may_be_absent(tmp_path, monkeypatch, missing):
    path = written(tmp_path / "x.onnx", flat(), {"w": WEIGHT})
    monkeypatch.setitem(__import__("sys").modules, missing, None)
    with pytest.raises(UserError, match=r"pip install 'dfkd\[onnx\]'"):
        onnx_import.read(path, "", described((3, 8, 8)))
