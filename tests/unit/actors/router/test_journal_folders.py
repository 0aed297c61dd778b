"""Logs that move because a run goes on with another number of routers."""

import pytest
from fsspec.implementations.local import LocalFileSystem
from pyarrow import fs

from actors.router import journal_folders
from actors.router.journal import BANK_FILE, folder_name
from actors.router.journal_folders import journal_folder, move_logs

GROUPS = [("a", f"a/{number}") for number in range(5)] + [("b", "b/0")]
STORES = {"local": fs.LocalFileSystem, "fsspec": lambda: fs.PyFileSystem(fs.FSSpecHandler(LocalFileSystem()))}


def dealt(routers):
    return {key: number % routers for number, key in enumerate(GROUPS)}


def write(journal, routers, files=3):
    """A journal as `routers` routers leave it: of each group several files, of each cell a bank a router."""
    for (cell, group), router in dealt(routers).items():
        home = journal.parent / journal_folder("journal", router, routers) / folder_name(cell)
        (home / folder_name(group)).mkdir(parents=True)
        (home / BANK_FILE).write_text(f"bank of {cell}")
        for number in range(1, files + 1):
            (home / folder_name(group) / f"{number:09d}").write_text(f"{group} {number}")
        (home / folder_name(group) / ".000000009").write_text("half-written")


def check(journal, routers, files=3):
    """That the logs lie where this number of routers looks for them, and nowhere else. (A router may keep the bank of a
    cell whose groups it has no more.)"""
    found = {path for path in journal.rglob("*") if path.is_file() and not path.name.startswith(".")}
    wanted = {}
    for (cell, group), router in dealt(routers).items():
        home = journal.parent / journal_folder("journal", router, routers) / folder_name(cell)
        wanted[home / BANK_FILE] = f"bank of {cell}"
        for number in range(1, files + 1):
            wanted[home / folder_name(group) / f"{number:09d}"] = f"{group} {number}"
    assert found >= wanted.keys() and {path.name for path in found - wanted.keys()} <= {BANK_FILE}
    assert all(path.read_text() == text for path, text in wanted.items())


@pytest.fixture(params=STORES)
def journal(request, tmp_path, monkeypatch):
    opened = STORES[request.param]()
    monkeypatch.setattr(journal_folders, "open_filesystem", lambda root: (opened, root, root))
    return tmp_path / "journal"


@pytest.mark.parametrize(("was", "now"), [(1, 2), (2, 1), (2, 3), (3, 2), (2, 2), (1, 1)])
def test_every_log_lies_with_its_router(journal, was, now):
    write(journal, was)
    move_logs(str(journal), now, dealt(now))
    check(journal, now)


def test_a_run_without_a_journal_has_nothing_to_move(journal):
    move_logs(str(journal), 2, dealt(2))
    assert not journal.exists()


@pytest.mark.parametrize("now", [1, 2, 3])
def test_a_move_that_was_cut_off_anywhere_is_finished_by_the_next(tmp_path, monkeypatch, now):
    class Killed(Exception):
        pass

    def killed_after(calls):
        """A file system that dies at its n-th change."""
        left = iter(range(calls))

        class Dying(LocalFileSystem):
            def mv(self, *args, **kwargs):
                if next(left, None) is None:
                    raise Killed
                super().mv(*args, **kwargs)

            rename = mv_file = mv

            def rm(self, *args, **kwargs):
                if next(left, None) is None:
                    raise Killed
                super().rm(*args, **kwargs)

        files = fs.PyFileSystem(fs.FSSpecHandler(Dying(use_listings_cache=False)))
        monkeypatch.setattr(journal_folders, "open_filesystem", lambda root: (files, root, root))

    died = 0
    for calls in range(40):
        journal = tmp_path / str(calls) / "journal"
        write(journal, 2)
        killed_after(calls)
        try:
            move_logs(str(journal), 3, dealt(3))
        except Killed:
            died += 1
        killed_after(10**6)
        move_logs(str(journal), now, dealt(now))
        check(journal, now)
    assert died > 10
