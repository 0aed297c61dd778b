"""One local Ray for all `ray` tests: logical CPUs are plenty, since simulated replicas do no work."""

import logging

import pytest
import ray


@pytest.fixture(scope="session")
def local_ray():
    ray.init(num_cpus=8, include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
    yield
    ray.shutdown()
