"""A folder of this machine as a file system that calls a test before each change or opening. A test can kill there."""

from fsspec.implementations.local import LocalFileSystem
from pyarrow import fs

CHANGES = ("write", "move", "delete")


class Killed(BaseException):
    """The process is gone: nothing that it would do afterwards happens."""


class HookedFileSystem(fs.FSSpecHandler):
    """`before`: called with what is about to happen (`write`, `move`, `delete`, `read`) and the path."""

    def __init__(self, before):
        super().__init__(LocalFileSystem())
        self._before = before

    def open_output_stream(self, path, metadata):
        self._before("write", path)
        return super().open_output_stream(path, metadata)

    def open_input_file(self, path):
        self._before("read", path)
        return super().open_input_file(path)

    def open_input_stream(self, path):
        self._before("read", path)
        return super().open_input_stream(path)

    def move(self, src, dest):
        self._before("move", dest)
        super().move(src, dest)

    def delete_file(self, path):
        self._before("delete", path)
        super().delete_file(path)


def killed_at(number):
    """(a hook that kills at the change of this number, counted from 0, and at every later one, because nothing happens
    after a kill; the changes so far)."""
    counted = []

    def before(what, path):
        if what in CHANGES:
            counted.append(what)
            if len(counted) > number:
                raise Killed

    return before, counted
