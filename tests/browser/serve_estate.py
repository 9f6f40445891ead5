"""Serves the shop estate on a free port, to look at the page.

`python -m tests.browser.serve_estate [empty]` prints the URL and the token.
"""

from __future__ import annotations

import sys
import time

from netwatch.api.app import create_app
from netwatch.api.server import Listener, listen_on, names_for
from tests.fakes import TOKEN, FakeController, shop


def main() -> None:
    """Until interrupted; `empty` serves a controller that has seen nothing."""
    controller = FakeController() if "empty" in sys.argv else shop()
    bound = listen_on("127.0.0.1:0")
    app = create_app(controller, clock=time.time_ns, names=names_for(bound))  # type: ignore[arg-type]
    listener = Listener(app, bound).start()
    print(listener.url, TOKEN, flush=True)
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        listener.stop()


if __name__ == "__main__":
    main()
