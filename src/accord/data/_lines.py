"""Annotation files of published data sets, line by line; every complaint names the file and the line."""

from typing import NamedTuple

from accord.data._names import printable
from accord.data._sources import Listing, Source
from accord.errors import DataError, ImageError


class Line(NamedTuple):
    """One line of a text file that is not blank."""

    file: str
    number: int
    text: str

    @property
    def where(self) -> str:
        """File and line for a message."""
        return f"{printable(self.file)}, line {self.number}"

    def wrong(self, why: str) -> DataError:
        """An error that names this line and shows it."""
        text = printable(self.text)
        return DataError(f"{self.where}: {why}.\n  came: {text if len(text) <= 200 else text[:200] + ' …'}")

    def fields(self, *names: str) -> list[str]:
        """The words of the line, as many as there are names; the last one may hold blanks."""
        words = self.text.split(None, len(names) - 1)
        if len(words) != len(names):
            raise self.wrong(f"{len(names)} fields are expected ({' '.join(names)}), not {len(words)}")
        return [word.strip() for word in words]

    def whole(self, word: str, name: str, *, least: int = 1) -> int:
        """A word as a whole number."""
        if not (word.isascii() and word.isdecimal()) or len(word) > 18 or int(word) < least:
            raise self.wrong(f"{name} must be a whole number of at least {least}, not '{printable(word)}'")
        return int(word)

    def number_of(self, word: str, name: str) -> float:
        """A word as a finite number."""
        try:
            value = float(word)
        except ValueError:
            value = float("nan")
        if not abs(value) < 1e9:
            raise self.wrong(f"{name} must be a number, not '{printable(word)}'")
        return value


class Annotations:
    """The files of a data set by the names its authors gave them, wherever below the root they lie."""

    def __init__(self, source: Source, listing: Listing, who: str) -> None:
        self.source, self.listing, self.who = source, listing, who

    def find(self, name: str) -> str | None:
        """The path of the file nearest to the root that is called `name` (`classes.txt`, `annotations/list.txt`)."""
        found = [path for path in self.listing.files if path == name or path.endswith(f"/{name}")]
        return min(found, key=lambda path: path.count("/"), default=None)

    def path(self, name: str, base: str = "") -> str:
        """The path of a file that must be there: at `base`, or anywhere if there is none."""
        at_base = f"{base}{name}"
        found = at_base if at_base in self.listing.files else self.find(name)
        if found is None:
            raise DataError(
                f"{self.who}: the file '{printable(name)}' is missing.\n"
                "  It came with the images; put it back beside them."
            )
        return found

    def read(self, path: str) -> bytes:
        """The bytes of one file."""
        try:
            return self.source.read(path)
        except ImageError as error:
            raise DataError(f"{self.who}: {error}") from None

    def lines(self, path: str) -> list[Line]:
        """The lines of a text file, blank ones left out; undecodable bytes are kept as lone surrogates."""
        return lines_of(self.read(path), path)


def lines_of(data: bytes, file: str) -> list[Line]:
    """The lines of a text that are not blank. A mark of UTF-8 at the start is dropped; NUL bytes are refused."""
    if b"\0" in data:
        raise DataError(f"{printable(file)}: this is no text: it holds NUL bytes. Fetch it anew, or save it as UTF-8.")
    text = data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
    numbered = enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), start=1)
    return [Line(file, number, line.strip()) for number, line in numbered if line.strip()]
