"""The agent's environment."""

from __future__ import annotations

import pytest

from spiderpool.agent.settings import read_settings
from spiderpool.errors import InvalidRequest

REQUIRED = {
    "SPIDERPOOL_POD_NAMESPACE": "kube-system",
    "SPIDERPOOL_POD_NAME": "agent-x",
    "SPIDERPOOL_NODE_NAME": "node1",
}


def test_defaults_are_those_of_the_reference() -> None:
    """
    Only three variables are required.

    Source: docs/reference/configuration.md#agent.
    """
    settings = read_settings(REQUIRED)

    assert (5710, 5711, "info") == (settings.health_port, settings.metric_port, settings.log_level)
    assert (False, True) == (settings.metrics, settings.release_conflict_ips)
    assert (None, None) == (settings.default_network, settings.kubeconfig)


@pytest.mark.parametrize("name", REQUIRED)
def test_a_required_variable_that_is_absent_or_empty_is_named(name: str) -> None:
    """Set but empty is as bad as absent."""
    absent = {key: value for key, value in REQUIRED.items() if key != name}

    with pytest.raises(InvalidRequest, match=f"{name} is required and is not set"):
        read_settings(absent)
    with pytest.raises(InvalidRequest, match=f"{name} is required and is empty"):
        read_settings({**REQUIRED, name: ""})


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("SPIDERPOOL_HEALTH_PORT", "http", "must be a whole number"),
        ("SPIDERPOOL_METRIC_HTTP_PORT", "70000", "a port is at most 65535"),
        ("SPIDERPOOL_ENABLED_METRIC", "yes", "must be true or false"),
        ("SPIDERPOOL_LOG_LEVEL", "loud", "must be one of debug, info"),
        ("SPIDERPOOL_WAIT_SUBNET_POOL_MAX_RETRIES", "-1", "at least 0"),
    ],
)
def test_a_wrong_value_is_named_with_what_it_must_be(name: str, value: str, words: str) -> None:
    """The message has the variable, its value and the rule."""
    with pytest.raises(InvalidRequest, match=f"{name} has .*{words}"):
        read_settings({**REQUIRED, name: value})


def test_go_spellings_of_true_count() -> None:
    """`T` is true, as for Go's ParseBool; log levels come in any case."""
    settings = read_settings(
        {**REQUIRED, "SPIDERPOOL_ENABLED_METRIC": "T", "SPIDERPOOL_LOG_LEVEL": "WARN"}
    )

    assert settings.metrics
    assert "warning" == settings.log_level
