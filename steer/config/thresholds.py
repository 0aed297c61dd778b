"""The threshold of each policy: the key that a sweep varies, its grid, and the name that rows get from it."""

from typing import Any

from steer.config.policy import PolicyConfig

THRESHOLDS: dict[str, tuple[str, tuple[float, ...]]] = {
    "steer": ("gamma", (0.001, 0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)),
    "percentile": ("percent", (10, 20, 30, 40, 50, 60, 70, 80, 90)),
    "first_token_entropy": ("tau", (0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.3, 1.6)),
    "rsd": ("threshold", (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)),
    "spec_reason": ("threshold", (1, 2, 3, 4, 5, 6, 7, 8, 8.5)),
    "query_router": ("threshold", (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)),
    "random_step": ("p", (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)),
    "random_query": ("p", (0.25, 0.5, 0.75)),
}
"""By policy: the key that its grid varies, and the grid unless the sweep names another. Entropies are in nats: 0.05 is
a nearly certain first token, 1.6 about five equally likely ones."""

SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""The grid of `steer` with `decide: budget`: shares of the traces."""


def label_of(policy: PolicyConfig) -> str:
    """The label of a policy to which no sweep gave one: its name, or the name of a custom policy's class."""
    return policy.object.partition(":")[2] if policy.name == "custom" else policy.name


def threshold_key(policy: dict[str, Any]) -> str | None:
    """The key that a policy's grid varies, an option if it is a custom policy. None: it has no threshold.

    `policy`: its configuration as JSON values, as `run.json` holds it.
    """
    if policy["name"] == "steer" and policy.get("decide") == "threshold":  # `steer tune` has chosen
        return None
    return policy.get("threshold") if policy["name"] == "custom" else THRESHOLDS.get(policy["name"], (None,))[0]


def standard_grid(policy: PolicyConfig) -> tuple[float, ...]:
    """The thresholds that a sweep tries unless it names others. Empty for a policy without a threshold."""
    if threshold_key(policy.model_dump()) is None:
        return ()
    if policy.name == "steer" and policy.decide == "budget":
        return SHARES
    return THRESHOLDS.get(policy.name, ("", ()))[1]


def setting_of(policy: dict[str, Any]) -> str:
    """The threshold as rows name it, `gamma=0.5`; empty if there is none."""
    key = threshold_key(policy)
    held = policy["options"] if policy["name"] == "custom" else policy
    return f"{key}={held[key]:g}" if key is not None and key in held else ""


def with_threshold(policy: PolicyConfig, value: float) -> PolicyConfig:
    """The same policy at another threshold. Raises ValueError if it has none or does not allow this one."""
    given = {**policy.model_dump(exclude_unset=True), "name": policy.name}
    key = threshold_key(policy.model_dump())
    if key is None:
        raise ValueError(f"policy {policy.name} has no threshold")
    changed = {"options": {**policy.options, key: value}} if policy.name == "custom" else {key: value}
    return type(policy).model_validate({**given, **changed})
