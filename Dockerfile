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

FROM python:3.11-slim-bookworm
RUN useradd --uid 10001 --no-create-home --home-dir /tmp saec \
    && install --directory --owner saec /app /app/workspace
WORKDIR /app
COPY --from=build /app /app
COPY configs configs
ENV PATH=/app/.venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    MPLCONFIGDIR=/tmp/matplotlib \
    PREFECT_HOME=/tmp/prefect \
    PREFECT_SERVER_ANALYTICS_ENABLED=false \
    DO_NOT_TRACK=1
USER saec
ENTRYPOINT ["saec"]
CMD ["--help"]
