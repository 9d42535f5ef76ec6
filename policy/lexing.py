"""From bytes to text as the server reads them, and what can be said of text that the grammar rejects."""

from __future__ import annotations

import re
from typing import Final

#: PostgreSQL's encodings by their Python codec (multibyte.html#MULTIBYTE-CHARSET-SUPPORTED). In SJIS, BIG5, GBK, GB18030, UHC and
#: JOHAB a second byte may be 0x5C or 0x27-like ASCII: only strict decoding shows where characters end.
CODECS: Final = {
    "UTF8": "utf-8",
    "SQL_ASCII": "utf-8",
    "LATIN1": "iso8859-1",
    "LATIN2": "iso8859-2",
    "LATIN3": "iso8859-3",
    "LATIN4": "iso8859-4",
    "LATIN5": "iso8859-9",
    "LATIN6": "iso8859-10",
    "LATIN7": "iso8859-13",
    "LATIN8": "iso8859-14",
    "LATIN9": "iso8859-15",
    "LATIN10": "iso8859-16",
    "ISO_8859_5": "iso8859-5",
    "ISO_8859_6": "iso8859-6",
    "ISO_8859_7": "iso8859-7",
    "ISO_8859_8": "iso8859-8",
    "KOI8R": "koi8-r",
    "KOI8U": "koi8-u",
    "WIN866": "cp866",
    "WIN874": "cp874",
    "WIN1250": "cp1250",
    "WIN1251": "cp1251",
    "WIN1252": "cp1252",
    "WIN1253": "cp1253",
    "WIN1254": "cp1254",
    "WIN1255": "cp1255",
    "WIN1256": "cp1256",
    "WIN1257": "cp1257",
    "WIN1258": "cp1258",
    "EUC_JP": "euc_jp",
    "EUC_KR": "euc_kr",
    "EUC_CN": "gb2312",
    "EUC_JIS_2004": "euc_jis_2004",
    "SJIS": "cp932",
    "SHIFT_JIS_2004": "shift_jis_2004",
    "BIG5": "cp950",
    "GBK": "gbk",
    "GB18030": "gb18030",
    "UHC": "cp949",
    "JOHAB": "johab",
}

#: Whose multibyte characters may hold ASCII bytes.
ASCII_UNSAFE: Final = frozenset({"SJIS", "SHIFT_JIS_2004", "BIG5", "GBK", "GB18030", "UHC", "JOHAB"})

_WORD: Final = re.compile(r"[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_$\x80-\U0010ffff]*")

#: Words that can begin a statement (or a part of one) that changes anything. Text without any of them, in any role, only reads.
_CHANGING: Final = frozenset(
    [
        "abort",
        "alter",
        "analyze",
        "attach",
        "begin",
        "call",
        "checkpoint",
        "close",
        "cluster",
        "comment",
        "commit",
        "copy",
        "create",
        "deallocate",
        "declare",
        "delete",
        "detach",
        "discard",
        "do",
        "drop",
        "end",
        "execute",
        "explain",
        "fetch",
        "for",
        "grant",
        "import",
        "insert",
        "into",
        "listen",
        "load",
        "lock",
        "merge",
        "move",
        "notify",
        "prepare",
        "reassign",
        "refresh",
        "reindex",
        "release",
        "replace",
        "reset",
        "revoke",
        "rollback",
        "savepoint",
        "security",
        "set",
        "share",
        "start",
        "truncate",
        "unlisten",
        "update",
        "vacuum",
        "using",
        "perform",
        "call",
        "repack",
        "checkpoint",
    ]
)


class UndecodableError(Exception):
    """The bytes are not text in the session's client_encoding, or the encoding is unknown."""


def decode(script: bytes, client_encoding: str) -> str:
    """The script as the server reads it. Raises UndecodableError."""
    if script.isascii() and client_encoding not in ASCII_UNSAFE:
        return script.decode("ascii")
    codec = CODECS.get(client_encoding.upper().replace("-", "").replace("UNICODE", "UTF8"), "")
    try:
        if not codec:
            raise UndecodableError(f"client_encoding {client_encoding} is not known")
        return script.decode(codec)
    except UnicodeDecodeError:
        raise UndecodableError(f"the text is not valid in client_encoding {client_encoding}") from None


def can_only_read(text: str) -> bool:
    """Whether text that the grammar rejects could change nothing even under a newer grammar."""
    if "\\" in text or "$$" in text:
        return False
    return not any(word.lower() in _CHANGING for word in _WORD.findall(text))


_PASSWORD: Final = re.compile(
    r"(\bpassword\s+|\bidentified\s+by\s+)((?:e|u&|n)?'(?:[^'\\]|''|\\.)*'?|\$(\w*)\$.*?(?:\$\3\$|$))", re.I | re.DOTALL
)
_URL_PASSWORD: Final = re.compile(r"(\bpassword\s*=\s*)(\\'[^']*\\'|''[^']*''|[^\s']+)", re.I)


def mask_passwords(text: str) -> str:
    """Blank what follows PASSWORD, and password= inside connection strings; also in text that does not parse."""
    if "assword" not in text.lower() and "identified" not in text.lower():
        return text
    return _URL_PASSWORD.sub(r"\1***", _PASSWORD.sub(r"\1'***'", text))
