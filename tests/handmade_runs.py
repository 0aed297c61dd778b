"""Run folders written by hand, for tests of what reads them: no models, no Ray."""

import pyarrow as pa

from steer.storage.run_folder import RunFolder
from steer.storage.schemas import GRADED_SCHEMA, STEP_STRUCT

CELLS = {"small": {"name": "small"}, "large": {"name": "large"}, "steer": {"name": "steer", "gamma": 0.5}}


def blank(fields, **values):
    """A row of an Arrow struct or schema: 0, empty text and null where nothing is said."""
    empty = {f.name: 0 if pa.types.is_integer(f.type) else "" if f.type == pa.string() else None for f in fields}
    return {**empty, **values}


def step(number, model, text, **values):
    scores = {f"{m}_small": v for m, v in (("max_logit", 10.0 + number), ("entropy", -0.1), ("max_prob", 0.9))}
    known = {"finish": "step", "tokens": 5, "decision": "small", "replica": f"{model}-0", "accepted": True, **scores}
    return blank(STEP_STRUCT, step=number, model=model, text=text, **{**known, **values})


def trace(cell, number, text, correct, routed, signal=None):
    """A trace of three steps, the first of them rewritten where it was routed; confidence rises with the verdict."""
    if routed:
        score = {"confidence": 0.5 + 0.3 * correct + 0.01 * (number % 7), "posterior": 0.7, "signal": signal}
        rows = [
            step(0, "small", f"draft {text}", accepted=False, decision="rewrite", **score),
            step(0, "large", text, attempt=1, **score),
            *(step(i, "small", text, **score) for i in (1, 2)),
        ]
    else:
        rows = [step(0, "large" if "/large/" in cell else "small", text)]
    kept = [r for r in rows if r["accepted"]]
    columns = {
        **{"trace_id": f"q{number:03d}#0", "question_id": f"q{number:03d}", "cell": cell, "group_id": f"{cell}/000"},
        **{"benchmark": "chain", "difficulty": str(number % 3), "grader": "math", "gold": "4", "prompt": text},
        **{"text": text, "extracted": "4" if correct else text, "correct": correct, "rule": "boxed:exact"},
        **{"status": "answered", "steps": len(kept), "steps_large": sum(r["model"] == "large" for r in kept)},
        **{"tokens_discarded": 5 * routed, "flops_paper": 2e-6 if "/small/" in cell else 5e-6, "flops_full": 9e-6},
    }
    return blank(GRADED_SCHEMA, **columns, step_rows=rows, mixture_rows=[])


def make(
    root,
    cells=("small", "large", "steer"),
    text="two and two",
    n=40,
    flip=0,
    first=0,
    done=True,
    signal=None,
    full=None,
    labels=None,
):
    """A sweep's folder: each cell answers n questions; `flip` moves which of them are right. `full`: flops_full of each
    cell. `labels`: of each question."""
    run = RunFolder.create(root, "sweep", {"pair": {"small": {"path": "tiny"}, "large": {"path": "big"}}}, [0])
    names = {label: f"chain/test/{label}{'/gamma=0.5' * (label == 'steer')}/seed0" for label in cells}
    listed = [{"name": name, "policy": CELLS[label]} for label, name in names.items()]
    split = {"benchmark": "chain", "split": "test", "rule": "by hand", "traces": n, "refused": 0}
    run.update(cells=listed, benchmarks=[split], chosen=[["chain", "steer", "gamma=0.5"]])
    for label, name in names.items():
        rows = [
            trace(name, i, text, label == "large" or (i + flip) % 3 > 0, label == "steer", signal)
            for i in range(first, first + n)
        ]
        for i, row in enumerate(rows):
            row["flops_full"] = (full or {}).get(label, row["flops_full"])
            row["labels"] = labels[i] if labels else row["labels"]
        run.commit(pa.Table.from_pylist(rows, schema=GRADED_SCHEMA))
    if done:
        run.finish()
    return root
