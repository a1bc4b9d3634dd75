"""From Paddle's programs, and strangers' files, to what the engines run: ONNX, with the weights shared, and int8."""
