"""Latency and throughput of `ridefense serve`, per image size and preset, on loopback.

For each case a service is started as a process of its own. Clients send images one after another,
each as soon as its last answer is there (a closed loop), so that with c clients at most c requests
are in progress. The first requests warm the service up and are not counted.

    python benchmarks/serve.py --out runs/serve.json
"""

import argparse
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from statistics import median, quantiles

import torch
from torchvision.transforms.functional import to_pil_image


@dataclass(frozen=True)
class Case:
    """A service, and how many requests it is sent.

    Attributes:
        classifier, purifier: as `ridefense serve` takes them.
        preset: of an estimator, or None.
        side: of the images that are sent, in pixels.
        channels: of the images.
        requests: that are counted.
    """

    classifier: str
    purifier: str
    preset: str | None
    side: int
    channels: int
    requests: int


CASES = (
    Case("digits-cnn", "none", None, 28, 1, 400),
    Case("digits-cnn", "median", None, 28, 1, 400),
    Case("digits-cnn", "ride", "fast", 28, 1, 200),
    Case("digits-cnn", "ride", "paper", 28, 1, 8),
    Case("efficientnet-lite0", "none", None, 224, 3, 60),
    Case("efficientnet-lite0", "jpeg:20", None, 224, 3, 60),
    Case("efficientnet-lite0", "median:5", None, 224, 3, 60),
    Case("efficientnet-lite0", "ride", "fast", 224, 3, 6),
)


def measured(case: Case, clients: int, threads: int) -> dict[str, object]:
    """Percentiles of the latency in seconds, answers a second, and the memory at the end."""
    words = ["--classifier", case.classifier, "--purifier", case.purifier, "--port", "0"]
    words += ["--preset", case.preset] if case.preset else []
    words += ["--threads", str(threads), "--timeout", "600"]
    service = subprocess.Popen(
        [sys.executable, "-m", "ridefense", "serve", *words],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": str(threads)},
    )
    try:
        assert service.stderr is not None
        ready = next(line for line in service.stderr if line.startswith("ready at"))
        port = int(ready.rpartition(":")[2])
        ask(port, files(case, 1), 1)
        began = time.perf_counter()
        seconds = ask(port, files(case, case.requests), clients)
        whole = time.perf_counter() - began
        status = Path(f"/proc/{service.pid}/status").read_text()
    finally:
        service.send_signal(signal.SIGTERM)
        service.wait(60)
    cuts = quantiles(seconds, n=100, method="inclusive")
    memory = re.search(r"VmHWM:\s*(\d+)", status)
    return {
        **asdict(case),
        "clients": clients,
        "threads": threads,
        "p50": median(seconds),
        "p95": cuts[94],
        "p99": cuts[98],
        "images_a_second": len(seconds) / whole,
        "peak_megabytes": int(memory[1]) / 1024 if memory else None,
    }


def files(case: Case, count: int) -> list[bytes]:
    """PNG files with some structure: blocks of random levels."""
    found = []
    generator = torch.Generator().manual_seed(0)
    for _ in range(count):
        levels = torch.rand(1, case.channels, 7, 7, generator=generator)
        pixels = torch.nn.functional.interpolate(
            levels, size=(case.side, case.side), mode="bicubic"
        )
        file = BytesIO()
        to_pil_image((pixels[0].clamp(0, 1) * 255).byte()).save(file, format="PNG")
        found.append(file.getvalue())
    return found


def ask(port: int, images: list[bytes], clients: int) -> list[float]:
    """Seconds of every request."""
    seconds: list[float] = []

    def client(first: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
        for image in images[first::clients]:
            began = time.perf_counter()
            connection.request("POST", "/v1/classify", image)
            response = connection.getresponse()
            response.read()
            assert response.status == 200, response.status
            seconds.append(time.perf_counter() - began)
        connection.close()

    started = [threading.Thread(target=client, args=(n,)) for n in range(clients)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
    assert len(seconds) == len(images)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--only", default="", help="cases whose classifier or purifier is this")
    arguments = parser.parse_args()
    found = []
    for case in CASES:
        if arguments.only and arguments.only not in (case.classifier, case.purifier):
            continue
        for clients in arguments.clients:
            found.append(measured(case, clients, arguments.threads))
            print(json.dumps(found[-1]))
            arguments.out.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
