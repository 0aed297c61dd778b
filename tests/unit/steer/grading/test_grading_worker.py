"""The symbolic worker: its limits, its replacement, and who it lives and dies with."""

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from paths import ROOT

from steer.grading.formulas import worker as worker_module
from steer.grading.formulas.worker import Worker, WorkerError, symbolic

# Both are beyond the limits that the grader keeps before it asks a worker.
ENDLESS = r"\sum_{k=1}^{1000000000}\sin(k^{3})"
HUGE = r"\lfloor\pi\cdot10^{300000000}\rfloor"
EQUAL = (r"\sqrt{8}", r"2\sqrt{2}")


@pytest.fixture
def worker():
    worker = Worker(cpu_limit_s=1.0)
    yield worker
    worker.close()


def is_gone(pid):
    """Whether a process has ended; waits for it through a descriptor, without polling."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    poll = worker_module.select.poll()
    poll.register(descriptor, worker_module.select.POLLIN)
    ended = bool(poll.poll(30_000))
    os.close(descriptor)
    return ended


def test_worker_starts_at_the_first_question_and_answers(worker):
    assert worker.pid is None
    assert worker.ask(*EQUAL) == "same"
    pid = worker.pid
    assert worker.ask(r"\sqrt{8}", r"3\sqrt{2}") == "different"
    assert worker.ask(r"\sqrt{8}", r"\sqrt{") == "refused"
    assert worker.pid == pid


def test_time_out_kills_the_worker_and_the_next_question_gets_another(worker):
    worker.ask(*EQUAL)
    pid = worker.pid
    assert worker.ask("5", ENDLESS) == "timeout"
    assert worker.pid is None
    assert is_gone(pid)
    assert worker.ask(*EQUAL) == "same"
    assert worker.pid != pid


def test_the_limit_is_on_each_question_not_on_all_of_them():
    worker = Worker(cpu_limit_s=0.5)
    questions = [(rf"\sqrt{{{n}}}+\pi", rf"\pi+\sqrt{{{4 * n}}}/2") for n in range(2, 100)]
    assert {worker.ask(*question) for question in questions} == {"same"}
    worker.close()


def test_wall_clock_is_the_backstop():
    worker = Worker(cpu_limit_s=1.0, wall_limit_s=20.0)
    worker.ask(*EQUAL)
    # Stopped, it uses no CPU time at all.
    os.kill(worker.pid, signal.SIGSTOP)
    worker._limits = (1.0, 0.2, worker_module.MEMORY_LIMIT_BYTES)
    assert worker.ask(r"\sqrt{8}", r"\sqrt{2}\cdot2") == "timeout"
    worker._limits = (1.0, 20.0, worker_module.MEMORY_LIMIT_BYTES)
    assert worker.ask(*EQUAL) == "same"
    worker.close()


def test_memory_hog_is_refused_and_the_next_question_answered(worker):
    worker.ask(*EQUAL)
    in_use = int(Path(f"/proc/{worker.pid}/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    limited = Worker(cpu_limit_s=30.0, memory_limit_bytes=in_use + (8 << 20))
    assert limited.ask(*EQUAL) == "same"
    pid = limited.pid
    assert limited.ask("5", HUGE) == "refused"
    assert is_gone(pid)
    assert limited.ask(*EQUAL) == "same"
    limited.close()


def test_worker_killed_from_outside_is_replaced(worker):
    worker.ask(*EQUAL)
    pid = worker.pid
    os.kill(pid, signal.SIGKILL)
    assert worker.ask(*EQUAL) == "same"
    assert worker.pid != pid


def test_question_that_crashes_every_worker_is_refused(worker, monkeypatch):
    monkeypatch.setattr(worker, "_outcome", lambda request: None)
    assert worker.ask(*EQUAL) == "refused"


def test_worker_that_cannot_start_is_an_error_not_a_wrong_answer(monkeypatch):
    worker = Worker()
    monkeypatch.setattr(sys, "executable", "false")
    with pytest.raises(WorkerError, match="before it was ready"):
        worker.ask(*EQUAL)


def test_questions_from_two_threads_at_once(worker):
    questions = [(rf"\sqrt{{{n * n * 2}}}", rf"{n}\sqrt{{2}}") for n in range(2, 40)]
    with ThreadPoolExecutor(2) as pool:
        replies = list(pool.map(lambda question: worker.ask(*question), questions))
        wrong = list(pool.map(lambda question: worker.ask(question[0], question[1] + "+1"), questions))
    assert set(replies) == {"same"}
    assert set(wrong) == {"different"}


def test_works_first_from_a_thread_that_is_not_the_main_one(worker):
    replies = []
    thread = threading.Thread(target=lambda: replies.append(worker.ask(*EQUAL)))
    thread.start()
    thread.join()
    assert replies == ["same"]
    assert worker.ask(*EQUAL) == "same"


def test_child_of_a_fork_starts_its_own_and_leaves_the_parents_alone():
    assert symbolic(*EQUAL) == "same"
    pid = worker_module._WORKER.pid
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        reply = f"{symbolic(*EQUAL)} {worker_module._WORKER.pid != pid}"
        worker_module._WORKER.close()
        os.write(write, reply.encode())
        os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    assert os.read(read, 100) == b"same True"
    os.close(read)
    assert symbolic(r"\sqrt{12}", r"2\sqrt{3}") == "same"
    assert worker_module._WORKER.pid == pid


@pytest.mark.parametrize("ending", ["pass", "os._exit(1)", "os.kill(os.getpid(), 9)"])
def test_worker_ends_with_its_parent_however_that_ends(ending):
    code = (
        "import os\nfrom steer.grading.formulas import worker\n"
        rf"worker.symbolic('\\sqrt{{8}}', '2\\sqrt{{2}}'); print(worker._WORKER.pid, flush=True); {ending}"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    parent = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert is_gone(int(parent.stdout))


def test_worker_does_not_depend_on_the_folder_the_parent_stands_in(worker, tmp_path, monkeypatch):
    (tmp_path / "numbers.py").write_text("raise RuntimeError('imported from the current folder')")
    (tmp_path / "steer").mkdir()
    monkeypatch.chdir(tmp_path)
    assert worker.ask(*EQUAL) == "same"


def test_interrupt_does_not_reach_the_worker(worker):
    worker.ask(*EQUAL)
    pid = worker.pid
    os.kill(pid, signal.SIGINT)
    assert worker.ask(r"\sqrt{12}", r"2\sqrt{3}") == "same"
    assert worker.pid == pid


def test_interrupt_between_question_and_reply_leaves_no_reply_behind(worker, monkeypatch):
    worker.ask(*EQUAL)

    def interrupted(replies, size, deadline):
        raise KeyboardInterrupt

    monkeypatch.setattr(worker_module, "_read", interrupted)
    with pytest.raises(KeyboardInterrupt):
        worker.ask(*EQUAL)
    monkeypatch.undo()
    assert worker.ask(r"\sqrt{8}", r"3\sqrt{2}") == "different"


def test_verdicts_do_not_depend_on_earlier_questions(worker):
    questions = [EQUAL, ("x+1", "1+x"), (r"\sqrt{8}", r"3\sqrt{2}"), (r"\lceil\frac{n}{2}\rceil", r"\frac{n}{2}")]
    first = [worker.ask(*question) for question in questions]
    assert [worker.ask(*question) for question in reversed(questions)] == first[::-1]
    assert first == ["same", "same", "different", "different"]
