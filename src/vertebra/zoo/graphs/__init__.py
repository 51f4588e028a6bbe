"""Networks as ONNX graphs without parameters, which ship with the package and need no torch."""
