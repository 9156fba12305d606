# Image of the worker and of the Prefect server.
#   docker build --build-arg TORCH_INDEX=https://pypi.org/simple .    # PyTorch for CUDA
FROM python:3.11.14-slim-bookworm

ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PREFECT_SERVER_ANALYTICS_ENABLED=false \
    DO_NOT_TRACK=1 \
    HF_HUB_DISABLE_TELEMETRY=1 \
    OMP_WAIT_POLICY=passive

WORKDIR /srv/enecg
COPY constraints.txt ./
# First and separately, because only PyTorch comes in builds for different hardware.
RUN pip install --constraint constraints.txt --extra-index-url "$TORCH_INDEX" torch
COPY . .
# Without dependencies, because momentfm pins outdated versions (see pyproject.toml).
RUN pip install --constraint constraints.txt --editable . \
    && pip install --constraint constraints.txt --no-deps momentfm \
    # Compose runs the image as a user of the host, who has no account in it.
    && mkdir --mode 1777 /srv/enecg/home
ENV HOME=/srv/enecg/home

CMD ["prefect", "worker", "start", "--pool", "lab", "--type", "process"]
