"""Read-only views of a model: layers, gradients, activations, predictions."""
