"""Which configuration a run may be gone on with, and what a process that was cut off leaves in its folder."""

import pyarrow as pa
import pytest

from pipelines.run.lifecycle import held_run, prepare_resuming
from pipelines.run.stages import without_mixtures
from steer.config.load import SettingsError
from steer.config.policy import SteerPolicy
from steer.config.run import PoolConfig, PoolsConfig, RunConfig
from steer.storage.run_folder import RunFolder
from steer.storage.schemas import MIXTURE_KEYS, MIXTURE_STRUCT, ROUTED_SCHEMA, SCHEMAS

CONFIG = RunConfig()


def resolved(config):
    return config.model_dump(mode="json")


@pytest.fixture
def run(tmp_path):
    return RunFolder.create(tmp_path / "run", "run", resolved(CONFIG), [0])


@pytest.mark.parametrize(
    ("update", "key"),
    [
        ({"policy": SteerPolicy(gamma=0.3)}, "policy.gamma"),
        ({"seed": 7}, "seed"),
        ({"pools": PoolsConfig(measures=("max_logit",))}, "pools.measures"),
        ({"pair": "qwen2.5"}, "pair"),
    ],
)
def test_another_configuration_is_refused_by_the_name_of_its_key(run, update, key):
    with pytest.raises(SettingsError, match=f"begun with {key} = "):
        prepare_resuming(run, resolved(CONFIG.model_copy(update=update)), "there")


def test_a_run_goes_on_with_other_pools(run):
    pools = PoolsConfig(small=PoolConfig(replicas=3), large=PoolConfig(gpus=1, label="large"))
    prepare_resuming(run, resolved(CONFIG.model_copy(update={"pools": pools, "journal": False})), "there")


def test_a_folder_without_a_run_and_one_of_another_kind(tmp_path, run):
    assert held_run(tmp_path / "nothing", "run") is None
    assert held_run(run.root, "run") is not None
    with pytest.raises(SettingsError, match="holds a run, not a sweep"):
        held_run(run.root, "sweep")


def test_going_on_removes_what_was_not_committed_and_nothing_else(tmp_path, run):
    for table, schema in SCHEMAS.items():
        for stem in ("part-whole", "part-torn")[: 1 if table == "traces" else 2]:
            run._write_part(table, stem, schema.empty_table())
    (tmp_path / "run" / "traces" / ".part-unfinished.7").write_bytes(b"half")
    prepare_resuming(run, resolved(CONFIG), "there")
    left = {table: sorted(path.name for path in (tmp_path / "run" / table).iterdir()) for table in SCHEMAS}
    assert left == dict.fromkeys(SCHEMAS, ["empty.parquet", "part-whole.parquet"])


def test_fits_that_are_committed_are_not_handed_on_again():
    def fit(step):
        return dict.fromkeys(field.name for field in MIXTURE_STRUCT) | {"group_id": "g", "step": step, "fit_ms": 0.1}

    rows = [{**dict.fromkeys(ROUTED_SCHEMA.names), "mixture_rows": mixtures} for mixtures in ([fit(0), fit(1)], [])]
    routed = pa.Table.from_pylist(rows, schema=ROUTED_SCHEMA)
    held = frozenset({tuple(fit(0)[key] for key in MIXTURE_KEYS)})
    kept = without_mixtures(routed, held)
    assert kept.schema == ROUTED_SCHEMA
    assert [[row["step"] for row in rows] for rows in kept["mixture_rows"].to_pylist()] == [[1], []]
