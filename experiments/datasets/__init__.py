"""Data sets: `fractal` draws, `image_folder` decodes; `preparation` keeps either in a checked file, a `dataset`."""
