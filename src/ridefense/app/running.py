"""The page as a process: offline, on this machine, with a folder for uploads that goes with it."""

import os
import warnings
from collections.abc import Callable
from tempfile import TemporaryDirectory
from typing import Any

import torch

from ridefense.app.limits import Limits
from ridefense.errors import CollapseWarning
from ridefense.extras import package
from ridefense.web import address_of, listen, serve_until_stopped

_POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; font-src 'self' data:; "
    "style-src 'self' 'unsafe-inline'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "connect-src 'self'; worker-src 'self' blob:; frame-ancestors 'none'; form-action 'self'"
)
"""A browser fetches nothing from elsewhere, whatever Gradio's files name."""


def run(
    limits: Limits,
    *,
    host: str = "127.0.0.1",
    port: int = 7860,
    say: Callable[[str], None] = lambda text: None,
) -> None:
    """Show the page until SIGTERM or SIGINT.

    Args:
        limits: of memory and time.
        host: the address to listen on; others than this machine's own let others in.
        port: of that address; 0 takes a free one.
        say: is told the address once the page is ready.

    Raises:
        InputError: where it cannot listen there, and where Gradio is missing.
    """
    # Gradio reads these when it is imported and when a file is uploaded.
    os.environ.update(GRADIO_ANALYTICS_ENABLED="False", HF_HUB_DISABLE_TELEMETRY="1")
    package("gradio", "app")
    warnings.simplefilter("ignore", CollapseWarning)  # the page tells
    listening = listen(host, port)
    address = address_of(listening)
    with TemporaryDirectory(prefix="ridefense-app-") as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder
        made = application(limits)
        serve_until_stopped(
            lambda stopping: made,
            listening,
            patience=5,
            extra="app",
            ready=lambda: say(f"ready at {address}"),
        )


def application(limits: Limits) -> Any:
    """The ASGI application of the page."""
    gradio: Any = package("gradio", "app")
    fastapi: Any = package("fastapi", "app")
    from ridefense.app.page import page
    from ridefense.app.views import CSS

    app = fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @app.middleware("http")  # type: ignore[untyped-decorator]  # fastapi is loaded when it is used
    async def policy(request: Any, call_next: Any) -> Any:
        response = await call_next(request)
        response.headers["Content-Security-Policy"] = _POLICY
        response.headers["Referrer-Policy"] = "no-referrer"
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response

    fonts = ["system-ui", "sans-serif"]
    return gradio.mount_gradio_app(
        app,
        page(limits, torch.get_num_threads()),
        path="",
        footer_links=[],
        max_file_size=limits.upload,
        show_error=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        enable_monitoring=False,
        theme=gradio.themes.Default(font=fonts, font_mono=["ui-monospace", "monospace"]),
        css=CSS,
    )
