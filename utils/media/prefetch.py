"""Work ahead in the background, as when a video is decoded while a GPU computes."""

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")


def prefetch(items: Iterator[Item], max_items: int) -> Generator[Item, None, None]:
    """Give the items, in order, up to `max_items` of which a thread computes ahead of their use.

    Close it (`with contextlib.closing(...)`) before what the items are read from: that ends the thread, and closes
    `items`, if it is a generator, in the thread. An error of `items` is raised at its place in the order. The thread
    has its own `torch.inference_mode`, `torch.cuda.device` and `torch.cuda.stream`: enter them inside `items`.
    """
    ahead: deque[Future[Item]] = deque()
    with ThreadPoolExecutor(1, "prefetch") as thread:
        try:
            while True:
                while len(ahead) < max_items:
                    ahead.append(thread.submit(next, items))
                try:
                    item = ahead.popleft().result()
                except StopIteration:
                    return
                yield item
        finally:
            for future in ahead:
                future.cancel()
            if isinstance(items, Generator):
                thread.submit(items.close).result()
