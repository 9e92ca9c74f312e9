"""Network compression for any `torch.nn.Module`, one operation a module; `python -m compression` for files.

* `atomic_file`: files that are whole or not there
* `architecture`: convolutions rewritten as depthwise-separable or grouped ones, fresh or fitted to trained weights;
  widths chosen for a budget
* `batch_norm`: running statistics measured anew on given batches
* `checkpoint`: a state dict in one 32-, 16- or 8-bit safetensors file
* `cli`: the command line
* `cost`: parameters and multiply-accumulates
* `distillation`: losses of a student that learns from a teacher's logits, features and relations
* `low_rank`: linear and convolutional layers as products of smaller ones, at ranks chosen for an energy or a budget
* `onnx_export`: quantized models as ONNX that runtimes compute in int8, exactly on every CPU; `onnx_graph`, the part of
  it that fits graphs to integer kernels; `onnx_session` opens them
* `packing`: pruned, factorized, quantized models and state dicts in one safe file
* `pruning`: channels cut out of any traceable network, or masked; single weights set to zero; a package
* `quantization`: weights and activations in fewer bits, after training or while it goes on
* `taps`: what layers take and give while a model runs
"""
