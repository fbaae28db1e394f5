"""A body to begin with, for each call of the REST API that takes one."""

from collections.abc import Mapping
from typing import Any

_JOB = {"work": {"count_primes": {"stop": "10000000000"}}, "chunk_count": "60"}
_LETTERS = {"filter": {"kernel": "simulate"}, "validate_only": True}

#: By service and method.
EXAMPLES: Mapping[str, Any] = {
    "AbacusService.AddNumber": {"decimal": "0.1"},
    "AbacusService.AddNumbers": [{"numbers": ["1", "2", "-3"]}, {"decimals": ["0.1", "1e30"]}],
    "AbacusService.ResetSum": {},
    "DeadLetterService.DeleteDeadLetters": _LETTERS,
    "DeadLetterService.ReplayDeadLetters": _LETTERS,
    "DispatchService.Synchronize": {
        "call_id": "1",
        "worker": {
            "name": "bot-1",
            "uid": "6f1f9a52-0a0c-4f6e-9d0a-3f1a5f3f2b11",
            "slots": 1,
            "kernels": ["simulate"],
            "queues": ["bots"],
        },
        "capacity": 1,
    },
    "FleetService.DrainWorker": {},
    "JobService.BatchCreateJobs": {"requests": [{"job": _JOB}]},
    "JobService.CancelJob": {},
    "JobService.CollectJobs": {"names": ["jobs/0123456789abcdef"]},
    "JobService.Compute": {"count_primes": {"stop": "100000000"}},
    "JobService.CreateJob": _JOB,
    "JobService.ReplayJob": {},
    "JobService.RunJob": _JOB,
    "MeshService.CheckStore": {},
}
