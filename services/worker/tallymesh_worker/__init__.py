"""The worker: takes chunks from a gateway, computes them in child processes, hands results back."""
