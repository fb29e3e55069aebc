"""How well a policy, with its cloud, answers a task."""
