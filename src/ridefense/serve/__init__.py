"""A service over HTTP that classifies images behind a purifier; needs the extra `serve`."""

import lazy_loader

from ridefense.extras import package

for _module in ("fastapi", "uvicorn", "prometheus_client"):
    package(_module, "serve")

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
