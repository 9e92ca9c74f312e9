"""Everything that one set of options describes: which runs, in which order, and what was found in them."""
