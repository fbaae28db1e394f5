"""The gateway: the public API of a mesh, and the dispatcher of its workers."""
