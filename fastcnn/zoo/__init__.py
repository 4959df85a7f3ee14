"""Well-known networks as functions that return models, ready to compile.

Each takes `input_shape`, (height, width, channels) of one image, `classes`, the number of outputs, and a word for its
width; the defaults are the sizes of the paper. Outputs are probabilities, of the image or, from `unet`, of each pixel.

    model = zoo.resnet20((28, 28, 1), classes=10)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
"""

from fastcnn.zoo.classic import alexnet, lenet5, simple_cnn
from fastcnn.zoo.mobilenet import mobilenet_v1, mobilenet_v2
from fastcnn.zoo.resnet import resnet18, resnet20, resnet32, resnet34, resnet50, resnet56
from fastcnn.zoo.segmentation import unet
from fastcnn.zoo.vgg import vgg11, vgg13, vgg16, vgg19

__all__ = [
    "alexnet", "lenet5", "mobilenet_v1", "mobilenet_v2", "resnet18", "resnet20", "resnet32", "resnet34", "resnet50",
    "resnet56", "simple_cnn", "unet", "vgg11", "vgg13", "vgg16", "vgg19",
]
