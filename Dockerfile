# The worker's image; it serves `prefect server start` too.
#   docker build --build-arg TORCH_INDEX=https://pypi.org/simple .    # torch for CUDA, not the CPU
FROM python:3.11-slim

ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PREFECT_SERVER_ANALYTICS_ENABLED=false \
    DO_NOT_TRACK=1 \
    HF_HUB_DISABLE_TELEMETRY=1

WORKDIR /srv/enecg
COPY constraints.txt ./
# Torch first and by itself: it is the one package whose build depends on the machine.
RUN pip install --constraint constraints.txt --extra-index-url "$TORCH_INDEX" torch
COPY . .
# momentfm's own pins are years old, so it comes without its dependencies (see pyproject.toml).
RUN pip install --constraint constraints.txt --editable . \
    && pip install --constraint constraints.txt --no-deps momentfm

CMD ["prefect", "worker", "start", "--pool", "lab", "--type", "process"]
