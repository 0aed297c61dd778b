"""`steer bench NAME`: measure the speed figures of the README. Each benchmark is a module.

Prints a table and writes it as JSON. Runs that are compared take turns within one call, on one machine.
"""

import json
import os
import platform
from pathlib import Path
from typing import Any

from pipelines.run.session import cluster

NAMES = ("overhead", "router", "mixture", "grading", "loop", "elastic", "scale", "serve", "storage")


def run(
    name: str,
    json_path: Path | None = None,
    trace: Path | None = None,
    questions: int | None = None,
    text_bytes: int | None = None,
    overhead: dict[str, Any] | None = None,
    router: dict[str, Any] | None = None,
    serve: dict[str, Any] | None = None,
    storage: dict[str, Any] | None = None,
) -> list[dict]:
    """Run one benchmark and print its rows. Returns the rows.

    `trace`: step lengths for `loop`. `questions`, `text_bytes`: how many for `scale`, and how long each is; `overhead`,
    `serve`, `questions`: the fields of their `Options`; `router`: what its `read_options` takes; `storage`:
    further arguments of `bench_storage`. Raises ValueError, with the names that there are, for an unknown name, and
    SettingsError for options that it cannot use, such as a `trace` that is no table of steps.
    """
    match name:
        case "overhead":
            from pipelines.bench.overhead import Options, bench_overhead

            counted = {} if questions is None else {"questions": questions}
            rows = bench_overhead(Options(**counted, **(overhead or {})), lambda rows: _write(json_path, rows))
        case "router":
            from pipelines.bench.router import bench_router, read_options

            options = read_options(**(router or {}))
            with cluster():
                rows = bench_router(**options)
        case "mixture":
            from pipelines.bench.mixture import bench_mixture

            rows = bench_mixture()
        case "grading":
            from pipelines.bench.grading import bench_grading

            rows = bench_grading()
        case "loop":
            from pipelines.bench.loop import ABOUT, bench_pools
            from pipelines.bench.step_lengths import SHIPPED, read

            lengths = read(trace or SHIPPED)
            with cluster():
                rows = bench_pools(lengths)
            print(ABOUT)
        case "elastic":
            from pipelines.bench.elastic import bench_elastic

            with cluster():
                rows = bench_elastic()
        case "scale":
            from pipelines.bench.scale import ABOUT, QUESTIONS, TEXT_BYTES, bench_scale

            rows = bench_scale(questions or QUESTIONS, text_bytes or TEXT_BYTES)
            print(ABOUT)
        case "serve":
            from pipelines.bench.serve import ABOUT as ABOUT_SERVE
            from pipelines.bench.serve import Options as ServeOptions
            from pipelines.bench.serve import bench_serve

            options_of_serve = ServeOptions(questions=questions, **(serve or {}))
            rows = bench_serve(options_of_serve, lambda rows: _write(json_path, rows))
            print(ABOUT_SERVE)
        case "storage":
            from pipelines.bench.storage import ABOUT as ABOUT_STORAGE
            from pipelines.bench.storage import bench_storage

            rows = bench_storage(**({} if questions is None else {"questions": questions}), **(storage or {}))
            print(ABOUT_STORAGE)
        case _:
            raise ValueError(f"no benchmark {name!r}: there are {', '.join(NAMES)}")
    print_rows(f"steer bench {name}", rows)
    _write(json_path, rows)
    return rows


def _write(json_path: Path | None, rows: list[dict]) -> None:
    """Write the rows, each with the machine, in the place of those that the file has."""
    if json_path is not None:
        json_path.write_text(json.dumps([{**row, "machine": machine()} for row in rows], indent=1) + "\n")


def print_rows(title: str, rows: list[dict]) -> None:
    """Print the title with the machine, and a line for each row."""
    print(f"# {title} on {machine()}")
    for row in rows:
        print("  ".join(f"{key}={value}" for key, value in row.items()))


def machine() -> str:
    """This machine in words: processor, cores, Python."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        cpu = platform.processor() or platform.machine()
    return f"{cpu}, {os.cpu_count()} cores, Python {platform.python_version()}"
