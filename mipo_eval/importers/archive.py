"""Zip archives, whose members may be packed with Zstandard, as Inspect's logs are today.

Python's own `zipfile` reads such members from version 3.14 on; here pyarrow unpacks them.
"""

import struct
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

from mipo_eval.errors import DataError

_ZSTANDARD = 93
_MAX_BYTES = 2**31
_HEAD = struct.Struct("<26xHH")
"""Of a member's own head: the lengths of its name and of what follows that, before its content."""


def read_members(path: Path, wanted: Sequence[str], folder: str) -> dict[str, bytes]:
    """Return the first of the wanted members that is there, then the JSON files of a folder.

    Raises:
        DataError: the file is no archive, is damaged, or unpacks to more than 2 GiB.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename: info for info in archive.infolist()}
            if sum(info.file_size for info in members.values()) > _MAX_BYTES:
                raise DataError(f"{path} is larger than 2 GiB when it is unpacked")
            names = [name for name in wanted if name in members][:1]
            names += sorted(n for n in members if n.startswith(folder) and n.endswith(".json"))
            return {name: _content(path, archive, members[name]) for name in names}
    except (
        zipfile.BadZipFile,
        NotImplementedError,
        RuntimeError,
        OSError,
        struct.error,
        zlib.error,
    ) as error:
        raise DataError(f"{path} is not an archive that can be read ({error})") from None


def _content(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    if info.compress_type != _ZSTANDARD:
        return archive.read(info)
    import pyarrow as pa

    with path.open("rb") as raw:
        raw.seek(info.header_offset)
        raw.seek(sum(_HEAD.unpack(raw.read(_HEAD.size))), 1)
        packed = pa.BufferReader(raw.read(info.compress_size))
    # One byte more than there is to be: what is longer does not fill the memory first.
    content = bytes(pa.CompressedInputStream(packed, "zstd").read(info.file_size + 1))
    if len(content) != info.file_size or zlib.crc32(content) != info.CRC:
        raise zipfile.BadZipFile(f"{info.filename} is damaged")
    return content
