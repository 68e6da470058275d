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

# The model store: SeaweedFS as it is published, but for a user and a folder of its own. Why this one, and what to check
# when its version is raised: docs/standard-installation.md.
FROM chrislusf/seaweedfs:4.48 AS store
USER root
RUN mkdir /models && chown 10001:10001 /models
COPY with-secrets.sh /usr/local/bin/
USER 10001
WORKDIR /models
ENTRYPOINT ["with-secrets.sh"]

FROM python:3.11-slim-bookworm AS saec
RUN useradd --uid 10001 --no-create-home --home-dir /tmp saec \
    && install --directory --owner saec /app /app/workspace
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
