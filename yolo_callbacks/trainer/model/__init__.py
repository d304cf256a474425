"""What is looked at in a model: layers, gradients, activations, predictions."""
