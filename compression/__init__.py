"""Network compression for any `torch.nn.Module`, one operation a module.

* `atomic_file`: files that are whole or not there
* `architecture`: convolutions rewritten as depthwise-separable or grouped ones, widths chosen for a budget
* `batch_norm`: running statistics measured anew on given batches
* `checkpoint`: a state dict in one 32-, 16- or 8-bit safetensors file
* `cost`: parameters and multiply-accumulates
* `distillation`: the loss of a student that learns from a teacher
* `low_rank`: linear and convolutional layers factorized by singular value decomposition
* `pruning`: channels cut out of any traceable network, or masked; single weights set to zero; a package
* `quantization`: weights as 8-bit codes or 16-bit floats
"""
