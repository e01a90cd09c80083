"""What the page needs from whoever can search: the one doorway between the web and the rest of accord."""

from typing import Protocol, runtime_checkable

from accord.types import Hit


@runtime_checkable
class SearchService(Protocol):
    """Answers what the page asks: neighbours of an image or of an item, and small JPEG pictures to show.

    Two threads call it at a time: one searches, one makes pictures. An id it does not know is a `LookupError`. Bytes
    that are no image of an allowed format, or one of more than 25 million pixels, are an `ImageError`, raised before
    decoding. `sample` and `label_of` are looked up, not computed: they are called from the event loop, so quickly.

    A service may also have two attributes. Scores below `threshold` are shown as unknown; `far` is the share of
    strangers that it lets pass, if somebody set it for one.
    """

    @property
    def title(self) -> str:
        """What the page is called: the run or its data set."""
        ...

    @property
    def size(self) -> int:
        """Items in the gallery."""
        ...

    @property
    def classes(self) -> int:
        """Classes in the gallery."""
        ...

    @property
    def dim(self) -> int:
        """Length of an embedding."""
        ...

    @property
    def model(self) -> str:
        """The model's name, for people."""
        ...

    def by_image(self, data: bytes, k: int) -> list[Hit]:
        """The k nearest items of an encoded image, best first."""
        ...

    def by_id(self, id: int, k: int) -> list[Hit]:
        """The k nearest items of an item, best first, the item itself left out."""
        ...

    def thumbnail(self, id: int, size: int) -> bytes:
        """A JPEG of an item, at most `size` pixels wide and high."""
        ...

    def preview(self, data: bytes, size: int) -> bytes:
        """A JPEG of an encoded image, at most `size` pixels wide and high."""
        ...

    def sample(self, n: int) -> list[int]:
        """Ids of at most n items to show at the start."""
        ...

    def label_of(self, id: int) -> str:
        """The label of an item."""
        ...
