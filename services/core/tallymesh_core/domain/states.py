"""The states of a job, and how it may go from one to another."""

from enum import StrEnum


class JobState(StrEnum):
    """Where a job stands; the values are what the store keeps."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def is_final(self) -> bool:
        """The job has ended; only a replay leads out of a final state."""
        return self not in (JobState.PENDING, JobState.RUNNING)


#: From each state, where a job may go and by which transition. docs/state-machine.md draws it.
TRANSITIONS: dict[JobState, dict[JobState, str]] = {
    JobState.PENDING: {
        JobState.RUNNING: "lease",
        JobState.FAILED: "time_out",
        JobState.CANCELLED: "cancel",
    },
    JobState.RUNNING: {
        JobState.SUCCEEDED: "commit, fail or reap",
        JobState.FAILED: "fail, reap, commit or time_out",
        JobState.CANCELLED: "cancel",
    },
    JobState.SUCCEEDED: {},
    JobState.FAILED: {
        JobState.PENDING: "replay",
    },
    JobState.CANCELLED: {},
}


class ChunkState(StrEnum):
    """Where a chunk stands."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    DONE = "DONE"
    RETRYING = "RETRYING"
    FAILED = "FAILED"
