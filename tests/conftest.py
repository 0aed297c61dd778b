"""In which order the tests run: by how much memory they need at the same time."""

from hypothesis import settings

settings.register_profile("steer", deadline=None)  # a busy machine is no fault of what is tested
settings.load_profile("steer")

WHOLE_RUNS = ("test_job_submit.py", "test_notebooks.py", "test_routed_run.py", "test_signalled_run.py")
"""Files whose runs on real engines start up to five engines in processes of their own, 2 GB each, on a cluster of their
own."""


def pytest_collection_modifyitems(items):
    """Whole runs first, while this process is small and before `ray` tests start the cluster that they share; tests
    with engines in this process last, since these stay until it ends."""

    def turn(item):
        if item.path.name in WHOLE_RUNS:
            return 0
        return 2 if item.get_closest_marker("engine") else 1

    items.sort(key=turn)
