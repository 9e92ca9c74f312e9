"""Network compression for any `torch.nn.Module`, one operation a module; `python -m compression` for files.

* `atomic_file`: files that are whole or not there
* `architecture`: convolutions rewritten as depthwise-separable or grouped ones, widths chosen for a budget
* `batch_norm`: running statistics measured anew on given batches
* `checkpoint`: a state dict in one 32-, 16- or 8-bit safetensors file
* `cli`: the command line
* `cost`: parameters and multiply-accumulates
* `distillation`: the loss of a student that learns from a teacher
* `low_rank`: linear and convolutional layers factorized by singular value decomposition
* `onnx_export`: quantized models as ONNX that runtimes compute in int8
* `packing`: pruned, factorized, quantized models and state dicts in one safe file
* `pruning`: channels ranked by their BatchNorm gamma, then masked or cut out
* `quantization`: weights and activations in fewer bits, after training or while it goes on
"""
