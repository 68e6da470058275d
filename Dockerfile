# One recipe for the installation: the Makefile's, so an image holds exactly the locked dependencies.
# Behind a mirror, or for the CPU build of torch, pass pip's own settings:
#   docker compose build --build-arg PIP_EXTRA_INDEX_URL=...   (docs/dependencies.md)
FROM python:3.11-bookworm AS build
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_FIND_LINKS
WORKDIR /app
COPY Makefile pyproject.toml README.md LICENSE ./
COPY requirements requirements
COPY saec saec
COPY flows flows
RUN make install

# The model server alone: what requirements/serving.txt holds, no torch, no Prefect, nothing to install with. Saec itself
# is run from its folder, so that no build tool without a hash is needed.
FROM python:3.11-slim-bookworm AS packages
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_FIND_LINKS
COPY requirements/serving.txt /
RUN python -m venv --without-pip /app/.venv \
    && python -m pip --python /app/.venv/bin/python install --no-cache-dir --require-hashes --no-deps \
        --requirement /serving.txt \
    && python -m pip --python /app/.venv/bin/python check

# The compiled scoring kernel; it runs on any processor, and on any system with a C library as new as this one's.
FROM python:3.11-bookworm AS kernel
WORKDIR /app
COPY saec saec
RUN python -m saec.build_kernel

FROM python:3.11-slim-bookworm AS serving
RUN useradd --uid 10001 --no-create-home --home-dir /tmp saec \
    && install --directory --owner saec /app /app/cache /app/scored
WORKDIR /app
COPY --from=packages /app/.venv .venv
COPY --from=kernel /app/saec saec
COPY with-secrets.sh /usr/local/bin/
ENV PATH=/app/.venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp
USER saec
ENTRYPOINT ["with-secrets.sh"]
CMD ["python", "-m", "saec.server", "--help"]

# The model store: SeaweedFS as it is published, but for a user and a folder of its own. Why this one, and what to check
# when its version is raised: docs/standard-installation.md.
FROM chrislusf/seaweedfs:4.48 AS store
USER root
RUN mkdir /models && chown 10001:10001 /models
COPY with-secrets.sh store-identities.sh /usr/local/bin/
USER 10001
WORKDIR /models
ENTRYPOINT ["with-secrets.sh", "store-identities.sh"]

FROM python:3.11-slim-bookworm AS saec
RUN useradd --uid 10001 --no-create-home --home-dir /tmp saec \
    && install --directory --owner saec /app /app/workspace /app/scored
WORKDIR /app
COPY --from=build /app /app
COPY configs configs
COPY with-secrets.sh /usr/local/bin/
ENV PATH=/app/.venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    MPLCONFIGDIR=/tmp/matplotlib \
    PREFECT_HOME=/tmp/prefect \
    PREFECT_SERVER_ANALYTICS_ENABLED=false \
    DO_NOT_TRACK=1
USER saec
ENTRYPOINT ["with-secrets.sh"]
CMD ["saec", "--help"]
