"""`ridefense serve` as a process on loopback: load, malformed requests, its end, its secret."""

import http.client
import json
import signal
import socket
import subprocess
import threading
from contextlib import closing, contextmanager
from io import BytesIO

import pytest
import torch
from PIL import Image
from torchvision.transforms.functional import to_pil_image

pytest.importorskip("fastapi")
pytest.importorskip("prometheus_client")
pytest.importorskip("uvicorn")

import commands
from processes import wait_until
from ridefense import RIDE, Median, classifiers

pytestmark = pytest.mark.slow

HOST = "127.0.0.1"


class Service:
    """A process that serves on a free port; `said` is what it has said."""

    def __init__(self, *words, **environment):
        self.process = subprocess.Popen(
            [*commands.COMMAND, "serve", "--port", "0", *map(str, words)],
            env=commands.environment(**environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.said = []
        for line in self.process.stderr:
            self.said.append(line)
            if line.startswith("ready at "):
                break
        else:
            raise AssertionError(self.said)
        self.port = int(line.rpartition(":")[2])

    def connection(self):
        return http.client.HTTPConnection(HOST, self.port, timeout=60)

    def ask(self, method="POST", path="/v1/classify", body=None, headers=(), connection=None):
        """Status, headers and body of one response."""
        own = connection or self.connection()
        own.request(method, path, body, dict(headers))
        response = own.getresponse()
        found = response.status, response.headers, response.read()
        if connection is None:
            own.close()
        return found

    def metric(self, line):
        _, _, told = self.ask("GET", "/metrics")
        values = [
            row.rpartition(" ")[2] for row in told.decode().splitlines() if row.startswith(line)
        ]
        return float(values[0]) if values else 0.0

    def end(self, number=signal.SIGTERM):
        """Exit code, and all that it has said."""
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, "".join(self.said) + err + out


@contextmanager
def serving(*words, **environment):
    service = Service(*words, **environment)
    try:
        yield service
    finally:
        service.process.kill()
        service.process.communicate()


def png(image):
    file = BytesIO()
    to_pil_image(image).save(file, format="PNG")
    return file.getvalue()


def digits(count):
    """Images [N, 1, 28, 28] of 8 bits a pixel, no two alike."""
    levels = torch.randint(0, 256, (count, 1, 7, 7), generator=torch.Generator().manual_seed(0))
    return levels.byte().repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)


def bomb():
    file = BytesIO()
    Image.new("1", (20_000, 20_000)).save(file, format="PNG")
    return file.getvalue()


def malformed():
    """What is sent, and the status of the answer."""
    whole = png(digits(1)[0])
    colour = BytesIO()
    Image.new("RGB", (28, 28), "red").save(colour, format="PNG")
    return [
        ({"body": b""}, 400),
        ({"body": b"no image at all"}, 415),
        ({"body": whole[: len(whole) // 2]}, 400),
        ({"body": colour.getvalue()}, 400),
        ({"body": bytes(200_000)}, 413),
        ({"body": bomb()}, 413),
        ({"body": whole, "headers": {"Content-Type": "multipart/form-data; boundary=x"}}, 415),
        ({"method": "GET"}, 405),
        ({"path": "/v1/../../etc/passwd", "body": whole}, 404),
    ]


def test_a_thousand_requests_are_answered_each_with_its_own_answer():
    count, clients = 1000, 16
    images = digits(50)
    files = [png(image) for image in images]
    pixels = images.float() / 255
    expected = Median(3).behind(classifiers.load("digits-cnn"))(pixels).softmax(dim=1).topk(5)
    wrong = malformed()

    def request(n):
        """What is sent as the n-th request, and the status of the answer."""
        if n % 5 == 0:
            return wrong[n // 5 % len(wrong)]
        return {"body": files[n % 50], "headers": {"X-Request-ID": f"request {n}"}}, 200

    with serving("--purifier", "median", "--upload", 100_000, "--batch", 8) as service:
        found = [None] * count

        def client(first):
            with closing(service.connection()) as connection:
                for n in range(first, count, clients):
                    asked, _ = request(n)
                    try:
                        found[n] = service.ask(**asked, connection=connection)
                    except (ConnectionError, http.client.HTTPException):
                        # A server may close the connection of a request that it has not read to
                        # its end, as of one that is too large.
                        connection.close()
                        found[n] = service.ask(**asked)

        threads = [threading.Thread(target=client, args=(first,)) for first in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for n, (status, headers, body) in enumerate(found):
            assert status == request(n)[1], (n, body)
            if status != 200:
                assert list(json.loads(body)) == ["error"]
                continue
            assert headers["X-Request-ID"] == f"request {n}"
            told = json.loads(body)["predictions"]
            assert [p["number"] for p in told] == expected.indices[n % 50].tolist()
            shown = torch.tensor([p["probability"] for p in told])
            torch.testing.assert_close(shown, expected.values[n % 50], atol=1e-5, rtol=1e-3)
        assert len({json.loads(body)["id"] for s, _, body in found if s == 200}) == 800
        assert service.metric('ridefense_requests_total{status="200"}') == 800
        assert service.metric("ridefense_request_seconds_count") == 800
        assert service.metric("ridefense_requests_in_progress") == 0
        batches = service.metric("ridefense_batch_images_count")
        assert service.metric("ridefense_batch_images_sum") == 800
        assert batches < 800  # some were computed together
        code, _ = service.end()
    assert code == 0


def test_what_was_accepted_is_answered_before_the_end(tmp_path):
    gate = tmp_path / "gate"
    words = ("--purifier", "waiting:Waiting", "--batch", 1)
    where = f"{commands.SOURCES}:{commands.TESTS}"
    with serving(*words, WAITS_FOR=str(gate), PYTHONPATH=where) as service:
        found = []
        file = png(digits(1)[0])
        clients = [
            threading.Thread(target=lambda: found.append(service.ask(body=file))) for _ in range(3)
        ]
        for client in clients:
            client.start()
        wait_until(lambda: service.metric("ridefense_requests_in_progress") == 3)
        service.process.send_signal(signal.SIGTERM)
        wait_until(lambda: not accepts(service.port))
        gate.touch()
        for client in clients:
            client.join()
        assert [status for status, _, _ in found] == [200] * 3
        code, said = service.end()
    assert code == 0
    assert "Traceback" not in said


def accepts(port):
    try:
        socket.create_connection((HOST, port), timeout=10).close()
    except ConnectionRefusedError:
        return False
    return True


def test_ride_is_served_with_the_secret_seed_which_is_never_told():
    seed = 2**100 + 12345
    with serving("--purifier", "ride", "--preset", "fast", RIDEFENSE_SEED=str(seed)) as service:
        (image,) = digits(1)
        _, _, body = service.ask(body=png(image))
        reply = json.loads(body)
        _, headers, refused = service.ask(body=b"nothing")
        code, said = service.end(signal.SIGINT)
    assert code == 0
    model = RIDE.preset("fast").behind(classifiers.load("digits-cnn"))
    direct = model(image[None] / 255, ids=[reply["id"]], seed=seed).softmax(dim=1)[0]
    for prediction in reply["predictions"]:
        assert prediction["probability"] == pytest.approx(
            float(direct[prediction["number"]]), abs=1e-4
        )
    for text in (said, str(reply), str(headers), refused.decode()):
        assert str(seed) not in text
        assert f"{seed:x}" not in text


@pytest.mark.parametrize(
    ("words", "environment", "named"),
    [
        (("--classifier", "nothing"), {}, "nothing"),
        (("--purifier", "waiting:nothing"), {}, "waiting"),
        (("--host", "256.1.1.1"), {}, "256.1.1.1"),
        ((), {"RIDEFENSE_SEED": "secret"}, "RIDEFENSE_SEED"),
        (("--classifier", "digits-cnn", "--size", 40), {}, "digits-cnn"),
    ],
)
def test_what_cannot_be_served_is_one_line(words, environment, named):
    done = commands.run("serve", "--port", 0, "--purifier", "median", *words, env=environment)
    assert done.returncode == 2
    last = done.stderr.decode().splitlines()[-1]
    assert last.startswith("error: ")
    assert named in last
    assert "secret" not in done.stderr.decode().replace("secret seed", "")


def test_a_port_in_use_is_one_line():
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        done = commands.run("serve", "--port", port, "--purifier", "median")
    assert done.returncode == 2
    assert str(port) in done.stderr.decode().splitlines()[-1]
