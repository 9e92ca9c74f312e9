"""Data sets: `fractal` draws, `image_folder` decodes; `preparation` keeps either in a checked file, a `dataset`.

Of a folder of images `image_layout` finds files and labels, and `image_decoding` makes pixels.
"""
