"""Generated from protos/tallymesh/v1 by `make generate`."""
