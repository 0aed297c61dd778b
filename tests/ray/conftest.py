"""One local Ray for all `ray` tests: logical CPUs are plenty, since simulated replicas do no work."""

import logging

import pytest
import ray


@pytest.fixture(scope="session")
def local_ray():
    """This process is its driver. The value is its address: a `steer` started with it as RAY_ADDRESS runs there, and
    needs no cluster of its own."""
    # "local": a cluster of its own, also where another one runs on this machine.
    ray.init("local", num_cpus=8, include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
    yield ray.get_runtime_context().gcs_address
    ray.shutdown()
