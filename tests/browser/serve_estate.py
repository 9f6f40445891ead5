"""Serves the shop estate on a free port, to look at the page.

`python -m tests.browser.serve_estate [empty]` prints the URL and the token.
"""

from __future__ import annotations

import sys
import time

from tests.fakes import TOKEN, FakeController, serve, shop


def main() -> None:
    """Until interrupted; `empty` serves a controller that has seen nothing."""
    controller = FakeController() if "empty" in sys.argv else shop()
    listener = serve(controller, clock=time.time_ns)
    print(listener.url, TOKEN, flush=True)
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        listener.stop()


if __name__ == "__main__":
    main()
