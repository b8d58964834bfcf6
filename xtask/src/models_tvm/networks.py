"""Networks that are compiled for the tests and fleets of the TVM backend, as ONNX models with seeded weights."""

import numpy
import onnx
from onnx import TensorProto, helper, numpy_helper


class Network:
    """A graph under construction: every layer takes the tensor that the layer before it made."""

    def __init__(self, name, shape):
        self.name = name
        self.random = numpy.random.default_rng(sum(name.encode()))
        self.nodes, self.weights, self.shape = [], [], list(shape)
        self.inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
        self.at, self.count = "x", 0

    def weight(self, shape, fan_in):
        self.count += 1
        name = f"w{self.count}"
        values = self.random.standard_normal(shape) / numpy.sqrt(max(fan_in, 1))
        self.weights.append(numpy_helper.from_array(values.astype(numpy.float32), name))
        return name

    def node(self, operator, inputs, **attributes):
        self.count += 1
        made = f"t{self.count}"
        self.nodes.append(helper.make_node(operator, inputs, [made], name=made, **attributes))
        return made

    def relu(self):
        self.at = self.node("Relu", [self.at])

    def conv(self, channels, size, stride=1, group=1):
        """A convolution with a bias, padded so that a stride of 1 keeps the size."""
        taken = self.shape[1] // group
        pad = size // 2
        weight = self.weight((channels, taken, size, size), taken * size * size)
        bias = self.weight((channels,), 100)
        self.at = self.node(
            "Conv", [self.at, weight, bias], pads=[pad] * 4, strides=[stride] * 2, group=group
        )
        side = [(length + 2 * pad - size) // stride + 1 for length in self.shape[2:]]
        self.shape = [1, channels, *side]

    def pool(self, size, stride):
        pad = size // 2 if size % 2 else 0
        self.at = self.node(
            "MaxPool", [self.at], kernel_shape=[size] * 2, strides=[stride] * 2, pads=[pad] * 4
        )
        side = [(length + 2 * pad - size) // stride + 1 for length in self.shape[2:]]
        self.shape = [*self.shape[:2], *side]

    def residual(self, channels, stride):
        """Two convolutions and a way around them."""
        before, shape = self.at, self.shape
        self.conv(channels, 3, stride)
        self.relu()
        self.conv(channels, 3)
        inner, inner_shape = self.at, self.shape
        self.at, self.shape = before, shape
        if stride != 1 or shape[1] != channels:
            self.conv(channels, 1, stride)
        self.at, self.shape = self.node("Add", [inner, self.at]), inner_shape
        self.relu()

    def average(self):
        pooled = self.node("GlobalAveragePool", [self.at])
        self.at, self.shape = self.node("Flatten", [pooled]), [1, self.shape[1]]

    def dense(self, width):
        weight = self.weight((self.shape[1], width), self.shape[1])
        bias = self.weight((width,), 100)
        self.at = self.node("Gemm", [self.at, weight, bias])
        self.shape = [1, width]

    def finish(self, *further):
        """The model; its outputs are the last tensor and `further`, which are pairs of a name and a shape."""
        outputs = [("y", self.at, self.shape), *(("z", name, shape) for name, shape in further)]
        for output, made, _ in outputs:
            self.nodes.append(helper.make_node("Identity", [made], [output], name=output))
        described = [
            helper.make_tensor_value_info(output, TensorProto.FLOAT, shape) for output, _, shape in outputs
        ]
        graph = helper.make_graph(self.nodes, self.name, self.inputs, described, self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(model)
        return model


def mlp():
    """Three dense layers."""
    network = Network("mlp", [1, 128])
    network.dense(256)
    network.relu()
    network.dense(256)
    network.relu()
    network.dense(10)
    return network.finish()


def cnn():
    """Convolution, activation, pooling, addition, and two outputs of different size."""
    network = Network("cnn", [1, 3, 32, 32])
    network.conv(8, 3)
    network.relu()
    network.pool(2, 2)
    network.residual(16, 2)
    features, shape = network.at, network.shape
    network.average()
    network.dense(10)
    return network.finish((features, shape))


def twin():
    """One tensor that is two outputs."""
    network = Network("twin", [1, 64])
    network.dense(32)
    network.relu()
    return network.finish((network.at, network.shape))


def residual(name, side, width):
    """The topology of ResNet-18 with `width` channels in its first stage, on images of `side` pixels."""
    network = Network(name, [1, 3, side, side])
    network.conv(width, 7, 2)
    network.relu()
    network.pool(3, 2)
    for stage, stride in enumerate((1, 2, 2, 2)):
        network.residual(width << stage, stride)
        network.residual(width << stage, 1)
    network.average()
    network.dense(100)
    return network.finish()


NETWORKS = {
    "mlp": mlp,
    "cnn": cnn,
    "twin": twin,
    "resnet_small": lambda: residual("resnet_small", 64, 16),
    "resnet": lambda: residual("resnet", 224, 32),
}
