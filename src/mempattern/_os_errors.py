"""What the system refused, in words with a remedy."""

from __future__ import annotations

import errno
import os

_REMEDIES = {
    errno.ENOENT: "there is no such file; look for it with ls",
    errno.ENOTDIR: "a part of that path is a file; look for it with ls",
    errno.EISDIR: "that is a directory; name a file in it",
    errno.EACCES: "you have no right to it; ls -l says who has",
    errno.EPERM: "you have no right to it; ls -l says who has",
    errno.ELOOP: "its symbolic links go round in a circle; name the file itself",
    errno.ENAMETOOLONG: "no file has so long a name; give a shorter one",
    errno.EMFILE: "too many files are open; raise the limit with ulimit -n",
    errno.ENOSPC: "no space left: the disk is full; free some of it, or write elsewhere",
    errno.EDQUOT: "your quota of the disk is used up; free some of it, or write elsewhere",
    errno.EROFS: "the file system is read-only; write elsewhere",
}


def explained(error: OSError) -> str:
    """Which file, what is wrong with it, and what would help; for people."""
    text = str(error.strerror)
    if error.errno is not None:
        text = _REMEDIES.get(error.errno, os.strerror(error.errno))
    return text if error.filename is None else f"{os.fsdecode(error.filename)}: {text}"
