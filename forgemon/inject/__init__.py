"""Ways into a running CPython process."""
