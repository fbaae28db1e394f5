"""Why a mesh cannot be started."""


class CannotStart(Exception):
    """The mesh cannot start; the message is for a person, and says what to change."""
