"""Writing: whole or not at all, by one process at a time, whatever the name."""

import os
import subprocess
import sys

import pytest

from disks import files_of_at_most
from ridefense import InputError, RideError
from ridefense.files import FolderLock, Journal, write_atomically


def test_a_file_is_written_in_a_new_folder_and_replaced(tmp_path):
    path = tmp_path / "new" / "folder" / "file"
    for content in (b"first", b"", b"\r\n\0second"):
        write_atomically(path, content)
        assert path.read_bytes() == content
    assert list(path.parent.iterdir()) == [path]


def test_a_full_disk_leaves_the_old_file_and_no_litter(tmp_path):
    path = tmp_path / "photo.png"
    write_atomically(path, b"original" * 100)
    with files_of_at_most(1000), pytest.raises(RideError, match=r"photo\.png"):
        write_atomically(path, bytes(5000))
    assert path.read_bytes() == b"original" * 100
    assert list(tmp_path.iterdir()) == [path]


def test_a_symbolic_link_is_followed(tmp_path):
    target, link = tmp_path / "a" / "target", tmp_path / "link"
    target.parent.mkdir()
    target.write_bytes(b"old")
    link.symlink_to(target)
    write_atomically(link, b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX permissions")
def test_a_private_file_stays_private(tmp_path):
    path = tmp_path / "photo.png"
    path.write_bytes(b"old")
    path.chmod(0o600)
    write_atomically(path, b"new")
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_is_no_regular_file_is_refused_and_left_alone(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (tmp_path, pipe):
        with pytest.raises(InputError, match="not a regular file"):
            write_atomically(path, b"content")
    assert pipe.is_fifo()


def test_a_folder_that_cannot_be_made_is_told_in_one_line(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    for use in (
        lambda folder: write_atomically(folder / "name", b""),
        lambda folder: FolderLock(folder, wait=False),
    ):
        with pytest.raises(RideError, match="file") as told:
            use(tmp_path / "file" / "folder")
        assert "\n" not in str(told.value)


def test_a_name_that_is_not_utf_8_is_refused_in_ascii_before_anything_is_made(tmp_path):
    folder = tmp_path / os.fsdecode(b"r\xe9sultats")
    for use in (
        lambda: write_atomically(folder, b""),
        lambda: FolderLock(folder, wait=False),
        lambda: Journal(folder, 0),
    ):
        with pytest.raises(InputError, match="UTF-8") as told:
            use()
        assert str(told.value).isascii()
    assert not list(tmp_path.iterdir())


def test_a_journal_keeps_what_is_sound_and_grows(tmp_path):
    path = tmp_path / "journal"
    path.write_bytes(b"one\ntwo\ntor")
    journal = Journal(path, 8)
    journal.append(b"three\n")
    journal.close()
    assert path.read_bytes() == b"one\ntwo\nthree\n"


def test_an_entry_that_does_not_fit_leaves_the_others(tmp_path):
    path = tmp_path / "journal"
    journal = Journal(path, 0)
    journal.append(b"one\n")
    with files_of_at_most(10), pytest.raises(RideError):
        journal.append(b"two, far too long\n")
    assert path.read_bytes() == b"one\n"
    journal.append(b"three\n")
    journal.close()
    assert path.read_bytes() == b"one\nthree\n"


def test_a_lock_is_held_by_one_at_a_time_until_it_is_released(tmp_path):
    with (
        FolderLock(tmp_path, wait=False),
        pytest.raises(InputError, match="another process"),
    ):
        FolderLock(tmp_path, wait=False)
    FolderLock(tmp_path, wait=False).release()


def test_a_lock_ends_with_its_process(tmp_path):
    """One process takes the lock and is killed; then the lock is free."""
    code = (
        "import os, sys\nfrom ridefense.files import FolderLock\n"
        "lock = FolderLock(sys.argv[1], wait=False)\nprint('held', flush=True)\nsys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(InputError):
            FolderLock(tmp_path, wait=False)
        process.kill()
        process.wait()
        with FolderLock(tmp_path, wait=True):
            pass
