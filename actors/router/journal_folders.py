"""Which router's journal a group's log lies in, and how logs move when the number of routers changes.

    RUN/journal/<cell>/...               of a run with one router
    RUN/journal/router-<n>/<cell>/...    of a run with several

Invariant: `move_logs` may be cut off at any moment. The next call finishes the move, also for another number of
routers.
"""

from collections.abc import Collection, Mapping

from pyarrow import fs

from actors.router.journal import BANK_FILE, folder_name
from steer.storage.filesystem import open_filesystem, writing, written_whole

_ROUTER = "router-"


def journal_folder(journal: str, router: int, routers: int) -> str:
    """Path or URL of the journal of one of the `routers`. `journal`: path or URL of `RUN/journal`."""
    place = _place(router, routers)
    return f"{journal}/{place}" if place else journal


def move_logs(journal: str, routers: int, router_of: Mapping[tuple[str, str], int]) -> None:
    """Move each group's log to the router that it is dealt to. Call this only while no router of the run is alive.

    `router_of`: by cell and group. A cell's score bank is copied along, from the first router that has one: where two
    routers become one, the later scores of the other's bank are forgotten. Raises OutputFailed.
    """
    files, root, url = open_filesystem(journal)
    with writing(url, url.rpartition("/")[0]):
        held = _held(files, root)
        places = {
            (folder_name(cell), folder_name(group)): _place(router, routers)
            for (cell, group), router in router_of.items()
        }
        banks: dict[str, str] = {}
        logs: dict[tuple[str, str], list[tuple[str, str]]] = {}
        for place, parts in held:
            match parts:
                case [cell, name] if name == BANK_FILE:
                    banks.setdefault(cell, place)
                case [cell, group, name] if places.get((cell, group), place) != place:
                    logs.setdefault((cell, group), []).append((place, name))
        for (cell, group), found in logs.items():
            there = places[cell, group]
            if cell in banks and (there, [cell, BANK_FILE]) not in held:
                target = _path(root, there, cell, BANK_FILE)
                with written_whole(files, target) as hidden:
                    files.copy_file(_path(root, banks[cell], cell, BANK_FILE), hidden)
                held.append((there, [cell, BANK_FILE]))
            files.create_dir(_path(root, there, cell, group), recursive=True)
            for place, name in found:
                files.move(_path(root, place, cell, group, name), _path(root, there, cell, group, name))
        _remove_others(files, root, routers)


def remove_logs(journal: str, groups: Collection[tuple[str, str]]) -> None:
    """Remove the logs of these (cell, group), of whatever router. Call this only while no router of the run is alive.
    Raises OutputFailed."""
    files, root, url = open_filesystem(journal)
    names = {(folder_name(cell), folder_name(group)) for cell, group in groups}
    with writing(url, url.rpartition("/")[0]):
        for folder in sorted(
            {_path(root, place, *parts[:2]) for place, parts in _held(files, root) if tuple(parts[:2]) in names}
        ):
            files.delete_dir(folder)


def _place(router: int, routers: int) -> str:
    """The folder of a router within the journal."""
    return "" if routers == 1 else f"{_ROUTER}{router}"


def _held(files: fs.FileSystem, root: str) -> list[tuple[str, list[str]]]:
    """(place, path within it) of every file of the journal, in order. Unfinished files are left out."""
    found = []
    for info in files.get_file_info(fs.FileSelector(root, recursive=True, allow_not_found=True)):
        if info.type == fs.FileType.File and not info.base_name.startswith("."):
            first, *rest = info.path.removeprefix(root).strip("/").split("/")
            found.append((first, rest) if first.startswith(_ROUTER) else ("", [first, *rest]))
    return sorted(found)


def _remove_others(files: fs.FileSystem, root: str, routers: int) -> None:
    """Delete the folders that a run with this number of routers does not use."""
    kept = {_place(router, routers) for router in range(routers)}
    for info in files.get_file_info(fs.FileSelector(root, allow_not_found=True)):
        place = info.base_name if info.base_name.startswith(_ROUTER) else ""
        if info.type == fs.FileType.Directory and place not in kept:
            files.delete_dir(info.path)


def _path(*parts: str) -> str:
    return "/".join(part for part in parts if part)
