"""Claims as data: a class for each kind, and the file that holds them."""
